"""Windows, prediction times and steps, and what each sample may see."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slices.training.data import DataConfig, SplitConfig, StayDataModule, TaskInfo, prepare_dataset
from slices.training.data.samples import WindowConfig, labelled, unlabelled
from slices.training.data.views import View

BINARY = TaskInfo(name="died", task_type="binary", classes=("no", "yes"))
HOURLY = TaskInfo(name="unwell", task_type="binary", classes=("no", "yes"), per_step=True)
SEVERAL = TaskInfo(name="failures", task_type="multilabel", classes=("kidney", "liver", "lung"))


def view(resolution: Any = 1.0, horizon: float = 48.0, window: WindowConfig | None = None) -> View:
    static, none = np.arange(4) == 3, np.zeros(4, dtype=bool)
    return View(
        column=np.arange(4),
        static=static,
        summed=none,
        resolution=resolution,
        horizon=horizon,
        span=window.length if window else None,
    )


def test_labels_are_laid_out_by_prediction_time_or_by_step(
    tmp_path: Path, table_source: Any, stays_of_48_hours: Any
) -> None:
    rows = [
        ("died", 3, 48.0, 0, 1.0),
        ("died", 1, 24.0, 0, 0.0),
        ("died", 3, 24.0, 0, 0.0),
        ("unwell", 2, 1.0, 0, 1.0),
        ("unwell", 2, 48.0, 0, 1.0),
        ("unwell", 2, 4.5, 0, 1.0),
        ("failures", 1, 24.0, 2, 1.0),
        ("failures", 1, 24.0, 0, 0.0),
    ]
    store = prepare_dataset(
        table_source(stays_of_48_hours(3), [], rows, (BINARY, HOURLY, SEVERAL)), tmp_path / "d"
    )
    died = labelled(store, BINARY, view(), None, per_step=False)
    assert died.stay.tolist() == [0, 2, 2] and died.until.tolist() == [24.0, 24.0, 48.0]
    assert died.label is not None and died.label.tolist() == [0, 0, 1]
    unwell = labelled(store, HOURLY, view(), None, per_step=True)
    assert unwell.label is not None and unwell.label_mask is not None
    assert unwell.stay.tolist() == [1] and unwell.label.shape == (1, 48)
    assert np.flatnonzero(unwell.label_mask).tolist() == [0, 47]  # 4.5 hours is not the end of a bin
    halves = labelled(store, HOURLY, view(0.5), None, per_step=True)
    assert np.flatnonzero(halves.label_mask).tolist() == [1, 8, 95]
    prefixes = labelled(store, HOURLY, view(), None, per_step=False)
    assert prefixes.stay.tolist() == [1, 1, 1] and prefixes.until.tolist() == [1.0, 4.5, 48.0]
    failures = labelled(store, SEVERAL, view(), None, per_step=False)
    assert failures.label is not None and failures.label_mask is not None
    assert failures.label.dtype == np.float32
    assert failures.label_mask.tolist() == [[True, False, True]] and failures.label.tolist() == [[0, 0, 1]]
    with pytest.raises(ValueError, match=r"one label a time step: data.resolution=timestamps"):
        labelled(store, HOURLY, view("timestamps"), None, per_step=True)
    with pytest.raises(ValueError, match=r"'died' has one label a stay.*task.per_step=false"):
        labelled(store, BINARY, view(), None, per_step=True)


@pytest.mark.parametrize(("length", "stride"), [(12, None), (24, 12), (48, 6), (5, 5)])
def test_windows_see_all_of_a_stay_and_every_label_is_in_one(
    tmp_path: Path, table_source: Any, length: float, stride: float | None
) -> None:
    hours = [100.0, 5.0, 48.0, 12.0]
    stays = [(i, i, "a", h) for i, h in enumerate(hours)]
    events = [(i, t + 0.5, 0, 50.0 + t) for i, h in enumerate(hours) for t in range(int(h))]
    labels = [
        ("unwell", i, t + 1.0, 0, float(t % 3 == 0)) for i, h in enumerate(hours) for t in range(int(h))
    ]
    store = prepare_dataset(table_source(stays, events, labels, (HOURLY,)), tmp_path / "d")
    window = WindowConfig(length=length, stride=stride)
    cut = view(horizon=96.0, window=window)
    pieces = unlabelled(store, cut, window)
    batch = cut.cut(store, pieces.stay, pieces.until, pieces.start)
    assert batch["mask"].shape[1] == length
    for stay, h in enumerate(hours):
        mine = torch.from_numpy(pieces.stay == stay)
        seen = batch["timeseries"][mine, :, 0][batch["mask"][mine, :, 0]]
        assert set(seen.tolist()) == {50.0 + t for t in range(int(min(h, 96)))}
        starts = pieces.start[pieces.stay == stay]
        assert starts.tolist() == [k * window.step for k in range(len(starts))]
        assert len(starts) == 1 or starts[-2] + length < min(h, 96)  # none that shows nothing new
    samples = labelled(store, HOURLY, cut, window, per_step=True)
    assert samples.label is not None and samples.label_mask is not None
    found = cut.cut(store, samples.stay, samples.until, samples.start)
    row, step = np.nonzero(samples.label_mask)
    hour = found["times"].numpy()[row, step]
    assert found["padding_mask"].numpy()[row, step].all()
    assert len(row) == sum(int(min(h, 96)) for h in hours)
    assert len(set(zip(samples.stay[row], hour, strict=True))) == len(row)
    assert (samples.label[row, step] == (hour % 3 == 0)).all()


def test_before_a_prediction_time_the_window_is_the_most_recent_hours(
    tmp_path: Path, table_source: Any
) -> None:
    events = [(1, t + 0.5, 0, 50.0 + t) for t in range(60)] + [(1, 0.0, 3, 70.0)]
    store = prepare_dataset(
        table_source([(1, 1, "a", 60.0)], events, [("died", 1, 40.0, 0, 1.0)], (BINARY,)), tmp_path / "d"
    )
    window = WindowConfig(length=8)
    cut = view(window=window)
    samples = labelled(store, BINARY, cut, window, per_step=False)
    batch = cut.cut(store, samples.stay, samples.until, samples.start)
    assert batch["timeseries"][0, :, 0].tolist() == [50.0 + t for t in range(32, 40)]
    assert batch["times"][0].tolist() == list(range(32, 40))
    assert batch["timeseries"][0, 0, 3] == 70.0  # statics are put back at the first step


@pytest.mark.parametrize("resolution", [1.0, 2.0, "timestamps", "observations"])
@pytest.mark.parametrize("length", [None, 6.0])
def test_a_planted_future_changes_no_sample_of_a_prediction_time(
    tmp_path: Path, table_source: Any, resolution: Any, length: float | None
) -> None:
    """Everything at or after a prediction time is altered: what is seen before it stays as it was."""
    times = [6.0, 12.0, 24.0, 47.0]
    labels = [("unwell", 1, t, 0, 1.0) for t in times]
    rng = np.random.default_rng(0)
    hours = np.sort(np.concatenate([rng.uniform(0, 48, 200), times]))
    window = None if length is None else WindowConfig(length=length)
    cut = view(resolution, window=window)

    def batch_of(value: np.ndarray, name: str, which: int) -> dict[str, torch.Tensor]:
        events = [(1, t, i % 3, v) for i, (t, v) in enumerate(zip(hours, value, strict=True))]
        source = table_source([(1, 1, "a", 48.0)], events, labels, (HOURLY,))
        store = prepare_dataset(source, tmp_path / name)
        samples = labelled(store, HOURLY, cut, window, per_step=False).take(np.array([which]))
        return cut.cut(store, samples.stay, samples.until, samples.start)

    value = rng.uniform(50, 100, len(hours))
    for which, time in enumerate(times):
        planted = np.where(hours >= time, value + 90, value)
        one, other = (batch_of(v, f"{name}{which}", which) for v, name in ((value, "a"), (planted, "b")))
        assert all(torch.equal(one[key], other[key]) for key in one)
        seen = "valid" if resolution == "observations" else "mask"
        assert one[seen].any()
    leaky = np.where(hours >= times[0] - 1, value + 90, value)  # one that is seen is noticed
    assert any(
        not torch.equal(a, b)
        for a, b in zip(batch_of(value, "x", 0).values(), batch_of(leaky, "y", 0).values(), strict=True)
    )


def test_a_step_of_an_hourly_task_is_labelled_when_its_bin_is_over(synthetic_config: Any) -> None:
    whole = StayDataModule(synthetic_config(), task="deterioration")
    prefixes = StayDataModule(synthetic_config(), task="deterioration", per_step=False)
    for data in (whole, prefixes):
        data.setup()
    row = whole.splits["train"][:1]
    stay = int(whole.samples.stay[row][0])
    batch = whole.cut(row)
    mine = np.flatnonzero(prefixes.samples.stay == stay)
    each = prefixes.cut(mine)
    assert each["prediction_time"].tolist() == [hour + 1.0 for hour in range(48)]
    assert each["label"].tolist() == batch["label"][0].tolist()
    assert each["padding_mask"].sum(1).tolist() == list(range(1, 49))
    for hour in (0, 10, 47):
        torch.testing.assert_close(each["timeseries"][hour, : hour + 1], batch["timeseries"][0, : hour + 1])
        assert not each["mask"][hour, hour + 1 :].any()


def test_random_windows_begin_elsewhere_in_each_epoch_and_the_same_in_the_same_one(
    synthetic_config: Any,
) -> None:
    window = WindowConfig(length=12, stride=12, random=True)
    data = StayDataModule(synthetic_config(window=window, resolution=2.0))
    data.setup()
    rows = data.splits["train"][:200]
    first, again, second = (data.cut(rows, epoch=epoch)["times"][:, 0] for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, second)
    moved = first - torch.from_numpy(data.samples.start[rows])
    assert (moved.abs() <= 12).all() and (moved % 2 == 0).all() and len(set(moved.tolist())) == 12
    assert (first >= 0).all() and (first <= 36).all()
    unmoved = data.cut(rows)["times"][:, 0]
    assert torch.equal(unmoved, torch.from_numpy(data.samples.start[rows]))
    some = data.cut(rows[:5], epoch=1)["times"][:, 0]
    assert torch.equal(some, second[:5])  # whatever batch it is in


def test_random_windows_show_every_hour_and_a_short_stay_whole(
    tmp_path: Path, table_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = [(i, i, "a", 9.5 if i % 2 else 60.0) for i in range(1, 81)]
    readings = [(stay, hour + 0.5, 0, 80.0) for stay, _, _, length in stays for hour in range(int(length))]
    source = table_source(stays, readings)
    prepare_dataset(source, tmp_path / "d")
    monkeypatch.setattr(DataConfig, "build_source", lambda config: source)
    window = WindowConfig(length=12, stride=12, random=True)
    data = StayDataModule(DataConfig(source={}, dataset_dir=str(tmp_path / "d"), horizon=60.0, window=window))
    data.setup()
    rows = data.splits["train"]
    long = data.store.length_hours[data.samples.stay[rows]] == 60.0
    shown = np.zeros(60)
    for epoch in range(40):
        batch = data.cut(rows, epoch=epoch)
        assert (batch["mask"][~long, :, 0].sum(1) == 9).all()
        hour, seen = batch["times"][long].long(), batch["mask"][long, :, 0]
        shown += np.bincount(hour[seen].numpy(), minlength=60)
    share = shown / (40 * len(np.unique(data.samples.stay[rows[long]])))
    assert share.min() > 0.4 and share.max() < 1.6
    assert share[12:48] == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("resolution", ["timestamps", "observations", 1.0])
def test_a_window_without_a_measurement_begins_where_it_begins(
    resolution: Any, tmp_path: Path, table_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = [(i, i, "a", 36.0) for i in range(1, 21)]
    source = table_source(stays, [(i, t, v, 70.0) for i in range(1, 21) for t, v in ((1.0, 0), (0.0, 3))])
    prepare_dataset(source, tmp_path / "d")
    monkeypatch.setattr(DataConfig, "build_source", lambda config: source)
    window = WindowConfig(length=12)
    data = StayDataModule(
        DataConfig(source={}, dataset_dir=str(tmp_path / "d"), window=window, resolution=resolution)
    )
    data.setup()
    batch = data.cut(data.splits["train"][:3], normalize=False)  # the three windows of one stay
    assert batch["time" if resolution == "observations" else "times"][1:, 0].tolist() == [12.0, 24.0]


def test_observations_are_the_events_themselves(synthetic_config: Any) -> None:
    data = StayDataModule(synthetic_config(resolution="observations", max_steps=300))
    data.setup()
    rows = data.splits["test"][:20]
    raw, batch = data.cut(rows, normalize=False), data.cut(rows)
    for i, row in enumerate(rows):
        stay = data.samples.stay[row]
        events = slice(data.store.offsets[stay], data.store.offsets[stay + 1])
        valid = raw["valid"][i]
        static = np.isin(data.store.variable[events], data.static_columns)
        latest = (~static)[::-1].cumsum()[::-1] <= 300 - static.sum()  # and all statics
        kept = np.flatnonzero(static | latest)
        assert valid.sum() == len(kept) == min(300, len(static)) and static.sum() == 8
        assert raw["value"][i, valid].tolist() == data.store.value[events][kept].tolist()
        assert raw["time"][i, valid].tolist() == data.store.time[events][kept].tolist()
        assert raw["variable"][i, valid].tolist() == data.store.variable[events][kept].tolist()
    column = batch["variable"][batch["valid"]]
    wide = torch.zeros(len(column), len(data.variables))
    wide[torch.arange(len(column)), column] = raw["value"][raw["valid"]]
    expected = data.normalizer(wide)[torch.arange(len(column)), column]
    torch.testing.assert_close(batch["value"][batch["valid"]], expected)


def test_training_batches_of_one_length_hold_every_stay_once_and_less_padding(synthetic_config: Any) -> None:
    plain, bucketed = (
        StayDataModule(synthetic_config(resolution="observations", batch_size=8, bucket_by_length=bucket))
        for bucket in (False, True)
    )
    padding = []
    for data in (plain, bucketed):
        data.setup()
        batches = list(data.train_dataloader())
        ids = torch.cat([batch["stay_id"] for batch in batches]).tolist()
        assert sorted(ids) == sorted(data.split_ids("train").tolist())
        real = sum(int(batch["valid"].sum()) for batch in batches)
        padding.append(1 - real / sum(batch["valid"].numel() for batch in batches))
    assert padding[1] < 0.6 * padding[0]


def test_labels_after_the_horizon_are_left_out_of_steps_and_prefixes_alike(synthetic_config: Any) -> None:
    config = synthetic_config(horizon=12.0)
    steps, prefixes = (StayDataModule(config, task="deterioration", per_step=each) for each in (True, False))
    for data in (steps, prefixes):
        data.setup()
    assert steps.samples.label_mask is not None
    assert len(prefixes.samples.stay) == steps.samples.label_mask.sum() == 300 * 12
    assert prefixes.samples.until.max() == 12.0


def test_fractions_take_whole_stays(synthetic_config: Any) -> None:
    data = StayDataModule(synthetic_config(label_fraction=0.3), task="deterioration", per_step=False)
    data.setup()
    ids, count = np.unique(data.split_ids("train"), return_counts=True)
    assert (count == 48).all() and len(ids) == pytest.approx(0.3 * 0.85 * 0.85 * 300, abs=12)


def test_validation_sets_and_patterns(tmp_path: Path, table_source: Any, monkeypatch: Any) -> None:
    names = ["x/a", "x/b", "y/a", "z"]
    source = table_source([(i, i, names[i % 4], 48.0) for i in range(40)], [(1, 1.0, 0, 80.0)])
    prepare_dataset(source, tmp_path / "d")
    monkeypatch.setattr(DataConfig, "build_source", lambda config: source)
    splits = SplitConfig(train_sets=("x/*",), val_sets=("y/*",), test_sets=("z",))
    data = StayDataModule(DataConfig(source={}, dataset_dir=str(tmp_path / "d"), splits=splits))
    data.setup()
    assert data.sizes == {"train": 20, "val": 10, "test": 10}
    rest = SplitConfig(val_sets=("y/*",), test_sets=("z",))
    data = StayDataModule(DataConfig(source={}, dataset_dir=str(tmp_path / "d"), splits=rest))
    data.setup()
    assert data.sizes == {"train": 20, "val": 10, "test": 10}
    with pytest.raises(ValueError, match="unknown set of stays 'w/"):
        wrong = StayDataModule(
            DataConfig(source={}, dataset_dir=str(tmp_path / "d"), splits=SplitConfig(test_sets=("w/*",)))
        )
        wrong.setup()


def test_windows_that_cannot_be() -> None:
    for options in ({"length": 0.0}, {"length": 5.0, "stride": 6.0}, {"length": 5.0, "stride": 0.0}):
        with pytest.raises(ValueError, match=r"(length|stride)=.*allowed"):
            WindowConfig(**options)
    assert math.isclose(WindowConfig(length=6.0).step, 6.0)
