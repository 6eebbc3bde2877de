"""From two hospitals' raw files to batches of their pool, against slow and obvious readings of each."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings

from physionet_reference import PhysioNetReference, RawSet, raw_sets, write_sets
from reference import Reference, assert_cut, assert_stored
from ricu_reference import RawRicu, RicuReference, raw_ricu, write_ricu
from slices.training.data import build_source, prepare_dataset, vocabulary
from slices.training.data.sources.pool import IDS
from slices.training.data.vocabulary import read_vocabulary

VOCABULARY = read_vocabulary("icu")
BY_NAME = {name: (name, 1.0) for name in VOCABULARY}


def renaming() -> dict[str, tuple[str, float]]:
    """For each variable of PhysioNet 2012 that of the vocabulary, and the factor to its unit."""
    found = {}
    for key, given_names in vocabulary.read_yaml("renaming", "physionet2012").items():
        for one in given_names if isinstance(given_names, list) else [given_names]:
            name, factor = (one["name"], one["factor"]) if isinstance(one, dict) else (one, 1.0)
            found[name] = (key, factor)
    return found


class PoolReference(Reference):
    """The members' stays and events, numbered apart, in the vocabulary's units and ranges."""

    def __init__(self, **members: tuple[Reference, dict[str, tuple[str, float]]]) -> None:
        super().__init__()
        for k, (member, (reference, names)) in enumerate(members.items()):
            self.counts.update(reference.counts)
            for stay, (patient, group, length) in reference.stays.items():
                self.stays[stay + k * IDS] = (patient + k * IDS, f"{member}/{group}", length)
            for stay, time, name, value in reference.events:
                assert stay is not None and value is not None
                if name not in names:
                    self.counts["not_in_vocabulary"] += 1
                else:
                    key, factor = names[name]
                    self.events.append((stay + k * IDS, time, key, value * factor))
        self.clean(VOCABULARY)


@pytest.mark.slow
@mock.patch.object(vocabulary, "read_yaml", functools.cache(vocabulary.read_yaml))
@settings(max_examples=20, deadline=None)
@given(
    raw_sets,
    raw_ricu(),
)
def test_what_is_stored_and_cut_is_what_the_references_keep(raw: list[RawSet], hourly: RawRicu) -> None:
    hourly = hourly._replace(sta=[row for row in hourly.sta if row[0] is None or row[0] >= 0])
    with tempfile.TemporaryDirectory() as folder:
        physionet = write_sets(raw, Path(folder) / "physionet")
        ricu = write_ricu(hourly, Path(folder) / "ricu")
        members = {
            "one": {"source": physionet, "renaming": "physionet2012"},
            "two": {"source": ricu},
        }
        known = {variable.name: variable for variable in build_source(ricu).variables}
        two = RicuReference(hourly, known)
        wanted = PoolReference(one=(PhysioNetReference(raw), renaming()), two=(two, BY_NAME))
        store = prepare_dataset(build_source({"name": "pool", "members": members}), Path(folder) / "dataset")
        assert_stored(store, wanted)
        assert_cut(store, wanted.events, last=False)
        labels = store.labels("label").select("stay_id", "prediction_time", "value")
        assert {(i - IDS, time): value for i, time, value in labels.iter_rows()} == two.labels
