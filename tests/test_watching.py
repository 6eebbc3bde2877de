"""A collapse is seen while it happens, a healthy run is left alone, and nobody notices being watched."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cli import CommandLine
from quick import data_for, trainer_for
from slices.ssl import BaseSSLObjective, SSLConfig, list_objectives
from slices.ssl.encoding import complete, pool_stay
from slices.ssl.factory import CONFIG_REGISTRY, SSL_REGISTRY
from slices.training import SSLPretrainModule, StayDataModule
from slices.training.callbacks import EpochLine
from slices.training.config import WatchConfig
from slices.training.watching import Watch, untouched

CONFIG: dict[str, Any] = {
    "encoder": {"name": "transformer", "d_model": 16, "n_layers": 1, "n_heads": 2, "dropout": 0.0},
    "optimizer": {"name": "adamw", "lr": 1.0e-2, "weight_decay": 0.0},
}


class Pulled(BaseSSLObjective):
    """Draws all embeddings to their mean: one point."""

    def forward(self, x, mask, padding_mask=None, times=None):  # type: ignore[no-untyped-def, override]
        rows = nn.functional.normalize(pool_stay(self.encode(complete(x, mask, padding_mask, times))), dim=-1)
        return self.pull(rows), {}

    def pull(self, rows: Tensor) -> Tensor:
        return 100 * (rows - rows.mean(0)).square().sum(-1).mean()


class Flattened(Pulled):
    """Draws all embeddings onto one line, and keeps them apart on it."""

    def pull(self, rows: Tensor) -> Tensor:
        along = rows - rows.mean(0)
        return 100 * along[:, 1:].square().sum(-1).mean() - along[:, 0].std(correction=0)


@pytest.fixture
def broken() -> Iterator[None]:
    for name, objective in (("pulled", Pulled), ("flattened", Flattened)):
        SSL_REGISTRY[name], CONFIG_REGISTRY[name] = objective, SSLConfig
    yield
    for name in ("pulled", "flattened"):
        del SSL_REGISTRY[name], CONFIG_REGISTRY[name]


@pytest.fixture
def data(tiny: dict[str, Any]) -> StayDataModule:
    module = data_for(tiny)
    module.prepare_data()
    return module


def module_of(tiny: dict[str, Any], **ssl: Any) -> SSLPretrainModule:
    torch.manual_seed(0)
    return SSLPretrainModule(CONFIG | {"ssl": ssl, "data": tiny})


def fit(
    folder: Path, module: SSLPretrainModule, data: StayDataModule, watch: Watch | None, **options: Any
) -> Any:
    trainer = trainer_for(folder, callbacks=[] if watch is None else [watch], **options)
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pulled", "one point"),
        pytest.param("flattened", "few dimensions", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("broken")
def test_a_collapse_raises_the_alarm_once_and_at_the_end(
    name: str,
    words: str,
    tmp_path: Path,
    tiny: dict[str, Any],
    data: StayDataModule,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = Watch(WatchConfig(every_n_steps=8), data)
    with caplog.at_level(logging.WARNING, logger="slices.training.watching"):
        trainer = fit(tmp_path, module_of(tiny, name=name), data, watch, max_epochs=30)
    *alarms, last = [record.getMessage() for record in caplog.records]
    assert trainer.global_step == 90  # nobody stopped it
    assert "step 90: the embedding ended up collapsing" in last and words in last
    said = [line.split("is collapsing to ")[1].split(":")[0] for line in alarms]
    assert said[-1] == words and all("at the start" in line for line in alarms)
    assert all(
        one != next_ for one, next_ in pairwise(said)
    )  # of eleven looks, those where it became another


@pytest.mark.usefixtures("broken")
def test_a_run_that_collapses_can_be_stopped(
    tmp_path: Path, tiny: dict[str, Any], data: StayDataModule
) -> None:
    watch = Watch(WatchConfig(every_n_steps=4, on_collapse="stop"), data)
    trainer = fit(tmp_path, module_of(tiny, name="pulled"), data, watch, max_epochs=30)
    assert trainer.global_step < 90
    assert watch.wrong is not None and "one point" in watch.wrong
    state = Watch(WatchConfig(), data)
    state.load_state_dict(watch.state_dict())
    assert (state.start, state.wrong) == (watch.start, watch.wrong)


HEALTHY = ("mae", "contrastive", "jepa")


@pytest.mark.parametrize(
    "name",
    [
        name if name in HEALTHY else pytest.param(name, marks=pytest.mark.slow)
        for name in list_objectives()
        if name != "sum"
    ],
)
def test_a_healthy_run_is_left_alone(
    name: str, tmp_path: Path, tiny: dict[str, Any], data: StayDataModule, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"labels": "in_hospital_mortality"} if name == "supervised_contrastive" else {}
    torch.manual_seed(0)
    module = SSLPretrainModule(CONFIG | {"ssl": {"name": name}, "data": tiny} | labels)
    with caplog.at_level(logging.WARNING, logger="slices.training.watching"):
        if name == "supervised_contrastive":
            labelled = data_for(tiny, "in_hospital_mortality")
            fit(tmp_path, module, labelled, Watch(WatchConfig(every_n_steps=3), data), max_epochs=6)
        else:
            fit(tmp_path, module, data, Watch(WatchConfig(every_n_steps=3), data), max_epochs=6)
    assert not [record for record in caplog.records if "collapsing" in record.getMessage()]


def test_nobody_notices_being_watched(tmp_path: Path, tiny: dict[str, Any], data: StayDataModule) -> None:
    """Weights are the same bit for bit; dropout is on, so that a random number more would show."""
    config = CONFIG | {"encoder": CONFIG["encoder"] | {"dropout": 0.2}, "ssl": {"name": "mae"}, "data": tiny}
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        module = SSLPretrainModule(config)
        watch = Watch(WatchConfig(every_n_steps=1, task="length_of_stay_class"), data) if watched else None
        seen_last = fit(tmp_path / str(watched), module, data, watch, max_epochs=2).callback_metrics
        assert ("probe/auroc" in seen_last) == watched
        assert module.objective.encoder.training
        ends.append((module.state_dict(), torch.get_rng_state()))
    (plain, chance), (seen, chance_seen) = ends
    assert all(torch.equal(plain[name], seen[name]) for name in plain)
    assert torch.equal(chance, chance_seen)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_chance_are_put_back(
    fails: bool, tmp_path: Path, tiny: dict[str, Any], data: StayDataModule
) -> None:
    module = module_of(tiny, name="jepa")  # its teacher is always in evaluation mode
    fit(tmp_path, module, data, None)
    module.train()
    module.objective.encoder.blocks.eval()  # type: ignore[union-attr, operator]
    modes, chance = [part.training for part in module.modules()], torch.get_rng_state()
    with contextlib.suppress(KeyError), untouched(module):
        assert not any(part.training for part in module.modules())
        assert not (torch.rand(3) * next(module.parameters()).sum()).requires_grad
        if fails:
            raise KeyError
    assert [part.training for part in module.modules()] == modes and len(set(modes)) == 2
    assert torch.equal(torch.get_rng_state(), chance)


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
@pytest.mark.filterwarnings("ignore:Using.*precision")
def test_it_watches_in_the_precision_of_training(
    precision: str, tmp_path: Path, tiny: dict[str, Any], data: StayDataModule
) -> None:
    watch = Watch(WatchConfig(every_n_steps=3, task="length_of_stay_class"), data)
    fit(tmp_path, module_of(tiny, name="contrastive"), data, watch, precision=precision)
    assert watch.start is not None and watch.start.rank > 2


def test_what_was_seen_is_logged(cli: CommandLine, on_tiny: list[str]) -> None:
    words = ["encoder=gru", "encoder.d_model=16", "watch.task=length_of_stay_class", "watch.every_n_steps=3"]
    words += ["data.splits.val_fraction=0.4"]
    done = cli("pretrain", *on_tiny, *words, "training.max_epochs=2", "hydra.run.dir=run")
    assert done.status == 0, done.err
    seen = pl.read_csv("run/logs/metrics.csv").drop_nulls("embedding/rank")
    assert seen["step"].to_list()[0] == 0 and len(seen) >= 3
    for name in ("embedding/std", "embedding/uniformity", "embedding/alignment"):
        assert seen[name].is_finite().all()
    for name in ("probe/auroc", "probe/auprc", "knn/auroc", "knn/auprc"):
        assert seen[name].is_between(0, 1).all()


@pytest.mark.usefixtures("broken")
def test_a_stopped_run_fails_and_writes_no_encoder_for_fine_tuning(
    cli: CommandLine, on_tiny: list[str], tmp_path: Path
) -> None:
    (tmp_path / "conf" / "ssl").mkdir(parents=True)
    (tmp_path / "conf" / "ssl" / "pulled.yaml").write_text(
        "name: pulled\nstatic_columns: []\nd_input: null\n"
    )
    words = ["encoder=gru", "encoder.d_model=16", "ssl=pulled", "watch.on_collapse=stop", "optimizer.lr=0.03"]
    words += ["training.max_epochs=40", "watch.every_n_steps=3", "hydra.run.dir=run", "scheduler=none"]
    done = cli(
        "pretrain",
        f"--config-dir={tmp_path / 'conf'}",
        *[w for w in on_tiny if "max_epochs" not in w],
        *words,
    )
    assert done.status == 1 and "the embedding collapsed" in done.err
    assert Path("run/encoder.pt").exists() and not Path("outputs/encoder.pt").exists()
    again = cli("pretrain", "resume=run")
    assert again.status == 1 and "the embedding collapsed" in again.err
    assert not Path("outputs/encoder.pt").exists()


def test_a_resumed_run_knows_how_it_began(tmp_path: Path, tiny: dict[str, Any], data: StayDataModule) -> None:
    first = Watch(WatchConfig(every_n_steps=2), data)
    trainer = fit(tmp_path, module_of(tiny, name="mae"), data, first, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    second = Watch(WatchConfig(every_n_steps=2), data)
    again = trainer_for(tmp_path, callbacks=[second], max_epochs=2)
    again.fit(
        module_of(tiny, name="mae"), datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert second.start == first.start is not None


@pytest.mark.parametrize(
    ("options", "every"),
    [
        ({"max_epochs": 1}, 24),  # 15 stays, seen three ways, cost as much as 15 to train on: 2 % of 24 * 32
        ({"max_epochs": 1, "accumulate_grad_batches": 3}, 8),
        ({"max_epochs": -1, "max_steps": 3}, 24),
        ({"max_epochs": 2000, "max_time": {"milliseconds": 300}}, 60),
    ],
)
def test_looking_costs_about_two_percent(
    options: dict[str, Any], every: int, tmp_path: Path, tiny: dict[str, Any], data: StayDataModule
) -> None:
    watch = Watch(WatchConfig(), data)
    assert data.sizes["val"] == 15
    fit(tmp_path, module_of(tiny, name="mae"), data, watch, **options)
    assert watch._every == every


def labels_of(data: StayDataModule, monkeypatch: pytest.MonkeyPatch, change: pl.Expr | None) -> None:
    """Puts another value into the labels of ``data``; None: takes them away."""
    table = data.store.labels("in_hospital_mortality")
    table = table.clear() if change is None else table.with_columns(value=change)
    monkeypatch.setattr(data.store, "labels", lambda task: table)


@pytest.mark.parametrize("change", [None, pl.lit(1.0)], ids=["absent", "one class"])
def test_without_labels_of_two_classes_it_says_so_and_watches_all_the_same(
    change: pl.Expr | None,
    tmp_path: Path,
    tiny: dict[str, Any],
    data: StayDataModule,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data.setup("fit")
    labels_of(data, monkeypatch, change)
    watch = Watch(WatchConfig(task="in_hospital_mortality"), data)
    assert "no scores" in caplog.text
    seen = fit(tmp_path, module_of(tiny, name="mae"), data, watch).callback_metrics
    assert "embedding/rank" in seen and not [name for name in seen if name.startswith(("probe", "knn"))]


def test_a_label_that_is_not_a_number_is_named(data: StayDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    data.setup("fit")
    labels_of(
        data,
        monkeypatch,
        pl.when(pl.col("stay_id") == pl.col("stay_id").first()).then(pl.lit(float("nan"))).otherwise("value"),
    )
    with pytest.raises(ValueError, match="is not a finite number"):
        Watch(WatchConfig(task="in_hospital_mortality"), data)


def test_probes_are_fitted_on_training_patients_and_scored_on_others(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    data = data_for(tiny | {"splits": {"val_fraction": 0.4}})
    data.prepare_data()
    watch = Watch(WatchConfig(task="length_of_stay_class", labelled=30), data)
    assert watch._labelled is not None
    patients = [
        {int(patient) for batch in batches for patient in batch["patient_id"]}
        for batches in (watch._labelled.train, watch._labelled.val)
    ]
    of_split = [set(data.store.patient_id[data.samples.stay[data.splits[name]]]) for name in ("train", "val")]
    assert all(found <= allowed for found, allowed in zip(patients, of_split, strict=True))
    assert not patients[0] & patients[1]
    assert [
        sum(len(batch["mask"]) for batch in part) for part in (watch._labelled.train, watch._labelled.val)
    ] == [30, 30]


def test_the_line_of_an_epoch_shows_what_was_seen(
    tmp_path: Path, tiny: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = data_for(tiny | {"splits": {"val_fraction": 0.4}})
    data.prepare_data()
    watch = Watch(WatchConfig(every_n_steps=2, task="length_of_stay_class"), data)
    with caplog.at_level(logging.INFO, logger="slices.training.callbacks"):
        trainer = trainer_for(tmp_path, callbacks=[watch, EpochLine()], max_epochs=2)
        trainer.fit(module_of(tiny, name="mae"), datamodule=data)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch")]
    assert len(lines) == 2 and all("embedding/rank" in line and "probe/auroc" in line for line in lines)
    assert all("train/loss" in line for line in lines)


RANKS = """
import sys
from slices.ssl import SSLConfig
from slices.ssl.factory import CONFIG_REGISTRY, SSL_REGISTRY
from slices.training.apps.pretrain import main
from test_watching import Pulled

SSL_REGISTRY["pulled"], CONFIG_REGISTRY["pulled"] = Pulled, SSLConfig
main()
"""


@pytest.mark.slow
def test_two_ranks_stop_together_and_one_says_so(on_tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "conf" / "ssl").mkdir(parents=True)
    (tmp_path / "conf" / "ssl" / "pulled.yaml").write_text("name: pulled\n")
    (tmp_path / "app.py").write_text(RANKS)
    words = ["ssl=pulled", "encoder=gru", "encoder.d_model=16", "optimizer.lr=0.03", "scheduler=none"]
    words += ["watch.on_collapse=stop", "watch.every_n_steps=3", "watch.task=length_of_stay_class"]
    words += ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    small = [word for word in on_tiny if "max_epochs" not in word]
    command = [sys.executable, "app.py", f"--config-dir={tmp_path / 'conf'}", *small, *words]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("error: the embedding collapsed to one point") == 1
    assert (done.stdout + done.stderr).count("the embedding is collapsing to one point") == 1


def test_mistakes_are_answered(tiny: dict[str, Any], data: StayDataModule) -> None:
    with pytest.raises(ValueError, match=r"unknown task 'mortalty'.*"):
        Watch(WatchConfig(task="mortalty"), data)
    with pytest.raises(ValueError, match=r"watch.task=length_of_stay is a regression task"):
        Watch(WatchConfig(task="length_of_stay"), data)
    with pytest.raises(ValueError, match=r"watch.stays=1: must be at least 2"):
        WatchConfig(stays=1)
