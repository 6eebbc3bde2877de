"""Baselines over a network's splits, and their blend with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cli import CommandLine
from slices.training.baseline import tuning
from slices.training.baseline.tuning import tuned_trees

SCRATCH = ["checkpoint_path=null", "adaptation=finetune", "encoder=gru", "encoder.d_model=8"]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small search, of few trees."""
    monkeypatch.setattr(tuning, "LEAVES", (4,))
    monkeypatch.setattr(tuning, "SHARES", (0.2,))
    monkeypatch.setattr(tuning, "MOST_TREES", 20)
    monkeypatch.setattr("slices.training.evaluation.baselines.N_TREES", 20)


def test_a_baseline_stands_beside_a_network_and_is_blended_with_it(
    cli: CommandLine, on_tiny: list[str]
) -> None:
    data = [word for word in on_tiny if word.startswith("data.")]
    assert cli("finetune", *on_tiny, *SCRATCH, "hydra.run.dir=net").status == 0
    done = cli("baseline", *data, "model=logistic_regression", "hydra.run.dir=line")
    assert done.status == 0, done.err
    assert cli("baseline", *data, "hydra.run.dir=trees").status == 0
    tables = [pl.read_parquet(f"{run}/predictions.parquet") for run in ("net", "line", "trees")]
    key = ["split", "stay_id", "patient_id", "prediction_time", "step", "output", "task", "task_type"]
    first = tables[0].select(*key, "label").sort(key)
    for table in tables[1:]:
        assert table.select(*key, "label").sort(key).equals(first)
    assert json.loads(Path("trees/baseline.json").read_text())[0]["num_leaves"] == 4
    done = cli("blend", "predictions=[net,line,trees]", "hydra.run.dir=blend")
    assert done.status == 0, done.err
    weights = json.loads(Path("blend/blend.json").read_text())
    assert weights.keys() == {"gru+none", "logistic_regression", "lightgbm"}
    assert sum(weights.values()) == pytest.approx(1)
    mixed = pl.read_parquet("blend/predictions.parquet")
    assert mixed.select(*key, "label").sort(key).equals(first.with_columns(pl.col("label").cast(pl.Float64)))
    joined = cli("evaluate", "predictions=[net,line,blend]", "n_resamples=20", "reference=blend")
    assert joined.status == 0 and "blend" in joined.out, joined.err


def test_a_baseline_never_sees_the_labels_of_val_and_test(
    cli: CommandLine, on_tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from slices.training.baseline import fitting

    data = [word for word in on_tiny if word.startswith("data.")]
    assert cli("baseline", *data, "hydra.run.dir=plain").status == 0
    plain = fitting.feature_rows

    def shuffled(module: Any, split: str) -> Any:
        rows = plain(module, split)
        if split != "train":
            rows.about["label"] = 1 - rows.about["label"]
        return rows

    monkeypatch.setattr(fitting, "feature_rows", shuffled)
    assert cli("baseline", *data, "hydra.run.dir=shuffled").status == 0
    one, other = (pl.read_parquet(f"{run}/predictions.parquet") for run in ("plain", "shuffled"))
    assert one["prediction"].equals(other["prediction"]) and not one["label"].equals(other["label"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "second"),
    [
        ("length_of_stay", "model=logistic_regression"),
        ("length_of_stay_class", "model=logistic_regression"),
        ("organ_failure", "seed=1"),
        ("deterioration", "seed=1"),
    ],
)
def test_every_type_of_task_has_a_baseline_and_a_blend(
    task: str, second: str, cli: CommandLine, on_tiny: list[str]
) -> None:
    data = [word for word in on_tiny if word.startswith("data.")]
    for name, other in (("one", "seed=0"), ("two", second)):
        done = cli("baseline", *data, f"task={task}", other, "tune=false", f"hydra.run.dir={name}")
        assert done.status == 0, done.err
    done = cli("blend", "predictions={a: one, b: two}", "hydra.run.dir=blend")
    assert done.status == 0, done.err
    done = cli("evaluate", "predictions={a: one, b: two, c: blend}", "n_resamples=20")
    assert done.status == 0, done.err


def test_patients_stay_together_where_settings_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightgbm

    seen: list[Any] = []
    plain = lightgbm.cv

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.extend(kwargs["folds"])
        return plain(*args, **kwargs)

    monkeypatch.setattr(lightgbm, "cv", watched)
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 4)
    label = (group % 3 == 0).astype(float)
    features = label[:, None] + rng.normal(size=(240, 3))
    chosen = tuned_trees(features, label, group, {"objective": "binary", "seed": 0, "verbose": -1})
    assert len(seen) == 5 and 1 <= chosen["num_iterations"] <= 20
    for train, test in seen:
        assert not set(group[train]) & set(group[test])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predictions=[one]"], "a blend is of two models or more, not of lightgbm alone"),
        (
            ["predictions={a: one, b: test}"],
            "b: no rows of split 'val' to choose weights by: use weights=equal",
        ),
        (["predictions={a: one, b: nobody}"], "name different patients for the same stays"),
        (["predictions={a: one, b: other}"], "have different labels in the same rows"),
    ],
)
def test_what_cannot_be_blended_is_told(
    words: list[str], message: str, cli: CommandLine, on_tiny: list[str]
) -> None:
    data = [word for word in on_tiny if word.startswith("data.")]
    assert cli("baseline", *data, "tune=false", "hydra.run.dir=one").status == 0
    table = pl.read_parquet("one/predictions.parquet")
    for name, changed in (
        ("test", table.filter(pl.col("split") == "test")),
        ("other", table.with_columns(label=1 - pl.col("label"))),
        ("nobody", table.with_columns(patient_id=pl.col("stay_id") + 10_000)),
    ):
        Path(name).mkdir()
        changed.write_parquet(f"{name}/predictions.parquet")
    done = cli("blend", *words, "hydra.run.dir=blend")
    assert done.status == 2 and message in done.err, done.err
    assert cli("blend", "predictions={a: one, b: test}", "weights=equal", "hydra.run.dir=equal").status == 0
    assert json.loads(Path("equal/blend.json").read_text()) == {"a": 0.5, "b": 0.5}


def test_a_survival_task_has_no_baseline(cli: CommandLine, on_tiny: list[str]) -> None:
    own = ["data.source.n_stays=120", "data.dataset_dir=made", "data/definitions=time_to_death"]
    done = cli("baseline", *own, "task=time_to_death")
    assert done.status == 2 and "survival tasks have no baseline" in done.err, done.err
