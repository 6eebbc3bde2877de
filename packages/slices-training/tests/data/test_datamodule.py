from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slices.encoders import Normalizer
from slices.training.data import DataConfig, SplitConfig, StayDataModule, dataset_info, prepare_dataset
from slices.training.data.samples import WindowConfig

SHAPES = {
    "in_hospital_mortality": ((32,), torch.int64),
    "length_of_stay": ((32,), torch.float32),
    "length_of_stay_class": ((32,), torch.int64),
    "organ_failure": ((32, 5), torch.float32),
    "deterioration": ((32, 48), torch.int64),
}


def ready(config: DataConfig, **options: Any) -> StayDataModule:
    data = StayDataModule(config, **options)
    data.prepare_data()
    data.setup()
    return data


def first(data: StayDataModule) -> dict[str, torch.Tensor]:
    return next(iter(data.train_dataloader()))


@pytest.mark.parametrize("task", [None, *SHAPES])
def test_a_batch_is_as_the_contract_has_it(synthetic_config: Any, task: str | None) -> None:
    data = ready(synthetic_config(), task=task)
    batch = first(data)
    grid = (32, 48, len(data.variables))
    expected = {
        "timeseries": (grid, torch.float32),
        "mask": (grid, torch.bool),
        "counts": (grid, torch.float32),
        "times": (grid[:2], torch.float32),
        "padding_mask": (grid[:2], torch.bool),
        "stay_id": ((32,), torch.int64),
        "patient_id": ((32,), torch.int64),
    }
    if task is not None:
        expected |= {"label": SHAPES[task], "label_mask": (SHAPES[task][0], torch.bool)}
        if task != "deterioration":
            expected["prediction_time"] = ((32,), torch.float32)
    assert {key: (tuple(t.shape), t.dtype) for key, t in batch.items()} == expected
    assert torch.isfinite(batch["timeseries"]).all()
    assert not batch["timeseries"][~batch["mask"]].any() and not batch["counts"][~batch["mask"]].any()
    assert (batch["counts"][batch["mask"]] >= 1).all()


def test_statics_are_observed_at_the_first_real_step_only(synthetic_config: Any) -> None:
    for resolution in (1.0, "timestamps"):
        data = ready(synthetic_config(resolution=resolution))
        statics = first(data)["mask"][:, :, list(data.static_columns)]
        assert statics[:, 0].all() and not statics[:, 1:].any()
    assert [data.variables[i] for i in data.static_columns][:2] == ["age", "sex"]


def test_prediction_time_ends_the_input(synthetic_config: Any) -> None:
    batch = first(ready(synthetic_config(), task="organ_failure"))
    assert batch["padding_mask"].sum(dim=1).tolist() == [24] * 32
    assert not batch["mask"][:, 24:].any() and not batch["counts"][:, 24:].any()


def test_training_shuffles_and_evaluation_does_not(synthetic_config: Any) -> None:
    data = ready(synthetic_config())
    train = torch.cat([batch["stay_id"] for batch in data.train_dataloader()])
    assert sorted(train.tolist()) == sorted(data.split_ids("train")) and train.tolist() != sorted(
        train.tolist()
    )
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        assert torch.cat([batch["stay_id"] for batch in loader]).tolist() == data.split_ids(split).tolist()
    assert data.sizes == {name: len(data.split_ids(name)) for name in ("train", "val", "test")}


def test_values_are_normalised_after_aggregating_raw(synthetic_config: Any) -> None:
    data = ready(synthetic_config())
    raw, batch = data.cut(np.arange(20), normalize=False), data.cut(np.arange(20))
    torch.testing.assert_close(batch["timeseries"], data.normalizer(raw["timeseries"], raw["mask"]))
    assert raw["timeseries"][..., data.variables.index("sbp")].max() > 100


def test_all_stays_can_be_had_at_once_and_the_prepared_data_is_found_again(synthetic_config: Any) -> None:
    data = ready(synthetic_config())
    everything = data.cut(np.arange(300))
    assert everything["stay_id"].tolist() == data.store.stay_id.tolist()


def test_label_fraction_cuts_training_and_validation_labels_only(synthetic_config: Any) -> None:
    whole = ready(synthetic_config(), task="in_hospital_mortality")
    tenth = ready(synthetic_config(label_fraction=0.1), task="in_hospital_mortality")
    other = ready(synthetic_config(label_fraction=0.1, label_seed=1), task="in_hospital_mortality")
    for split in ("train", "val"):
        assert set(tenth.split_ids(split)) < set(whole.split_ids(split))
        assert set(other.split_ids(split)) != set(tenth.split_ids(split))
        assert tenth.sizes[split] == pytest.approx(0.1 * whole.sizes[split], abs=1)
    assert tenth.split_labels("train")[0].sum() >= 1
    assert tenth.split_ids("test").tolist() == whole.split_ids("test").tolist()
    torch.testing.assert_close(tenth.normalizer.location, whole.normalizer.location)
    with pytest.raises(ValueError, match=r"label_fraction=0.1 needs a task"):
        StayDataModule(synthetic_config(label_fraction=0.1))


@pytest.mark.parametrize("task", SHAPES)
def test_label_fractions_are_nested_and_keep_every_class_in_training_and_validation(
    synthetic_config: Any, task: str
) -> None:
    splits = SplitConfig(val_fraction=0.4)
    of = {
        f: ready(synthetic_config(label_fraction=f, splits=splits), task=task) for f in (0.01, 0.3, 0.6, 1.0)
    }
    for split in ("train", "val"):
        smallest, *rest = (set(data.split_ids(split)) for data in of.values())
        for larger in rest:
            assert smallest < larger
            smallest = larger
        if task != "length_of_stay":
            assert_classes_stay(of[0.01], of[1.0], split)
        if task == "in_hospital_mortality":
            shares = [float(data.split_labels(split)[0].mean()) for data in (of[0.3], of[1.0])]
            assert shares[0] == pytest.approx(shares[1], abs=1 / of[0.3].sizes[split])


def assert_classes_stay(small: StayDataModule, whole: StayDataModule, split: str) -> None:
    """Every class, or every label with a positive, of the whole split is in the small one."""

    def there(data: StayDataModule) -> set[Any]:
        label, _ = data.split_labels(split)
        if data.task_name == "organ_failure":
            return set(np.flatnonzero(label.any(axis=0)))
        return set(np.unique(label))

    assert there(small) == there(whole)


def test_a_label_fraction_goes_without_validation(synthetic_config: Any) -> None:
    splits = SplitConfig(val_fraction=0)
    for task in SHAPES:
        data = ready(synthetic_config(label_fraction=0.1, splits=splits), task=task)
        assert data.sizes["val"] == 0 and data.sizes["train"] > 0


def test_variables_are_matched_by_name(synthetic_config: Any, caplog: pytest.LogCaptureFixture) -> None:
    data = ready(synthetic_config())
    reversed_ = ready(synthetic_config())
    reversed_.feed(data.variables[::-1])
    torch.testing.assert_close(
        data.cut(np.arange(9))["timeseries"].flip(-1), reversed_.cut(np.arange(9))["timeseries"]
    )
    assert [reversed_.variables[i] for i in reversed_.static_columns] == [
        data.variables[i] for i in data.static_columns
    ][::-1]
    other = ["crp2", *data.variables[1:]]
    with pytest.raises(ValueError, match=r"missing: crp2; extra: heart_rate.*adapt_variables=true"):
        ready(synthetic_config()).feed(other)
    adapted = ready(synthetic_config())
    with caplog.at_level(logging.WARNING):
        adapted.feed(other, adapt=True)
    assert "crp2" in caplog.text and "heart_rate" in caplog.text
    batch = adapted.cut(np.arange(9))
    assert not batch["mask"][..., 0].any()
    torch.testing.assert_close(batch["timeseries"][..., 1:], data.cut(np.arange(9))["timeseries"][..., 1:])


def test_a_given_normaliser_is_used_and_must_fit(synthetic_config: Any) -> None:
    n = len(dataset_info(synthetic_config()).variables)
    given = Normalizer(["identity"] * n, [0.0] * n, [2.0] * n, clip=1e6)
    data = ready(synthetic_config())
    data.normalizer = given
    raw = data.cut(np.arange(5), normalize=False)
    torch.testing.assert_close(data.cut(np.arange(5))["timeseries"], raw["timeseries"] / 2)
    with pytest.raises(ValueError, match=f"the normalizer has 1 variables, the data {n}"):
        data.normalizer = Normalizer(["identity"], [0.0], [1.0])


def test_what_is_known_without_preparing(tmp_path: Path, synthetic_config: Any) -> None:
    absent = DataConfig(source={"name": "synthetic"}, dataset_dir=str(tmp_path / "absent"))
    assert dataset_info(absent) == dataset_info(synthetic_config())
    assert not (tmp_path / "absent").exists()


def test_what_is_known_of_a_dataset_of_other_options_is_not_taken_for_this_ones(
    synthetic_config: Any,
) -> None:
    with pytest.raises(ValueError, match=r"prepared with n_stays=300, asked for n_stays=301.*overwrite=true"):
        dataset_info(synthetic_config(source={"name": "synthetic", "n_stays": 301}))


def test_an_absent_dataset_is_prepared(tmp_path: Path) -> None:
    config = DataConfig(source={"name": "synthetic", "n_stays": 50}, dataset_dir=str(tmp_path / "sub" / "d"))
    assert sum(ready(config).sizes.values()) == 50


def test_the_fingerprint_tells_data_and_split(synthetic_config: Any) -> None:
    one, same = (ready(synthetic_config()).fingerprint() for _ in range(2))
    other = ready(synthetic_config(splits=SplitConfig(seed=1))).fingerprint()
    assert one == same and one["dataset"] == other["dataset"] and one != other


@pytest.mark.parametrize(
    "same",
    [
        {"train_sets": ("synthetic",)},
        {"train_sets": ["synthetic"]},
        {"train_sets": ("synthetic", "synthetic")},  # a set named twice is the same set
    ],
)
def test_the_fingerprint_outlives_json(synthetic_config: Any, same: dict[str, Any]) -> None:
    one = ready(synthetic_config(splits=SplitConfig(train_sets=("synthetic",)))).fingerprint()
    other = ready(synthetic_config(splits=SplitConfig(**same))).fingerprint()
    assert json.loads(json.dumps(one)) == one == other == json.loads(json.dumps(other))


def test_the_order_in_which_sets_are_named_does_not_make_another_split(
    tmp_path: Path, table_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = [(i, i, "abc"[i % 3], 48.0) for i in range(1, 91)]
    source = table_source(stays, [(stay, 1.0, 0, 80.0) for stay, *_ in stays])
    prepare_dataset(source, tmp_path / "d")
    monkeypatch.setattr(DataConfig, "build_source", lambda config: source)
    prints = [
        ready(
            DataConfig(
                source={},
                dataset_dir=str(tmp_path / "d"),
                splits=SplitConfig(train_sets=sets, test_sets=("c",)),
            )
        ).fingerprint()
        for sets in (("a", "b"), ("b", "a"), ("a",))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_columns_fed_later_are_normalised_by_the_same_stays(synthetic_config: Any) -> None:
    data = ready(synthetic_config(label_fraction=0.1), task="in_hospital_mortality")
    before = data.normalizer.location
    data.feed(data.variables[::-1])
    torch.testing.assert_close(data.normalizer.location, before.flip(0))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"splits": SplitConfig(test_fraction=1e-6)}, {}, "test split is empty"),
        ({}, {"task": "mortality"}, "unknown task 'mortality'.*in_hospital_mortality"),
        ({"resolution": "timestamps"}, {"task": "deterioration"}, "one label a time step"),
        (
            {"source": {"name": "synthetic", "n_stays": 299}},
            {},
            "prepared with n_stays=300, asked for n_stays=299",
        ),
    ],
)
def test_what_cannot_work_says_so(synthetic_config: Any, changes: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(synthetic_config(**changes), **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 0.0}, "resolution=0.0"),
        ({"resolution": 72.0}, "resolution=72.0"),
        ({"horizon": 0.0}, "horizon=0.0"),
        ({"max_steps": 10}, "max_steps=10: allowed is 1 or more with resolution='timestamps'"),
        ({"window": WindowConfig(length=1.5)}, "window.length=1.5: allowed is a whole number of bins"),
        ({"window": WindowConfig(length=6, stride=2.5)}, "window.stride=2.5: allowed is a whole number"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"label_fraction": 0.0}, "label_fraction=0.0"),
        ({"source": {}}, "data.source: name is missing"),
        ({"source": {"name": "syntetic"}}, "unknown data source 'syntetic': did you mean 'synthetic'"),
        ({"source": {"name": "synthetic", "n_stay": 5}}, "unknown option 'n_stay': did you mean 'n_stays'"),
        ({"source": {"name": "synthetic", "n_stays": 0}}, "n_stays=0"),
        ({"source": {"name": "physionet2012", "sets": ["d"]}}, "sets: unknown set 'd'"),
    ],
)
def test_options_that_cannot_be_meant(synthetic_config: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_config(**changes)


def test_splits_that_are_not_wanted_have_no_batches(synthetic_config: Any) -> None:
    data = ready(synthetic_config(splits=SplitConfig(val_fraction=0, test_fraction=0)))
    assert data.val_dataloader() == [] and data.test_dataloader() == [] and data.sizes["train"] == 300


def test_the_normaliser_knows_the_training_split_alone(tmp_path: Path) -> None:
    config = DataConfig(source={"name": "synthetic", "n_stays": 200}, dataset_dir=str(tmp_path / "d"))
    before = ready(config)
    value = np.load(tmp_path / "d" / "value.npy", mmap_mode="r+")
    for split in ("val", "test"):
        for stay in before.samples.stay[before.splits[split]]:
            value[before.store.offsets[stay] : before.store.offsets[stay + 1]] = 77.0
    value.flush()
    after = ready(config)
    assert torch.equal(before.normalizer.location, after.normalizer.location)
    assert torch.equal(before.normalizer.scale, after.normalizer.scale)
    assert (after.cut(after.splits["test"], normalize=False)["timeseries"].amax() == 77.0).all()
