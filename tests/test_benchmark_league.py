"""The league table: means, intervals, paired differences and blends."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import polars as pl
import pytest
import yaml

from leagues import config_of
from slices.training.benchmark.blends import blend_rows
from slices.training.benchmark.config import BenchmarkConfig
from slices.training.benchmark.rows import Row, Spent
from slices.training.benchmark.table import SCORES, _is_transductive, _lines, _scratch, best_score
from slices.training.evaluation.bootstrap import Predictions, bootstrap_interval, paired_interval

FREE = Spent(0.0, 0.0, 0.0, 0.0)
ENDS = ("", "_vs_scratch", "_vs_baseline")


def test_rows_that_read_test_stays_are_marked_blends_too(arguments: list[str]) -> None:
    blends = {"mix": ("linear+whole+probe", "logistic_regression"), "more": ("mix", "linear+mae+probe")}
    own = ["objectives=[mae,whole]", "+variants.whole=mae", "transductive=[whole]"]
    config = dataclasses.replace(config_of([*arguments, *own]), blends=blends)
    keys = [
        ("linear", "whole", "probe"),
        ("linear", "mae", "probe"),
        ("logistic_regression", *2 * ("baseline",)),
    ]
    keys += [("mix", "blend", "blend"), ("more", "blend", "blend")]
    marked = {key[:2] for key in keys if _is_transductive((1.0, *key), config)}
    assert marked == {("linear", "whole"), ("mix", "blend"), ("more", "blend")}


def test_the_best_baseline_of_a_regression_has_the_least_error(arguments: list[str]) -> None:
    """And the best score, which the app gives to a sweep."""
    generator = np.random.default_rng(0)
    label = generator.normal(size=50)

    def row(noise: float) -> Row:
        run = Predictions(np.arange(50), np.arange(50), label, label + noise * generator.normal(size=50))
        return Row([run], FREE)

    rows = {(1.0, name, "baseline", "baseline"): row(noise) for name, noise in {"a": 0.1, "b": 2.0}.items()}
    best, other = _lines(rows, SCORES["regression"], config_of(arguments))
    assert "mae_vs_baseline" not in best and other["mae_vs_baseline"] > 0
    assert best_score(pl.DataFrame({"memory_gb": [0.0, 0.0], "mae": [3.0, 2.0]})) == 2.0
    assert best_score(pl.DataFrame({"memory_gb": [0.0, 0.0], "auroc": [0.7, 0.8]})) == 0.8


def test_the_league_is_that_of_intervals_one_by_one(arguments: list[str]) -> None:
    """All rows share their draws of patients; the numbers are those of the functions for one row or pair."""
    generator = np.random.default_rng(0)

    def row(noise: float) -> Row:
        return Row([run_of(fold, noise) for fold in (0, 1, 0)], FREE)

    def run_of(fold: int, noise: float) -> Predictions:
        ids = np.arange(80) + 80 * fold
        label = (np.arange(80) % 4 == 0).astype(float)
        return Predictions(ids, ids // 2, label, label + noise * generator.normal(size=80))

    rows = {
        (1.0, "gru", "none", "finetune"): row(1.0),
        (1.0, "gru", "mae", "finetune"): row(0.7),
        (1.0, "lightgbm", "baseline", "baseline"): row(0.9),
        (1.0, "logistic_regression", "baseline", "baseline"): row(3.0),
    }
    lines = {
        (line["encoder"], line["objective"]): line
        for line in _lines(rows, SCORES["binary"], config_of(arguments))
    }
    line, (scratch, mae, best, _) = lines["gru", "mae"], rows.values()
    for name, metric in SCORES["binary"].items():
        found = {end: [line[f"{name}{end}{side}"] for side in ("", "_low", "_high")] for end in ENDS}
        assert found[""] == pytest.approx(bootstrap_interval(metric, mae.runs))
        assert found["_vs_scratch"] == pytest.approx(paired_interval(metric, mae.runs, scratch.runs))
        assert found["_vs_baseline"] == pytest.approx(paired_interval(metric, mae.runs, best.runs))
    assert "auroc_vs_scratch" not in lines["gru", "none"]
    assert "auroc_vs_baseline" not in lines["lightgbm", "baseline"]
    with pytest.raises(ValueError, match=r"jepa.*in one of the two predictions only"):
        other = Row([run_of(1, 1.0)] * 3, FREE)
        _lines(rows | {(1.0, "gru", "jepa", "probe"): other}, SCORES["binary"], config_of(arguments))


def test_from_scratch_is_the_same_way_to_adapt(arguments: list[str]) -> None:
    own = ("+variants={long: finetune, wide: finetune}", "adaptations=[long,wide,probe]")
    config = config_of([*arguments, *own])
    rows = {(1.0, "linear", "none", way): Row([], FREE) for way in ("long", "wide")}
    assert _scratch((1.0, "linear", "mae", "wide"), rows, config) == (1.0, "linear", "none", "wide")
    assert _scratch((1.0, "linear", "mae", "probe"), rows, config) == (1.0, "linear", "none", "long")
    assert _scratch((1.0, "gru", "mae", "wide"), rows, config) is None
    section = config.finetune | {"mae+wide": {"members": 2}}
    averaged = dataclasses.replace(config, finetune=section)  # not of one training
    assert _scratch((1.0, "linear", "mae", "wide"), rows, averaged) is None
    section = config.finetune | {"wide": {"members": 2}}
    averaged = dataclasses.replace(config, finetune=section)
    assert _scratch((1.0, "linear", "mae", "wide"), rows, averaged) == (1.0, "linear", "none", "wide")


def test_a_blend_is_the_mean_over_members_and_seeds() -> None:
    """On the scale of log-odds; in rows of one fraction only, in one order of stays, blends of blends too."""
    generator = np.random.default_rng(0)
    label = np.array([0.0, 1.0, 0.0])

    def row(*odds: float) -> Row:
        runs = [Predictions(np.arange(3), np.arange(3), label, _sigmoid(np.full(3, z))) for z in odds]
        return Row(runs, Spent(2.0, 1.0, 10.0, 0.5))

    gru, trees = (1.0, "gru", "mae", "finetune"), (1.0, "lightgbm", "baseline", "baseline")
    other = (0.1, *gru[1:])
    rows = {gru: row(1.0, 2.0, 3.0, 4.0), trees: row(0.0, 1.0, 0.0, 1.0), other: row(-1.0, -1.0, -1.0, -1.0)}
    shuffled = rows[gru].runs[3]
    order = generator.permutation(3)
    rows[gru].runs[3] = Predictions(*(part[order] for part in shuffled))
    blends = {"seeds": ["gru+mae+finetune"], "mix": ["seeds", "lightgbm"]}
    at_all = {key: row for key, row in rows.items() if key[0] == 1.0}
    found = blend_rows(at_all, blends, n_seeds=2, task_type="binary")
    assert list(found) == [(1.0, "seeds", "blend", "blend"), (1.0, "mix", "blend", "blend")]
    seeds, mix = found.values()
    for run, expected in zip(seeds.runs, (2.0, 3.0, 2.0, 3.0), strict=True):
        assert run.prediction == pytest.approx(_sigmoid(np.full(3, expected))) and (run.label == label).all()
    assert [run.prediction[0] for run in mix.runs] == pytest.approx(_sigmoid(np.array([1.0, 2.0, 1.0, 2.0])))
    assert seeds.spent == Spent(4.0, 2.0, 20.0, 0.5)
    assert mix.spent == Spent(6.0, 3.0, 30.0, 0.5)  # the baseline is fitted once
    probe = at_all | {(1.0, "gru", "mae", "probe"): rows[gru]}
    both = blend_rows(probe, {"both": ["gru+mae+finetune", "gru+mae+probe"]}, n_seeds=2, task_type="binary")
    assert both[1.0, "both", "blend", "blend"].spent == Spent(8.0, 2.0, 40.0, 0.5)  # pretrained once a seed
    of_few = blend_rows(rows, {"seeds": ["gru+mae+finetune"]}, n_seeds=2, task_type="binary")
    assert of_few[0.1, "seeds", "blend", "blend"].runs[0].prediction == pytest.approx(
        _sigmoid(np.full(3, -1.0))
    )
    partly = blend_rows(rows, blends, n_seeds=2, task_type="binary")  # no trees at 0.1, and so no mix
    assert [key[:2] for key in partly] == [(1.0, "seeds"), (1.0, "mix"), (0.1, "seeds")]


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(
    ("blends", "answer"),
    [
        ("{mix: [linear+mae+finetun]}", "blends.mix: unknown row 'linear+mae+finetun': did you mean"),
        ("{logistic_regression: [linear+mae+finetune]}", "names something else already"),
        ("{linear: [linear+mae+finetune]}", "names something else already"),
        ("{mix: []}", "blends.mix is empty"),
        ("{a: [b], b: [linear+mae+probe]}", "blends.a: unknown row 'b'"),
    ],
)
def test_a_blend_is_of_rows_that_are_there(blends: str, answer: str, arguments: list[str]) -> None:
    given = dataclasses.asdict(config_of(arguments)) | {"blends": yaml.safe_load(blends)}
    with pytest.raises(ValueError, match=re.escape(answer)):
        BenchmarkConfig.parse(given)
