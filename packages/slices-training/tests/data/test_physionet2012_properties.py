"""From the challenge's files to batches, against a slow and obvious reading of the same files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings

from physionet_reference import PhysioNetReference, RawSet, raw_sets, write_sets
from reference import assert_cut, assert_stored
from slices.training.data import build_source, prepare_dataset


@settings(max_examples=12, deadline=None)
@given(
    raw_sets,
)
def test_what_is_stored_and_cut_is_what_the_reference_keeps(raw: list[RawSet]) -> None:
    wanted = PhysioNetReference(raw)
    with tempfile.TemporaryDirectory() as folder:
        store = prepare_dataset(build_source(write_sets(raw, Path(folder) / "raw")), Path(folder) / "dataset")
        assert_stored(store, wanted)
        assert_cut(store, wanted.events)
