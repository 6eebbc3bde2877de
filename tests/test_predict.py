"""``slices-predict``: the same numbers as fine-tuning's own, from any source, labelled or not."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cli import CommandLine
from meds_raw import MAPPING, at, labels, rows, stay
from models import KINDS, made
from slices.training.data.store import StayStore
from slices.training.errors import UserError
from slices.training.evaluation.report.files import read_predictions
from slices.training.evaluation.selection import scaled
from slices.training.serving import Ensemble, load_model, save_model
from slices.training.serving.predicting import Predictor
from slices.training.serving.streaming import write_stream

SAME = ("stay_id", "patient_id", "prediction_time", "step", "output")


def predicted(cli: CommandLine, *words: str) -> pl.DataFrame:
    done = cli("predict", *words, "hydra.run.dir=predicted")
    assert done.status == 0, done.err
    return pl.read_parquet("predicted/predictions.parquet")


def write_csv(store: StayStore, folder: Path) -> list[str]:
    """The stays of a dataset as a user's table, in raw units, without any label."""
    names = np.asarray([variable.name for variable in store.variables])
    stays = np.repeat(store.stay_id, np.diff(store.offsets))
    table = {"stay_id": stays, "time": store.time, "variable": names[store.variable], "value": store.value}
    pl.DataFrame(table).write_csv(folder / "rows.csv")
    store.stays.select("stay_id", "patient_id", "length_hours").write_csv(folder / "stays.csv")
    return [
        "data=table",
        f"data.source.raw={folder / 'rows.csv'}",
        f"data.source.stays={folder / 'stays.csv'}",
    ]


@pytest.mark.parametrize(
    "task",
    [
        "in_hospital_mortality",
        pytest.param("organ_failure", marks=pytest.mark.slow),
        pytest.param("deterioration", marks=pytest.mark.slow),
    ],
)
def test_a_table_in_raw_units_gives_the_test_predictions_of_fine_tuning(
    task: str, cli: CommandLine, on_tiny: list[str], dataset_dir: Path, tmp_path: Path
) -> None:
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=8"]
    done = cli("finetune", *on_tiny, *scratch, f"task={task}", "hydra.run.dir=tuned")
    assert done.status == 0, done.err
    assert re.search(r"hatch run train:predict model=\S+tuned data=", done.out)
    theirs = pl.read_parquet("tuned/predictions.parquet")
    table = write_csv(StayStore(dataset_dir), tmp_path)
    ours = predicted(cli, "model=tuned", *table, "calibrate=false")
    assert ours["label"].null_count() == len(ours) and set(ours["split"]) == {"test"}
    assert set(theirs.columns) <= set(ours.columns)
    both = theirs.join(ours, on=SAME, how="left", suffix="_new", nulls_equal=True)
    real = both.filter(pl.col("label").is_not_null())  # fine-tuning also writes padded steps
    assert len(real) and real["prediction_new"].null_count() == 0
    np.testing.assert_allclose(real["prediction_new"], real["prediction"], atol=1e-5)
    assert ours["stay_id"].n_unique() == len(StayStore(dataset_dir))  # also those without a label
    calibrated = predicted(cli, "model=tuned/model.safetensors", *table)
    temperature = load_model("tuned/model.safetensors").info.temperature or 1.0
    expected = scaled(ours["prediction"].to_numpy().astype(float), temperature)  # of each class or label
    np.testing.assert_allclose(calibrated["prediction"], expected, atol=1e-4)
    assert calibrated["predicted"].equals(ours["predicted"])


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "stays" else pytest.param(kind, marks=pytest.mark.slow) for kind in sorted(KINDS)],
)
def test_labels_are_put_beside_where_the_data_has_them(
    kind: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """The rows are those of fine-tuning's own file, labels and split included."""
    model, _, data, file = made(tiny, tmp_path, kind)
    at_labels = None if model.info.task.per_step else "labels"
    predictor = Predictor(Ensemble({"one": model.uncalibrated()}), data.store, at=at_labels)
    found = pl.concat(predictor.tables(17))
    expected = pl.read_parquet(file)
    if model.info.task.per_step:  # steps without a label are predicted too
        expected = expected.filter(pl.col("label").is_not_null())
    key = [*SAME, "split"]
    both = expected.join(found, on=key, how="left", suffix="_new")
    assert len(both) == len(expected) and both["prediction_new"].null_count() == 0
    np.testing.assert_allclose(both["prediction_new"], both["prediction"], atol=1e-5)
    assert both["label_new"].equals(both["label"], check_names=False)
    for name in ("q0.1", "q0.5", "q0.9") if kind == "quantiles" else ():
        np.testing.assert_allclose(both[f"{name}_new"], both[name], atol=1e-4)
    assert set(found["split"]) == {"train", "val", "test"}
    found.write_parquet(tmp_path / "new.parquet")
    if kind != "regression":
        assert read_predictions([str(tmp_path / "new.parquet")]).task == model.task.task_name


def test_stays_are_asked_at_the_hours_given(tiny: dict[str, Any], tmp_path: Path) -> None:
    model, _, data, _ = made(tiny, tmp_path)
    ensemble = Ensemble({"one": model})
    usual = pl.concat(Predictor(ensemble, data.store).tables(50))
    assert set(usual["prediction_time"]) == {48.0}  # that of the training labels
    twice = pl.concat(Predictor(ensemble, data.store, at=(12.0, 48.0)).tables(50))
    assert len(twice) == 2 * len(usual)
    late = twice.filter(pl.col("prediction_time") == 48)
    np.testing.assert_allclose(late["prediction"], usual["prediction"], atol=1e-6)
    early = twice.filter(pl.col("prediction_time") == 12)
    assert not np.allclose(early["prediction"], usual["prediction"])
    with pytest.raises(UserError, match=r"at=72.*0 to the horizon, 48"):
        Predictor(ensemble, data.store, at=(72.0,))
    steps, _, data, _ = made(tiny, tmp_path, "a step")
    with pytest.raises(UserError, match="every step"):
        Predictor(Ensemble({"one": steps}), data.store, at=(12.0,))


def test_a_step_of_overlapping_windows_is_told_once(tiny: dict[str, Any], tmp_path: Path) -> None:
    """By the first window that holds it, which is the one it was trained in."""
    section = tiny | {"window": {"length": 16.0, "stride": 8.0}}
    model, _, data, file = made(section, tmp_path, "a step")
    found = pl.concat(Predictor(Ensemble({"one": model.uncalibrated()}), data.store).tables(50))
    times = found.filter(pl.col("output") == 0).group_by("stay_id").agg("prediction_time")
    assert all(sorted(of_stay) == [4.0 * k for k in range(1, 13)] for of_stay in times["prediction_time"])
    expected = pl.read_parquet(file).filter(pl.col("label").is_not_null())
    both = expected.join(found, on=["stay_id", "prediction_time", "output"], suffix="_new")
    assert len(both) == len(expected)
    np.testing.assert_allclose(both["prediction_new"], both["prediction"], atol=1e-5)


@pytest.mark.slow
def test_several_models_give_their_mean_and_range(
    cli: CommandLine, tiny: dict[str, Any], tmp_path: Path
) -> None:
    files = []
    for seed in range(3):
        model = made(tiny, tmp_path, "prefixes", seed=seed).model
        files.append(save_model(tmp_path / f"run/{seed}/model.safetensors", model))
    (tmp_path / "run/multirun.yaml").write_text("")  # as Hydra leaves it
    (tmp_path / "run/note.txt").write_text("not a member")
    words = [f"data.dataset_dir={tiny['dataset_dir']}", "data.source.n_stays=120", "at=[24]"]
    each = [predicted(cli, f"model={file}", *words) for file in files]
    together = predicted(cli, f"model={tmp_path / 'run'}", *words)
    listed = predicted(cli, f"model=[{','.join(map(str, files))}]", *words)
    assert together.equals(listed)
    assert set(together["model"]) == {"gru+none (mean of 3)"}
    assert "lower" not in each[0].columns
    all_three = np.stack([one["prediction"].to_numpy() for one in each])
    np.testing.assert_allclose(together["prediction"], all_three.mean(0), atol=1e-6)
    np.testing.assert_allclose(together["lower"], all_three.min(0), atol=1e-6)
    np.testing.assert_allclose(together["upper"], all_three.max(0), atol=1e-6)
    edge = np.mean([load_model(file).thresholds[0] for file in files])
    alarm = together.filter(pl.col("output") == 1)
    assert alarm["predicted"].to_list() == (alarm["prediction"] >= edge).cast(pl.Float32).to_list()


def test_models_that_cannot_be_averaged_are_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    one = made(tiny, tmp_path).model
    other = made(tiny | {"resolution": 8.0}, tmp_path, "prefixes").model
    with pytest.raises(UserError, match=r"a and b cannot be averaged \(task: .*view: "):
        Ensemble({"a": one, "b": other})


@pytest.fixture
def saved(tiny: dict[str, Any], tmp_path: Path) -> str:
    return str(save_model(tmp_path / "model.pt", made(tiny, tmp_path).model))


def csv(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("stay_id,time,variable,value", *lines)))
    return f"data.source.raw={path}"


def test_one_stay_of_a_few_rows_is_enough(cli: CommandLine, saved: str, tmp_path: Path) -> None:
    raw = csv(tmp_path / "new.csv", "7,0,age,70", "7,1,heart_rate,120", "7,30,lactate,4.5")
    found = predicted(cli, f"model={saved}", "data=table", raw)
    assert found["stay_id"].to_list() == [7, 7] and found["prediction"].sum() == pytest.approx(1)
    assert not list(Path("predicted").glob(".dataset-*")) and not Path("datasets").exists()
    done = cli("predict", f"model={saved}", "data=table", raw)
    assert "heart_rate in bpm" in done.out and "never measured in this table: sbp" in done.out
    assert "1 of 1 stays end before the hour" in done.out


def test_a_name_that_the_model_does_not_know_is_refused(cli: CommandLine, saved: str, tmp_path: Path) -> None:
    raw = csv(tmp_path / "new.csv", "7,1,heart_rate,120", "7,2,HeartRate,121")
    done = cli("predict", f"model={saved}", "data=table", raw)
    assert done.status == 2 and "does not know HeartRate" in done.err and "adapt_variables=true" in done.err
    alone = csv(tmp_path / "alone.csv", "7,1,heart_rate,120")
    adapted = predicted(cli, f"model={saved}", "data=table", raw, "adapt_variables=true")
    assert adapted.equals(predicted(cli, f"model={saved}", "data=table", alone))


@pytest.mark.slow
def test_another_source_must_have_the_variables_in_their_units(
    cli: CommandLine, saved: str, tmp_path: Path
) -> None:
    raw = csv(tmp_path / "new.csv", "7,1,hr,120")
    words = [f"model={saved}", "data=table", raw, "data.source.vocabulary=icu"]
    done = cli("predict", *words)
    assert done.status == 2 and "missing: heart_rate" in done.err
    assert " adapt_variables=true" in done.err and "training." not in done.err
    done = cli("predict", *words, "adapt_variables=true")  # what has the same name has another unit
    assert done.status == 2 and "other units than expected" in done.err
    (tmp_path / "mine.yaml").write_text("heart_rate: {unit: bpm, static: true}\n")
    words = [f"model={saved}", "data=table", raw, f"data.source.vocabulary={tmp_path / 'mine.yaml'}"]
    csv(tmp_path / "new.csv", "7,0,heart_rate,120")
    done = cli("predict", *words, "adapt_variables=true")
    assert done.status == 2 and "which variables are static" in done.err and "heart_rate (static)" in done.err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ([], "model is missing"),
        (["model=nowhere"], "no model at nowhere"),
        (["model={saved}", "data.resolution=1"], "data.resolution=1: stays are cut and taken as the model"),
        (["model={saved}", "data.splits.fold=1"], "leave it out"),
        (["model={saved}", "at=[]"], "at=[]"),
        (["model={saved}", "at=noon"], "at"),
        (["model={saved}", "device=abacus"], "device=abacus"),
        (["model={saved}", "dataset=nowhere"], "no dataset at nowhere"),
        (["model=[{saved},{saved}]"], "given twice"),
        (["model={saved}", "format=meds"], "only knows hours since admission"),
    ],
)
def test_mistakes_are_answered(
    words: list[str], answer: str, cli: CommandLine, saved: str, on_tiny: list[str]
) -> None:
    done = cli("predict", *(word.format(saved=saved) for word in words), *on_tiny[:2])
    assert done.status == 2 and answer in done.err
    assert not list(Path().glob("outputs/predict/*/predictions.parquet"))


def test_a_prepared_dataset_is_taken_by_its_folder(
    cli: CommandLine, saved: str, tiny: dict[str, Any], on_tiny: list[str]
) -> None:
    by_source = predicted(cli, f"model={saved}", *on_tiny[:2])
    assert predicted(cli, f"model={saved}", f"dataset={tiny['dataset_dir']}").equals(by_source)
    assert by_source["label"].null_count() == 0


def test_a_table_is_written_as_it_comes_or_not_at_all(tmp_path: Path) -> None:
    schema = pl.Schema({"a": pl.Int64})
    file = tmp_path / "a.parquet"
    assert write_stream(file, (pl.DataFrame({"a": range(40_000)}) for _ in range(4)), schema) == 160_000
    assert pl.read_parquet(file)["a"].sum() == 4 * sum(range(40_000))
    assert write_stream(tmp_path / "none.parquet", iter(()), schema) == 0

    def breaks() -> Any:
        yield pl.DataFrame({"a": [1]})
        raise UserError("of the second")

    with pytest.raises(UserError, match="of the second"):
        write_stream(tmp_path / "b.parquet", breaks(), schema)
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "none.parquet"}


@pytest.fixture
def meds(tmp_path: Path) -> list[str]:
    """A MEDS dataset of 60 subjects, the older half of whom die; their labels are for hour 20 of the stay."""
    raw, subjects = tmp_path / "raw", range(1, 61)
    table = []
    for subject in subjects:
        table += [*stay(subject, subject, subject + 30), (subject, subject + 5.0, "HR//x", 60.0 + subject)]
    (raw / "data").mkdir(parents=True)
    rows(*table).sort("subject_id", "time").write_parquet(raw / "data/0.parquet")
    labels(*((s, s + 20.0, s > 30) for s in subjects)).write_parquet(raw / "died.parquet")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return [
        "data=meds",
        f"data.source.raw={raw}",
        f"data.source.mapping={tmp_path / 'mapping.yaml'}",
        "data.source.stays={start: IN//*, end: OUT_OF//*}",
        "+data.source.labels.died={file: died.parquet, task_type: binary, classes: [lived, died]}",
        f"data.dataset_dir={tmp_path / 'meds'}",
    ]


@pytest.mark.slow
def test_meds_predictions_are_in_the_schema_of_meds(cli: CommandLine, meds: list[str]) -> None:
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=8"]
    task = ["task=from_data", "task.task_name=died", "training.max_epochs=1", "data.splits.val_fraction=0.3"]
    done = cli("finetune", *meds, *scratch, *task, "hydra.run.dir=tuned")
    assert done.status == 0, done.err
    found = predicted(cli, "model=tuned", *meds, "format=meds", "at=labels")
    assert dict(found.schema) == {
        "subject_id": pl.Int64,
        "prediction_time": pl.Datetime("us"),
        "boolean_value": pl.Boolean,
        "predicted_boolean_value": pl.Boolean,
        "predicted_boolean_probability": pl.Float32,
    }
    found = found.sort("subject_id")
    assert found["subject_id"].to_list() == list(range(1, 61))
    assert found["prediction_time"].to_list() == [at(s + 20.0) for s in range(1, 61)]
    assert found["boolean_value"].to_list() == [s > 30 for s in range(1, 61)]
    plain = predicted(cli, "model=tuned", *meds).filter(pl.col("output") == 1).sort("patient_id")
    assert found["predicted_boolean_probability"].to_list() == plain["prediction"].to_list()
    assert found["predicted_boolean_value"].to_list() == (plain["predicted"] == 1).to_list()
    if importlib.util.find_spec("meds_evaluation"):
        from meds_evaluation.schema import PredictionSchema

        PredictionSchema.validate(found.to_arrow())
    unlabelled = predicted(cli, "model=tuned", *meds, "format=meds").sort("subject_id")
    assert unlabelled.equals(found.drop("boolean_value"))  # which MEDS wants whole or not at all


def test_meds_predictions_are_of_binary_tasks(tiny: dict[str, Any], cli: CommandLine, tmp_path: Path) -> None:
    file = save_model(tmp_path / "model.pt", made(tiny, tmp_path, "regression").model)
    words = [f"data.dataset_dir={tiny['dataset_dir']}", "data.source.n_stays=120"]
    done = cli("predict", f"model={file}", "format=meds", *words)
    assert done.status == 2 and "of binary tasks" in done.err


def test_a_window_is_the_hours_before_the_prediction(tiny: dict[str, Any], tmp_path: Path) -> None:
    """As in training, where a sample is what was known at a label's time."""
    section = tiny | {"window": {"length": 16.0, "stride": 16.0}}
    model, _, data, file = made(section, tmp_path, "prefixes")
    expected = pl.read_parquet(file)
    hours = tuple(sorted(set(expected["prediction_time"])))
    found = pl.concat(Predictor(Ensemble({"one": model.uncalibrated()}), data.store, at=hours).tables(500))
    both = expected.join(found, on=list(SAME), how="left", suffix="_new")
    np.testing.assert_allclose(both["prediction_new"], both["prediction"], atol=1e-5)
