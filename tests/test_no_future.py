"""Nothing reads the future: what comes after hour t changes no prediction at t or before, to the bit.

Of tasks with one label an hour, through data module and model, in both ways they can be learnt: a causal
encoder that predicts step by step, and any encoder shown each stay up to each prediction time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from quick import data_for, trainer_for
from slices.encoders import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY, GRUEncoder, StayInputs, Tokens
from slices.encoders.rnn import RNNConfig
from slices.training import FineTuneModule, StayDataModule
from slices.training.apps.predictions import write_predictions

YAIB = ("aki", "sepsis")
CUT = 10.0  # the hour after which all is changed
A_STEP = {"gru": {"name": "gru", "d_model": 16}}
A_STEP["transformer"] = {"name": "transformer", "d_model": 16, "n_layers": 1, "causal": True}
OF_PREFIXES = {"name": "transformer", "d_model": 16, "n_layers": 1}
WAYS = {
    "gru a step": (A_STEP["gru"], 1.0),
    "transformer a step": (A_STEP["transformer"], 1.0),
    "prefixes of a grid": (OF_PREFIXES, 1.0),
    "prefixes of 2 h bins": (OF_PREFIXES, 2.0),
    "prefixes of timestamps": (OF_PREFIXES, "timestamps"),
}


@pytest.fixture(params=["synthetic", *YAIB])
def hourly(
    request: pytest.FixtureRequest, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """A task with one label an hour, and the data section to learn it from."""
    if request.param == "synthetic":
        return "deterioration", tiny | {"resolution": 1.0}
    return request.param, yaib(request.param, request.getfixturevalue("shared_data"), tmp_path_factory)


def yaib(task: str, shared_data: Path, factory: pytest.TempPathFactory) -> dict[str, Any]:
    raw = shared_data / "yaib-mimic-demo" / task
    return {
        "source": {"name": "ricu", "raw": str(raw), "task_name": task, "task_type": "binary"},
        "dataset_dir": str(factory.getbasetemp() / f"yaib-{task}"),
        "horizon": 48.0,
        "resolution": 1.0,
        "splits": {"val_fraction": 0.3, "test_fraction": 0.3},
    }


def model_on(
    task: str, section: dict[str, Any], encoder: dict[str, Any]
) -> tuple[FineTuneModule, StayDataModule]:
    """A model with random weights on its data, as the app sets both up."""
    per_step = encoder["name"] != "transformer" or encoder.get("causal", False)
    data = data_for(section, task, per_step=per_step)
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    of_task = {"task_name": task, "task_type": "binary", "per_step": per_step}
    module = FineTuneModule(
        {
            "encoder": encoder,
            "task": of_task,
            "training": {"freeze_encoder": False},
            "optimizer": {"name": "adamw"},
            "data": section,
        }
    )
    module.follow(data)
    module.check_task(data)
    return module.eval(), data


@torch.no_grad()
def predicted_until(module: FineTuneModule, data: StayDataModule, hour: float) -> Tensor:
    """Every labelled prediction at ``hour`` or before."""
    rows = np.arange(len(data.samples.stay))
    if data.labels_a_step:
        batch = data.cut(rows)
        at = (torch.arange(batch["label"].shape[1]) + 1.0) * data.view.bin_width
    else:
        batch = data.cut(rows[data.samples.until <= hour + 1e-3])
        at = batch["prediction_time"]
    probs = module.predict_step(batch, 0)["probs"]
    return probs[batch["label_mask"] & (at <= hour + 1e-3)]


def change_after(data: StayDataModule, hour: float) -> int:
    """Other values, of other variables, at other times, in stays of another length; returns how many events.

    In memory alone: the arrays are mapped to be copied on write.
    """
    store, draw = data.store, np.random.default_rng(0)
    stay = np.repeat(np.arange(len(store)), np.diff(store.offsets))
    longer = store.length_hours > hour
    late = np.flatnonzero((store.time >= hour) & longer[stay])
    measured = np.flatnonzero(~np.isin(np.arange(len(data.variables)), data.static_columns))
    store.value[late] = store.value[draw.permutation(late)] * 3 + 7
    store.variable[late] = draw.choice(measured, len(late))
    store.time[late] = hour + (store.time[late] - hour) / 2  # still in order
    store.length_hours = np.where(longer, hour + (store.length_hours - hour) / 2, store.length_hours)
    return len(late)


def reads_the_future(module: FineTuneModule, data: StayDataModule, hour: float = CUT) -> bool:
    before = predicted_until(module, data, hour)
    assert len(before) > 50 and change_after(data, hour) > 100
    return not torch.equal(before, predicted_until(module, data, hour))


@pytest.mark.parametrize("way", WAYS)
def test_what_comes_later_changes_no_earlier_prediction(way: str, hourly: tuple[str, dict[str, Any]]) -> None:
    encoder, resolution = WAYS[way]
    task, section = hourly
    assert not reads_the_future(*model_on(task, section | {"resolution": resolution}, encoder))


def test_the_last_prediction_does_change(hourly: tuple[str, dict[str, Any]]) -> None:
    """The change is one that a model that may see it does see."""
    task, section = hourly
    module, data = model_on(task, section, A_STEP["gru"])
    before = predicted_until(module, data, CUT + 2)
    change_after(data, CUT)
    assert not torch.equal(before, predicted_until(module, data, CUT + 2))


class Peeking(GRUEncoder):
    """Says that it is causal, and adds a little of the whole stay to every step."""

    def encode_stay(self, stay: StayInputs) -> Tokens:
        tokens = super().encode_stay(stay)
        return tokens._replace(embedding=tokens.embedding + 1e-3 * stay.x.mean(dim=(1, 2))[:, None, None])


@pytest.fixture
def peeking() -> Iterator[dict[str, Any]]:
    ENCODER_REGISTRY["peeking"], ENCODER_CONFIG_REGISTRY["peeking"] = Peeking, RNNConfig
    yield {"name": "peeking", "d_model": 16}
    del ENCODER_REGISTRY["peeking"], ENCODER_CONFIG_REGISTRY["peeking"]


def test_an_encoder_that_peeks_is_found(peeking: dict[str, Any], hourly: tuple[str, dict[str, Any]]) -> None:
    task, section = hourly
    assert reads_the_future(*model_on(task, section, peeking))


def test_samples_that_end_late_are_found(hourly: tuple[str, dict[str, Any]]) -> None:
    """A quarter of an hour more than was known at the prediction time."""
    task, section = hourly
    module, data = model_on(task, section, OF_PREFIXES)
    cut = data.view.cut
    object.__setattr__(  # a view is frozen
        data.view, "cut", lambda store, stay, until, *rest: cut(store, stay, until + 0.25, *rest)
    )
    assert reads_the_future(module, data)


@pytest.mark.parametrize("encoder", [A_STEP["gru"], OF_PREFIXES], ids=["a step", "prefixes"])
@pytest.mark.parametrize("task", YAIB)
def test_predictions_keep_the_hours_of_yaib(
    task: str,
    encoder: dict[str, Any],
    shared_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    """The file of predictions against the raw table: the label of row h is that of what is known at h + 1."""
    section = yaib(task, shared_data, tmp_path_factory)
    module, data = model_on(task, section, encoder)
    trainer = trainer_for(tmp_path)
    splits = ("train", "val", "test")
    predicted = {split: trainer.predict(module, data.loader(split)) for split in splits}
    step_hours = data.view.bin_width if data.labels_a_step else None
    path = write_predictions(
        tmp_path / "p.parquet", predicted, module.head.config, "m", step_hours=step_hours
    )
    told = pl.read_parquet(path).filter(pl.col("output") == 1, pl.col("label").is_not_null())
    raw = pl.read_parquet(shared_data / "yaib-mimic-demo" / task / "outc.parquet")
    hour, end = pl.col("time").dt.total_hours(), section["horizon"]
    raw = raw.filter(hour + 1 <= end).select(
        pl.col("stay_id").cast(pl.Int64),
        (hour + 1).cast(pl.Float32).alias("prediction_time"),
        pl.col("label").cast(pl.Float32),
    )
    key = ["stay_id", "prediction_time"]
    assert told.select(*key, "label").sort(key).equals(raw.sort(key))
    assert 0 < raw["label"].sum() < len(raw)
