"""A survival task from the records, or a user's table, to a judged model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from omegaconf import DictConfig

from cli import CommandLine
from quick import choose, data_for, trainer_for
from slices.heads import survival_label, survival_loss
from slices.training import FineTuneModule
from slices.training.data.definitions import build_definitions, define
from slices.training.data.report import describe_dataset, report_text
from slices.training.data.schema import EVENT_SCHEMA
from slices.training.intervals import quantile_ends

ASKED = ["data/definitions=time_to_death", "task=time_to_death"]
SCRATCH = [
    "checkpoint_path=null",
    "training.freeze_encoder=false",
    "encoder=gru",
    "encoder.d_model=16",
    "data.resolution=4",
    "training.max_epochs=2",
]
SMALL = ["data.source.n_stays=300", "data.dataset_dir=made", "hydra.run.dir=tuned", "task.n_classes=4"]


def typed(cli: CommandLine, app: str, *arguments: str) -> str:
    done = cli(app, *arguments)
    assert done.status == 0, done.err
    return done.out


def predictions() -> pl.DataFrame:
    return pl.read_parquet("tuned/predictions.parquet").filter(pl.col("split") == "test")


@pytest.mark.parametrize("discharge", ["competes", "censors"])
def test_death_in_hospital_goes_from_the_records_to_a_judged_model(discharge: str, cli: CommandLine) -> None:
    chosen = [f"data.definitions.time_to_death.discharge={discharge}"]
    out = typed(cli, "finetune", *ASKED, *chosen, *SCRATCH, *SMALL)
    assert "test/concordance" in out and "test/integrated_brier" in out
    events = 2 if discharge == "competes" else 1
    table = predictions()
    grid = table.select("output", "event", "until").unique().sort("output")
    assert grid["event"].to_list() == [event for event in range(1, events + 1) for _ in range(4)]
    assert grid["until"][:4].is_sorted() and grid["until"][:4].to_list() == grid["until"][-4:].to_list()
    status = table.filter(event=1, label=1.0)
    assert (status["label_event"] == 1).all() and (status["label_time"] <= status["until"]).all()
    if events == 2:  # all is known, and by the last hour the two have come to at most 1
        assert table["label"].null_count() == 0
        last = table.filter(pl.col("until") == pl.col("until").max())
        assert last.group_by("stay_id").agg(pl.col("prediction").sum())["prediction"].max() <= 1 + 1e-5  # type: ignore[operator]

    printed = typed(cli, "evaluate", "predictions=[tuned]", "n_resamples=50", "folder=judged")
    assert "concordance" in printed and "integrated_brier ↓" in printed
    found = {e["metric"]: e for e in json.loads(Path("judged/evaluation.json").read_text())["metrics"]}
    wanted = {f"{name}{of}" for name in ("concordance", "integrated_brier") for of in ("", "_2")[:events]}
    assert set(found) == wanted
    for metric in ("concordance", "integrated_brier"):
        logged = float(out.split(f"test/{metric}: ")[1].split()[0])
        assert found[metric]["estimate"] == pytest.approx(logged, abs=1e-3)
        assert found[metric]["low"] <= found[metric]["estimate"] <= found[metric]["high"]


@pytest.mark.slow
@pytest.mark.parametrize("discharge", [pytest.param("competes", marks=pytest.mark.slow), "censors"])
def test_new_stays_get_the_incidences_of_fine_tuning(discharge: str, cli: CommandLine) -> None:
    """Labels are put beside where the data has them; of two models there is the range."""
    chosen = [f"data.definitions.time_to_death.discharge={discharge}"]
    for seed in ("0", "1"):
        typed(
            cli, "finetune", *ASKED, *chosen, *SCRATCH, *SMALL, "seed=" + seed, "hydra.run.dir=tuned" + seed
        )
    again = ["dataset=made", "hydra.run.dir=new"]
    typed(cli, "predict", "model=tuned0", "at=labels", *again)
    theirs, ours = (pl.read_parquet(f"{run}/predictions.parquet") for run in ("tuned0", "new"))
    key = ["stay_id", "prediction_time", "output", "split"]
    both = theirs.join(ours, on=key, how="left", suffix="_new")
    assert len(both) == len(theirs) > 0 and both["prediction_new"].null_count() == 0
    for name in ("prediction", "event", "until", "label", "label_time", "label_event"):
        np.testing.assert_allclose(both[f"{name}_new"].to_numpy(), both[name].to_numpy(), atol=1e-5)
    events = ["death", "discharge alive"][: ours["event"].n_unique()]
    assert ours["class"].unique().sort().to_list() == events
    typed(cli, "evaluate", "predictions=[new]", "n_resamples=20", "folder=judged")

    typed(cli, "predict", "model=[tuned0,tuned1]", *again)
    mean = pl.read_parquet("new/predictions.parquet")
    assert (mean["lower"] <= mean["prediction"]).all() and (mean["prediction"] <= mean["upper"]).all()
    if discharge == "competes":
        given = ["task.interval_ends=[24,48,96,960]", "hydra.run.dir=other"]
        typed(cli, "finetune", *ASKED, *SCRATCH, *SMALL, *given)
        done = cli("predict", "model=[tuned0,other]", *again)
        assert done.status == 2 and "interval_ends: (" in done.err, done.err


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """Stays of a day, whose heart rate tells how soon they die; every fifth is watched for 10 hours only."""
    rng = np.random.default_rng(0)
    stay = np.arange(200)
    hours = rng.uniform(1, 30, len(stay)).round(2)
    watched = np.where(stay % 5 == 0, np.minimum(hours, 10), hours)
    rows = pl.DataFrame({"stay_id": stay, "time": 1.0, "variable": "hr", "value": 150 - 3 * hours})
    rows.write_csv(tmp_path / "rows.csv")
    pl.DataFrame({"stay_id": stay, "length_hours": 24.0}).write_csv(tmp_path / "stays.csv")
    labels = {"stay_id": stay, "prediction_time": 24.0, "value": watched, "event": (watched == hours) * 1}
    pl.DataFrame(labels).write_csv(tmp_path / "labels.csv")
    files = [f"data.source.{name}={name}.csv" for name in ("stays", "labels")]
    task = "+data.source.tasks.death={task_type: survival, classes: [death]}"
    return ["data=table", "data.source.raw=rows.csv", *files, task, "data.dataset_dir=made"]


@pytest.mark.slow
def test_hours_and_event_of_ones_own_table(cli: CommandLine, table: list[str]) -> None:
    of_task = ["task=from_data", "task.task_name=death", "task.interval_ends=[6,12,18,24,30]"]
    longer = ["training.max_epochs=15", "optimizer.lr=0.02", "hydra.run.dir=tuned"]
    out = typed(cli, "finetune", *table, *of_task, *SCRATCH[:-1], *longer)
    assert float(out.split("test/concordance: ")[1].split()[0]) > 0.8
    raw = pl.read_csv("labels.csv").select("stay_id", "value", "event")
    got = predictions().select("stay_id", "label_time", "label_event").unique().sort("stay_id")
    joined = got.join(raw, on="stay_id")
    assert len(joined) == len(got) > 0
    assert joined["label_time"].to_list() == pytest.approx(joined["value"].to_list(), abs=1e-4)
    assert joined["label_event"].to_list() == joined["event"].to_list()
    later = predictions().filter(pl.col("label_event") == 0, pl.col("until") > 10)
    assert len(later) and later["label"].null_count() == len(later)  # who was watched for 10 hours only


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"event": pl.lit(2)}, "is not an event from 0 (censored) to 1"),
        ({"value": pl.lit(-3.0)}, "is a time before the prediction time"),
        ({"event": pl.lit(None, pl.Int64)}, "is not of two numbers"),
        ({"event": pl.lit("dead")}, "'aaaa' is no number"),
    ],
)
def test_labels_that_are_no_hours_and_event(
    change: dict[str, pl.Expr], answer: str, cli: CommandLine, table: list[str]
) -> None:
    first = pl.int_range(pl.len()) == 7
    labels = pl.read_csv("labels.csv").cast({"event": pl.String})
    labels.with_columns(
        pl.when(first).then(value.cast(labels.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in change.items()
    ).write_csv("labels.csv")
    done = cli("prepare", *table)
    assert done.status == 2 and answer in done.err, done.err


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["task.interval_ends=[12,6]"], "ascending"),
        (["task.interval_ends=[6,12,18]"], "n_classes=4"),
        (["task.n_classes=60"], "quantiles that differ"),
        (["task.n_risks=3"], "has 2 events in the data (death, discharge alive)"),
        (["task.class_weight=balanced"], "a survival has no classes"),
    ],
)
def test_what_cannot_be_is_refused(options: list[str], answer: str, cli: CommandLine) -> None:
    done = cli("finetune", *ASKED, *SCRATCH, *SMALL, *options)
    assert done.status == 2 and answer in done.err, done.err


def test_the_loss_is_the_likelihood_and_a_checkpoint_knows_its_intervals(
    finetune_config: DictConfig, tiny: dict[str, object], tmp_path: Path
) -> None:
    section = tiny | {
        "definitions": {"time_to_death": {"kind": "time_to_death"}},
        "dataset_dir": str(tmp_path / "made"),
    }
    config = choose(finetune_config, task="time_to_death", encoder="gru")
    config.data, config.encoder, config.training = section, {"d_model": 16}, {"freeze_encoder": False}
    config.task = {"n_classes": 3}
    data = data_for(section, "time_to_death")
    data.prepare_data()
    module = FineTuneModule(config)
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=data)
    label, _ = data.split_labels("train")
    ends = quantile_ends(label[label[:, 1] > 0, 0], 3)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = FineTuneModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    batch = data.cut(data.splits["test"])
    outputs = again.predict_step(batch, 0)
    assert outputs["until"].tolist() == pytest.approx(ends)
    logits = again(*(batch[name] for name in ("timeseries", "mask", "padding_mask", "times", "counts")))[
        "logits"
    ]
    wanted = survival_loss(logits, survival_label(*batch["label"].T.contiguous(), torch.tensor(ends)))
    torch.testing.assert_close(again.task_loss(logits, again.target(batch["label"])), wanted)


def test_a_share_of_the_labels_has_both_events_and_the_report_counts_them(cli: CommandLine) -> None:
    typed(cli, "prepare", ASKED[0], *SMALL[:2])
    section = {
        "source": {"name": "synthetic", "n_stays": 300},
        "definitions": {"time_to_death": {"kind": "time_to_death"}},
        "dataset_dir": "made",
        "label_fraction": 0.1,
    }
    data = data_for(section, "time_to_death")
    data.setup()
    (label, known), few = data.split_labels("train"), len(data.splits["train"])
    assert known.all() and 15 < few < 30 and set(label[:, 1].tolist()) == {1.0, 2.0}
    report = describe_dataset(data.store)
    (task,) = (task for task in report.tasks if task.task.name == "time_to_death")
    rows = data.store.labels("time_to_death").filter(pl.col("column") == 1)
    assert task.overall.labels == len(rows) == task.overall.stays
    assert task.overall.numbers["death"] == pytest.approx(rows.filter(value=1).height / len(rows))
    assert task.stays_with == {
        "censored": 0,
        "death": rows.filter(value=1).height,
        "discharge alive": rows.filter(value=2).height,
    }
    assert "discharge alive" in report_text(report)


def test_definition_takes_what_the_outcomes_say() -> None:
    """Death by its own hour where that is known, else by the end of the days in the hospital."""
    outcomes = pl.DataFrame(
        {
            "stay_id": [1, 2, 3, 4, 5],
            "died_in_hospital": [True, True, False, None, True],
            "death_hours": [30.0, None, None, None, 20.0],
            "hospital_hours": [31.0, 50.0, 40.0, 60.0, 20.0],
        }
    )
    stays = pl.DataFrame(
        {
            "stay_id": [1, 2, 3, 4, 5],
            "patient_id": [1, 2, 3, 4, 5],
            "set": ["a"] * 5,
            "length_hours": [30.0] * 5,
        }
    )
    for discharge, code in (("competes", 2.0), ("censors", 0.0)):
        (definition,) = build_definitions({"t": {"kind": "time_to_death", "discharge": discharge}})
        found = define(definition, stays, EVENT_SCHEMA.to_frame(), outcomes, ())
        assert found.sort("stay_id", "column")["value"].to_list() == [6.0, 1.0, 26.0, 1.0, 16.0, code]
        assert found["stay_id"].unique().sort().to_list() == [1, 2, 3]
