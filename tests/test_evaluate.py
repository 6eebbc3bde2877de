"""``slices-evaluate``: from prediction files to tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, mean_pinball_loss, roc_auc_score

from cli import CommandLine
from slices.training.evaluation.report import EvaluateConfig, Evaluation, evaluate, write_evaluation

N = 600
FEW = {"n_resamples": 50}


def table(noise: float, seed: int = 0, **columns: Any) -> pl.DataFrame:
    """Two stays a patient, a quarter of the patients for validation."""
    of_stays, of_model = np.random.default_rng(0), np.random.default_rng(seed)
    died = of_stays.random(N) < 0.3
    risk = of_stays.normal(size=N) + 1.5 * died + noise * of_model.normal(size=N)
    patient = np.arange(N) // 2
    content = {
        "stay_id": np.arange(N),
        "patient_id": patient,
        "split": np.where(patient % 4 == 0, "val", "test"),
        "prediction": 1 / (1 + np.exp(-risk)),
        "label": died.astype(float),
        "task_type": ["binary"] * N,
    }
    return pl.DataFrame(content | columns)


def judged(folder: Path, tables: dict[str, pl.DataFrame], **options: Any) -> Evaluation:
    files = {name: str(folder / f"{name}.parquet") for name in tables}
    for name, rows in tables.items():
        rows.write_parquet(files[name])
    return evaluate(EvaluateConfig(predictions=files, **(FEW | options)))


def value(evaluation: Evaluation, metric: str, group: str = "all", model: str = "a") -> float:
    (found,) = [
        e.estimate for e in evaluation.estimates if (e.metric, e.group, e.model) == (metric, group, model)
    ]
    return found


def test_metrics_of_test_rows_are_those_of_scikit_learn(tmp_path: Path) -> None:
    rows = table(0.5)
    evaluation = judged(tmp_path, {"a": rows})
    test = rows.filter(split="test")
    truth, prob = test["label"].to_numpy(), test["prediction"].to_numpy()
    assert value(evaluation, "auroc") == pytest.approx(roc_auc_score(truth, prob))
    assert value(evaluation, "auprc") == pytest.approx(average_precision_score(truth, prob))
    assert value(evaluation, "brier") == pytest.approx(brier_score_loss(truth, prob))
    assert evaluation.rows == test.height and evaluation.patients == test["patient_id"].n_unique()


def test_nothing_is_chosen_on_test_rows(tmp_path: Path) -> None:
    rows = table(0.5)
    other = rows.with_columns(
        label=pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise("label")
    )
    first, second = (judged(tmp_path, {"a": one}) for one in (rows, other))
    assert first.choices == second.choices
    assert value(first, "sensitivity") != value(second, "sensitivity")
    unseen = judged(tmp_path, {"a": rows.with_columns(split=pl.lit("test"))})
    assert unseen.choices["a"].thresholds == (None,) and "no validation rows" in " ".join(unseen.notes)


def test_models_are_compared_on_the_same_rows_and_for_all_comparisons(tmp_path: Path) -> None:
    tables = {"a": table(0.2, 1), "b": table(3.0, 2), "c": table(0.2, 1)}
    evaluation = judged(tmp_path, tables, n_resamples=200)
    found = {(c.metric, c.model, c.other): c for c in evaluation.comparisons}
    assert len(found) == 3 * 4
    better = found["auroc", "b", "a"]
    assert better.high < 0 and better.p <= better.p_holm
    assert found["auroc", "c", "a"].difference == 0 and found["auroc", "c", "a"].p == 1
    assert all(c.p_holm >= c.p for c in evaluation.comparisons)
    to_one = judged(tmp_path, tables, reference="b")
    assert {c.other for c in to_one.comparisons} == {"b"} and len(to_one.comparisons) == 2 * 4


def test_delong_checks_auroc_where_each_patient_has_one_row(tmp_path: Path) -> None:
    own = {"patient_id": np.arange(N), "split": np.where(np.arange(N) % 4 == 0, "val", "test")}
    tables = {"a": table(0.2, 1, **own), "b": table(1.0, 2, **own)}
    comparisons = {c.metric: c for c in judged(tmp_path, tables, n_resamples=400).comparisons}
    assert comparisons["auroc"].p_delong == pytest.approx(comparisons["auroc"].p, abs=0.05)
    assert comparisons["auprc"].p_delong is None
    two_stays_each = {"a": table(0.2, 1), "b": table(1.0, 2)}
    assert all(c.p_delong is None for c in judged(tmp_path, two_stays_each).comparisons)


def test_groups_their_gaps_and_those_too_small(tmp_path: Path) -> None:
    rows = table(0.5)
    sex = np.where(np.arange(N) % 4 < 2, "f", "m")
    unit = np.where(np.arange(N) < 8, "rare", "common")
    age = np.linspace(20, 90, N)
    pl.DataFrame({"stay_id": np.arange(N), "sex": sex, "unit": unit, "age": age}).write_parquet(
        tmp_path / "groups.parquet"
    )
    evaluation = judged(tmp_path, {"a": rows}, groups=str(tmp_path / "groups.parquet"))
    women = rows.with_columns(sex=pl.Series(sex)).filter(split="test", sex="f")
    assert value(evaluation, "auroc", "f") == pytest.approx(
        roc_auc_score(women["label"], women["prediction"])
    )
    gaps = {(g.grouping, g.metric): g.estimate for g in evaluation.gaps}
    expected = abs(value(evaluation, "sensitivity", "f") - value(evaluation, "sensitivity", "m"))
    assert gaps["sex", "equal_opportunity_gap"] == pytest.approx(expected)
    assert gaps["sex", "equalised_odds_gap"] >= gaps["sex", "equal_opportunity_gap"]
    assert not [e for e in evaluation.estimates if e.group == "rare"]
    assert any("unit rare: fewer than 10 patients" in note for note in evaluation.notes)
    bands = [e.group for e in evaluation.estimates if (e.grouping, e.metric) == ("age", "auroc")]
    assert bands == ["<45", "45-65", "65-80", ">=80"]  # youngest first


def test_a_group_without_positive_rows_leaves_the_gaps_of_the_others(tmp_path: Path) -> None:
    third = np.arange(N) // 2 % 3
    rows = table(0.5).with_columns(label=pl.when(pl.Series(third == 2)).then(0.0).otherwise("label"))
    groups = pl.DataFrame({"stay_id": np.arange(N), "unit": np.array(["a", "b", "c"])[third]})
    groups.write_parquet(tmp_path / "groups.parquet")
    evaluation = judged(tmp_path, {"a": rows}, groups=str(tmp_path / "groups.parquet"))
    gaps = {g.metric: g.estimate for g in evaluation.gaps}
    for metric, gap in {"auroc": "auroc_gap", "sensitivity": "equal_opportunity_gap"}.items():
        assert gaps[gap] == pytest.approx(
            abs(value(evaluation, metric, "a") - value(evaluation, metric, "b"))
        )
    specificity = [value(evaluation, "specificity", unit) for unit in "abc"]
    assert gaps["false_alarm_gap"] == pytest.approx(max(specificity) - min(specificity))
    assert [note for note in evaluation.notes if note.startswith("unit c: rows of one class")]


def test_a_temperature_that_validation_rows_do_not_determine_is_not_chosen(tmp_path: Path) -> None:
    rows = table(0.5)
    perfect = (pl.col("prediction") > 0.5).cast(pl.Float64)
    rows = rows.with_columns(label=pl.when(pl.col("split") == "val").then(perfect).otherwise("label"))
    evaluation = judged(tmp_path, {"a": rows})
    assert evaluation.choices["a"].temperature is None
    assert any("an end of the range" in note for note in evaluation.notes)
    assert not [e for e in evaluation.estimates if e.metric.endswith("_scaled")]


def test_hours_classes_and_labels(tmp_path: Path) -> None:
    hours = judged(tmp_path, {"a": table(0.5, prediction_time=np.where(np.arange(N) % 2 == 0, 6.0, 30.0))})
    assert {e.group for e in hours.estimates if e.grouping == "hour"} == {"<12 h", "24-48 h"}

    rng = np.random.default_rng(0)
    of_class = rng.integers(3, size=N)
    prob = rng.dirichlet(np.ones(3), N) * 0.5 + 0.5 * np.eye(3)[of_class]
    ids = np.repeat(np.arange(N), 3)
    rows = pl.DataFrame(
        {
            "stay_id": ids,
            "output": np.tile(np.arange(3), N),
            "split": np.where(ids % 4 == 0, "val", "test"),
            "prediction": prob.ravel(),
            "label": np.eye(3)[of_class].ravel(),
        }
    )
    classes = judged(tmp_path, {"a": rows}, task_type="multiclass")
    test = np.arange(N) % 4 != 0
    expected = roc_auc_score(of_class[test] == 2, prob[test, 2])
    assert value(classes, "auroc", "2") == pytest.approx(expected)
    labels = judged(tmp_path, {"a": rows}, task_type="multilabel")
    assert value(labels, "auroc", "2") == pytest.approx(expected)
    assert len(labels.choices["a"].thresholds) == 3
    folder = write_evaluation(classes, EvaluateConfig(folder=str(tmp_path / "out")))
    assert not (folder / "decision_curve.csv").exists()


def test_ordered_classes_are_compared_with_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    of_class, ids = rng.integers(3, size=N), np.repeat(np.arange(N), 3)
    tables = {}
    for kind in ("ordinal", "multiclass"):
        prob = rng.dirichlet(np.ones(3), N) * 0.5 + 0.5 * np.eye(3)[of_class]
        columns = {"stay_id": ids, "output": np.tile(np.arange(3), N), "label": np.eye(3)[of_class].ravel()}
        columns |= {"split": np.where(ids % 4 == 0, "val", "test"), "prediction": prob.ravel()}
        tables[kind] = pl.DataFrame(columns).with_columns(task_type=pl.lit(kind))
    assert judged(tmp_path, tables).comparisons and judged(tmp_path, tables, task_type="multiclass")
    with pytest.raises(ValueError, match="state task types binary, multiclass"):
        judged(tmp_path, tables, task_type="binary")


def test_quantiles_are_held_to_what_they_promise(tmp_path: Path) -> None:
    normal = np.random.default_rng(0).normal(size=N)
    levels = {"q0.1": np.full(N, -1.2816), "q0.5": np.zeros(N), "q.9": np.full(N, 1.2816)}
    kind = {"task_type": ["regression"] * N, "prediction": np.zeros(N), "label": normal}
    evaluation = judged(tmp_path, {"a": table(0.5, **levels, **kind), "b": table(0.5, **kind)})
    test = normal[table(0.5)["split"].to_numpy() == "test"]
    assert value(evaluation, "coverage", "0.1") == pytest.approx(np.mean(test <= -1.2816))
    assert value(evaluation, "coverage", "0.1 to 0.9") == pytest.approx(0.8, abs=0.05)
    expected = mean_pinball_loss(test, np.full(len(test), 1.2816), alpha=0.9)
    assert value(evaluation, "pinball_loss", "0.9") == pytest.approx(expected)
    assert not [e for e in evaluation.estimates if e.grouping == "quantile" and e.model == "b"]


def test_fine_tuned_quantiles_reach_the_tables(cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    scratch = ["encoder=gru", "encoder.d_model=8", "checkpoint_path=null", "training.freeze_encoder=false"]
    done = cli("finetune", *on_tiny, *scratch, "task=length_of_stay", "task.loss=quantile", "hydra.run.dir=q")
    assert done.status == 0, done.err
    rows = pl.read_parquet(tmp_path / "q" / "predictions.parquet")
    assert (rows["q0.1"] <= rows["q0.5"]).all() and (rows["q0.5"] == rows["prediction"]).all()
    done = cli("evaluate", "predictions=[q]", "n_resamples=20", "folder=judged")
    assert done.status == 0, done.err
    metrics = pl.read_csv(tmp_path / "judged" / "metrics.csv")
    assert set(metrics.filter(grouping="quantile")["group"]) == {"0.1", "0.5", "0.9", "0.1 to 0.9"}


@pytest.mark.parametrize(
    ("tables", "options", "message"),
    [
        ({"a": table(0.5).drop("label")}, {}, "has no column label"),
        ({"a": table(0.5)}, {"reference": "b"}, "reference=b: no such model, only a"),
        ({"a": table(0.5, prediction=np.full(N, 1.5))}, {}, "no probabilities"),
        ({"a": table(0.5, patient_id=np.zeros(N, int))}, {}, "in both val and test"),
        ({"a": table(0.5), "b": table(0.5, label=np.zeros(N))}, {}, "different labels"),
        ({"a": table(0.5), "b": table(0.5).with_columns(stay_id=pl.col("stay_id") + N)}, {}, "same stays"),
    ],
)
def test_what_cannot_be_judged(
    tables: dict[str, pl.DataFrame], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        judged(tmp_path, tables, **options)


def test_from_fine_tuning_to_tables(cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    scratch = ["encoder=gru", "encoder.d_model=8", "checkpoint_path=null", "training.freeze_encoder=false"]
    done = cli("finetune", *on_tiny, *scratch, "hydra.run.dir=tuned")
    assert done.status == 0, done.err
    dataset = on_tiny[0].removeprefix("data.dataset_dir=")
    done = cli("evaluate", "predictions=[tuned]", f"groups={dataset}", "n_resamples=20", "folder=judged")
    assert done.status == 0, done.err
    found = {path.name for path in (tmp_path / "judged").iterdir()}
    assert found >= {"evaluation.json", "evaluation.md", "metrics.csv", "decision_curve.csv"}
    content = json.loads((tmp_path / "judged" / "evaluation.json").read_text())
    assert content["settings"]["threshold"] == "youden" and content["settings"]["n_resamples"] == 20
    assert content["task"] == "in_hospital_mortality"
    assert content["choices"]["gru+none"].keys() == {"temperature", "thresholds", "notes"}
    missing = cli("evaluate", "predictions=[nowhere]")
    assert missing.status == 2 and "no predictions at nowhere" in missing.err


@pytest.mark.slow
def test_a_task_with_a_label_a_step_is_judged_by_the_hour(
    cli: CommandLine, on_tiny: list[str], tmp_path: Path
) -> None:
    scratch = ["encoder=gru", "encoder.d_model=8", "checkpoint_path=null", "training.freeze_encoder=false"]
    windows = ["+data.window.length=24", "+data.window.stride=12"]
    for name, options in (("whole", []), ("windows", windows)):
        done = cli("finetune", *on_tiny, *scratch, *options, "task=deterioration", f"hydra.run.dir={name}")
        assert done.status == 0, done.err
    known = pl.read_parquet(tmp_path / "whole" / "predictions.parquet").drop_nulls("label")
    assert set(known["prediction_time"]) <= set(np.arange(4.0, 52.0, 4.0))
    options = ["predictions={whole: whole, windows: windows}", "n_resamples=20", "folder=judged"]
    done = cli("evaluate", *options)
    assert done.status == 0, done.err
    metrics = pl.read_csv(tmp_path / "judged" / "metrics.csv")
    of_hours = metrics.filter(grouping="hour", model="windows")
    assert set(of_hours["group"]) == {"<12 h", "12-24 h", "24-48 h", ">=48 h"}
    whole = metrics.filter(grouping="all", metric="auroc", model="whole")
    assert whole["rows"][0] == known.filter(split="test", output=1).height
