"""From hourly tables to batches, against a slow and obvious reading of the same tables."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings

from reference import assert_cut, assert_stored
from ricu_reference import RawRicu, RicuReference, raw_ricu, write_ricu
from slices.training.data import build_source, prepare_dataset, vocabulary
from slices.training.data.sources.ricu import tables


@mock.patch.object(vocabulary, "read_yaml", functools.cache(vocabulary.read_yaml))
@settings(max_examples=8, deadline=None)
@given(raw_ricu())
def test_what_is_stored_and_cut_is_what_the_reference_keeps(raw: RawRicu) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(tables, "ROWS", raw.rows_a_part):
        source = build_source(write_ricu(raw, Path(folder) / "raw"))
        wanted = RicuReference(raw, {variable.name: variable for variable in source.variables})
        if not wanted.stays:
            with pytest.raises(ValueError, match="holds no stay"):
                prepare_dataset(source, Path(folder) / "dataset")
            return
        store = prepare_dataset(source, Path(folder) / "dataset")
        assert_stored(store, wanted)
        assert_cut(store, wanted.events)
        labels = store.labels("label").select("stay_id", "prediction_time", "value")
        assert {(stay, time): value for stay, time, value in labels.iter_rows()} == wanted.labels
