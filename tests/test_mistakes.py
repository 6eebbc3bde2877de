"""Likely mistakes: each is answered before any work is lost, with what, where and what to type."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli import CommandLine
from slices.encoders import EncoderCard, Normalizer, build_encoder, load_encoder, save_encoder
from slices.training.compose import config_dir
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import dataset_info
from slices.training.data.splits import SplitConfig, digest_of, split_stays
from slices.training.data.store import StayStore
from stored import recorded

# app, what is typed, what the answer must hold
SCRATCH = ["checkpoint_path=null", "training.freeze_encoder=false"]
TYPED = [
    ("pretrain", ["ssl.mask_ration=0.3"], ["Did you mean `ssl.mask_ratio`?"]),
    ("pretrain", ["+ssl.mask_ration=0.3"], ["unknown option 'mask_ration'", "did you mean 'mask_ratio'?"]),
    ("pretrain", ["encoder.d_modl=32"], ["Did you mean `encoder.d_model`?"]),
    ("pretrain", ["encoder=gru", "encoder.d_modl=32"], ["Did you mean `encoder.d_model`?"]),
    ("pretrain", ["traning.max_epochs=2"], ["Did you mean `training"]),
    ("pretrain", ["+sed=2"], ["unknown section 'sed'", "did you mean 'seed'?"]),
    ("pretrain", ["encoder=transfomer"], ["Did you mean `encoder=transformer`?"]),
    (
        "pretrain",
        ["encoder.name=transfomer"],
        ["unknown encoder 'transfomer'", "did you mean 'transformer'?"],
    ),
    ("pretrain", ["ssl=jepaa"], ["Did you mean `ssl=jepa`?"]),
    ("pretrain", ["ssl=sum"], ["ssl.parts: must name at least one objective"]),
    ("pretrain", ["ssl=sum", "ssl.parts={mea: {}}"], ["unknown SSL objective 'mea'", "did you mean 'mae'?"]),
    (
        "pretrain",
        ["ssl=sum", "ssl.parts={mae: {mask_ration: 0.3}}"],
        ["parts.mae: unknown option 'mask_ration'", "did you mean 'mask_ratio'?"],
    ),
    ("pretrain", ["ssl=vicreg", "ssl.views.corp=0.5"], ["Did you mean `ssl.views.crop`?"]),
    ("pretrain", ["ssl=supervised_contrastive"], ["reads labels: name the task"]),
    ("pretrain", ["labels=in_hospital_mortality"], ["ssl=mae reads none: leave it out"]),
    ("pretrain", ["optimizer=adan"], ["Did you mean `optimizer=adam`"]),
    ("pretrain", ["encoder.d_model=wide"], ["encoder", "d_model", "expected int", "'wide'"]),
    ("pretrain", ["ssl.mask_ratio=1.5"], ["ssl", "mask_ratio", "1.5"]),
    ("pretrain", ["optimizer.lr=0"], ["lr must be above 0"]),
    ("pretrain", ["encoder.d_model=30", "encoder.n_heads=4"], ["d_model", "n_heads"]),
    ("pretrain", ["+trainer.max_epoch=3"], ["unknown option 'max_epoch'", "did you mean 'max_epochs'"]),
    ("pretrain", ["resume=nowhere"], ["nothing to resume", "nowhere"]),
    ("finetune", [], ["no encoder at outputs/encoder.pt", "hatch run train:pretrain"]),
    ("finetune", ["checkpoint_path=null"], ["training.freeze_encoder=false"]),
    ("finetune", [*SCRATCH, "encoder=gru", "encoder.pooling=none"], ["encoder.pooling=mean"]),
    (
        "finetune",
        [*SCRATCH, "task=length_of_stay", "task.class_weight=balanced"],
        ["regression has no classes"],
    ),
    ("finetune", [*SCRATCH, "task.class_weight=[1,2,3]"], ["3 numbers for 2 classes"]),
    ("pretrain", ["scheduler.warmup_epochs=50"], ["scheduler.warmup_epochs=50 is longer"]),
    ("pretrain", ["scheduler.warmup_epochs=-1"], ["warmup_epochs must be at least 0, got -1"]),
    ("pretrain", ["scheduler.max_epochs=0"], ["max_epochs must be at least 1, got 0"]),
    ("pretrain", ["scheduler.eta_min=-1"], ["eta_min must be at least 0, got -1"]),
    (
        "pretrain",
        ["scheduler.eta_min=0.5"],
        ["scheduler.eta_min=0.5 is above the lowest rate, 0.001 (optimizer.lr"],
    ),
    ("pretrain", ["scheduler=cosine", "scheduler.T_max=0"], ["T_max must be at least 1, got 0"]),
    ("pretrain", ["scheduler=cosine", "scheduler.eta_min=0.5"], ["scheduler.eta_min=0.5 is above"]),
    ("pretrain", ["scheduler=step", "scheduler.step_size=0"], ["step_size must be at least 1, got 0"]),
    ("pretrain", ["scheduler=step", "scheduler.gamma=0"], ["gamma must be above 0, up to 1, got 0"]),
    ("pretrain", ["scheduler=step", "scheduler.gamma=1.5"], ["gamma must be above 0, up to 1, got 1.5"]),
    ("pretrain", ["scheduler=plateau", "scheduler.factor=1"], ["factor must be between 0 and 1, got 1"]),
    ("pretrain", ["scheduler=plateau", "scheduler.patience=-1"], ["patience must be at least 0, got -1"]),
    ("pretrain", ["scheduler=plateau", "scheduler.interval=step"], ["it has only interval=epoch"]),
    (
        "pretrain",
        ["scheduler=plateau", "data.splits.val_fraction=0"],
        ["scheduler=plateau watches val/loss, but nothing is validated", "data.splits.val_fraction"],
    ),
    ("pretrain", ["optimizer.betas=[0.9]"], ["optimizer.betas: expected 2 values, got 1"]),
    ("pretrain", ["optimizer.betas=[0.9,1.0]"], ["betas must be in [0, 1), got [0.9, 1.0]"]),
    ("pretrain", ["optimizer=adam", "optimizer.betas=[-1,0.9]"], ["betas must be in [0, 1)"]),
    ("pretrain", ["optimizer=sgd", "optimizer.momentum=1"], ["momentum must be in [0, 1), got 1"]),
    ("pretrain", ["optimizer.weight_decay=-1"], ["weight_decay must be at least 0, got -1"]),
    (
        "pretrain",
        ["training.checkpoint_every_n_steps=0"],
        ["checkpoint_every_n_steps=0: allowed is 1 or more"],
    ),
    ("pretrain", ["training.max_epochs=0"], ["max_epochs=0: allowed is 1 or more"]),
    ("pretrain", ["training.batch_size=0"], ["batch_size=0: allowed is 1 or more"]),
    ("pretrain", ["+trainer.limit_train_batches=0"], ["limit_train_batches=0 trains nothing: leave it out"]),
    ("pretrain", ["trainer.max_epochs=0"], ["trainer.max_epochs=0: allowed is 1 or more"]),
    (
        "pretrain",
        ["trainer.accumulate_grad_batches=0"],
        ["trainer.accumulate_grad_batches=0: allowed is 1 or more"],
    ),
    ("pretrain", ["encoder_path=encoder.bin"], ["encoder.bin must end in .pt or .safetensors"]),
    ("prepare", ["jobs=0"], ["jobs=0: allowed is 1 or more"]),
    ("finetune", [*SCRATCH, "training.max_epochs=0"], ["max_epochs=0: allowed is 1 or more"]),
    ("finetune", [*SCRATCH, "training.batch_size=0"], ["batch_size=0: allowed is 1 or more"]),
    ("finetune", [*SCRATCH, "training.patience=0"], ["patience=0: allowed is 1 or more"]),
    (
        "finetune",
        ["checkpoint_path=null", "training.unfreeze_epoch=1"],
        ["unfreeze_epoch=1 never comes: allowed is 0 to 0"],
    ),
    ("finetune", ["training.unfreeze_epoch=-1"], ["unfreeze_epoch=-1 never comes"]),
    ("pretrain", ["trainer.accelerator=gpu"], ["gpu"]),
    (
        "finetune",
        [*SCRATCH, "training.unfreeze_epoch=2"],
        ["unfreeze"],
    ),
    ("pretrain", ["data/definitions=mortality_24"], ["Did you mean `data/definitions=mortality_24h`?"]),
    (
        "pretrain",
        ["data/definitions=[kdigo_aki,mortality_24h]", "data.definitions.kdigo_aki.withn=12"],
        ["Did you mean `data.definitions.kdigo_aki.within`?"],
    ),
    ("finetune", ["task=in_hospital_mortalty"], ["Did you mean `task=in_hospital_mortality`?"]),
    (
        "finetune",
        ["task.head_type=mpl", "checkpoint_path=null", "training.freeze_encoder=false"],
        ["did you mean 'mlp'"],
    ),
    (
        "finetune",
        ["task=survival_class", "checkpoint_path=null", "training.freeze_encoder=false"],
        ["survival_class"],
    ),
    ("prepare", ["data=physionet2012", "data.source.raw=nowhere"], ["nowhere"]),
    ("pretrain", ["data.splits.train_sets=[z]"], ["'z'"]),
    ("pretrain", ["seed=-1"], ["seed=-1: allowed is 0 to 4294967295"]),
    ("pretrain", ["optimizer.lr=1e300"], ["lr=1e+300: allowed is below"]),
    ("pretrain", ["trainer.gradient_clip_val=x"], ["trainer.gradient_clip_val: expected", "got 'x'"]),
    ("pretrain", ["trainer.devices=0"], ["trainer: ", "devices=0"]),
    ("pretrain", ["encoder.n_layers=1000000000"], ["n_layers must be at least 1 and at most 1,000"]),
    ("pretrain", ["encoder=transformer", "encoder.d_model=100000"], ["a smaller encoder (encoder.d_model"]),
    ("pretrain", ["data.horizon=1000000000000"], ["bins of that width"]),
    ("pretrain", ["data.horizon=40000000"], ["make bins wider"]),
    (
        "pretrain",
        ["data.resolution=timestamps", "data.window={length: 24, stride: 1e-9}"],
        ["a greater stride"],
    ),
    ("finetune", [*SCRATCH, "task=length_of_stay", "task.n_classes=5"], ["with None classes in the data"]),
    ("pretrain", ["data.splits.val_fraction=0.999"], ["train"]),
]


@pytest.mark.parametrize(
    ("app", "typed", "answer"), TYPED, ids=[" ".join([app, *typed]) for app, typed, _ in TYPED]
)
def test_a_mistake_is_named_with_its_remedy(
    app: str, typed: list[str], answer: list[str], cli: CommandLine, on_tiny: list[str]
) -> None:
    own = [] if app == "prepare" or typed == ["resume=nowhere"] else on_tiny
    done = cli(app, *own, *typed)
    assert done.status == 2, done.err
    assert all(part in done.err for part in answer), done.err
    assert "Traceback" not in done.err


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_a_run_that_ends_early_diverges_or_watches_nothing_says_so(
    cli: CommandLine, on_tiny: list[str]
) -> None:
    done = cli("finetune", *on_tiny, *scratch("+trainer.max_steps=1"))
    assert done.status == 1 and "no best epoch: none was validated" in done.err, done.err
    done = cli("finetune", *on_tiny, *scratch("optimizer.lr=1e30"))
    assert done.status == 1 and "lower optimizer.lr" in done.err, done.err
    done = cli("finetune", *on_tiny, *scratch("scheduler=plateau", "scheduler.monitor=val/los"))
    assert done.status == 1 and "val/los which is not available" in done.err, done.err


def test_the_encoders_place_is_looked_at_before_any_work(
    cli: CommandLine, on_tiny: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.pt").mkdir()
    for path in ("file/encoder.pt", "folder.pt"):
        done = cli("pretrain", *on_tiny, f"encoder_path={path}")
        assert done.status == 2, done.err
        assert f"encoder_path={path} cannot be written" in done.err and "epoch 1" not in done.out


def test_an_installed_command_names_the_installed_commands(
    cli: CommandLine, on_tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = config_dir()
    monkeypatch.setattr("slices.training.compose.PACKAGED", packaged)
    done = cli("finetune", *on_tiny)
    assert done.status == 2 and "run `slices-pretrain` first" in done.err
    done = cli("pretrain", *on_tiny, "encoder=linear", "encoder.d_model=8")
    assert "next: slices-finetune data." in done.out and "hatch" not in done.out


def test_nothing_is_trained_or_written_before_a_mistake_is_found(
    cli: CommandLine, on_tiny: list[str], tmp_path: Path
) -> None:
    cli("pretrain", *on_tiny, "+ssl.mask_ration=0.3")
    assert not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("encoder.pt"))


def test_a_real_process_exits_with_status_two(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slices.training.apps.pretrain", "encoder.d_modl=32"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def table_of_mistakes() -> str:
    """``TYPED`` for people."""
    rows = [(app, " ".join(words) or "(nothing)", " ... ".join(said)) for app, words, said in TYPED]
    cells = [[f"`{cell}`" if "`" not in cell else f"`` {cell} ``" for cell in row] for row in rows]
    lines = [" | ".join(row).join(("| ", " |")) for row in cells]
    return "\n".join(["| app | typed | the answer has |", "|---|---|---|", *lines, ""])


def test_the_page_of_mistakes_has_them_all() -> None:
    page = (Path(__file__).parents[1] / "docs" / "MISTAKES.md").read_text(encoding="utf-8")
    assert page.endswith("\n" + table_of_mistakes())


def scratch(*typed: str) -> list[str]:
    return [
        "checkpoint_path=null",
        "training.freeze_encoder=false",
        "encoder=linear",
        "encoder.d_model=8",
        *typed,
    ]


@pytest.fixture
def own_dataset(
    dataset_dir: Path, cli: CommandLine, on_tiny: list[str], tmp_path: Path
) -> tuple[Path, list[str]]:
    """A copy of the tests' dataset to damage, and the overrides that use it."""
    if not dataset_dir.exists():
        assert cli("prepare", f"data.dataset_dir={dataset_dir}", "data.source.n_stays=120").status == 0
    copy = tmp_path / "copy"
    shutil.copytree(dataset_dir, copy)
    return copy, [f"data.dataset_dir={copy}", *on_tiny[1:]]


@pytest.mark.parametrize("missing", ["manifest.json", "value.npy", "stays.parquet", "labels.parquet"])
def test_a_half_written_dataset(missing: str, own_dataset: tuple[Path, list[str]], cli: CommandLine) -> None:
    folder, arguments = own_dataset
    (folder / missing).unlink()
    done = cli("finetune", *arguments, *scratch())
    assert done.status == 2, done.err
    assert str(folder) in done.err and "overwrite=true" in done.err


def test_a_dataset_cut_short(own_dataset: tuple[Path, list[str]], cli: CommandLine) -> None:
    folder, arguments = own_dataset
    whole = (folder / "value.npy").read_bytes()
    (folder / "value.npy").write_bytes(whole[: len(whole) // 2])
    done = cli("finetune", *arguments, *scratch())
    assert done.status == 2 and "value.npy" in done.err, done.err


def test_labels_that_are_not_numbers(own_dataset: tuple[Path, list[str]], cli: CommandLine) -> None:
    folder, arguments = own_dataset
    labels = pl.read_parquet(folder / "labels.parquet")
    spoilt = labels.with_columns(
        value=pl.when(pl.col("task") == "in_hospital_mortality").then(float("nan")).otherwise(pl.col("value"))
    )
    spoilt.write_parquet(folder / "labels.parquet")
    recorded(folder)
    done = cli("finetune", *arguments, *scratch())
    assert done.status == 2, done.err
    assert "in_hospital_mortality" in done.err and "is not a finite number" in done.err


def checkpoint(folder: Path, variables: tuple[str, ...]) -> Path:
    encoder = build_encoder("gru", {"d_input": len(variables), "d_model": 8})
    plain = Normalizer(["identity"] * len(variables), [0.0] * len(variables), [1.0] * len(variables))
    return save_encoder(folder / "encoder.pt", encoder, plain, EncoderCard(variables=variables))


def test_a_checkpoint_of_other_variables(cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    path = checkpoint(tmp_path, ("heart_rate", "moon_phase"))
    done = cli("finetune", *on_tiny, f"checkpoint_path={path}")
    assert done.status == 2, done.err
    assert "missing: moon_phase" in done.err and "adapt_variables=true" in done.err
    assert cli("finetune", *on_tiny, f"checkpoint_path={path}", "training.adapt_variables=true").status == 0


def test_the_same_variables_in_another_order_just_work(
    own_dataset: tuple[Path, list[str]], cli: CommandLine, tmp_path: Path
) -> None:
    """The same stays with their variables in reverse: the same encoder predicts the same of them."""
    folder, arguments = own_dataset
    assert cli("pretrain", *arguments, "encoder=gru", "encoder.d_model=8").status == 0
    assert cli("finetune", *arguments, "hydra.run.dir=straight").status == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["variables"].reverse()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    np.save(folder / "variable.npy", len(manifest["variables"]) - 1 - np.load(folder / "variable.npy"))
    assert cli("finetune", *arguments, "hydra.run.dir=reversed").status == 0
    straight, back = (
        pl.read_parquet(tmp_path / run / "predictions.parquet") for run in ("straight", "reversed")
    )
    assert straight.drop("prediction").equals(back.drop("prediction"))
    assert back["prediction"].to_list() == pytest.approx(straight["prediction"].to_list(), abs=1e-5)


def test_a_checkpoint_of_another_encoder(cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    info = dataset_info(DataConfig(source={"name": "synthetic"}, dataset_dir=str(tmp_path / "none")))
    path = checkpoint(tmp_path, info.variables)
    done = cli("finetune", *on_tiny, f"checkpoint_path={path}", "encoder=transformer")
    assert done.status == 2, done.err
    assert "'gru' in the file, 'transformer' asked for" in done.err and "encoder=checkpoint" in done.err


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".ckpt"])
def test_a_checkpoint_that_is_none(ending: str, cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"encoder{ending}"
    path.write_bytes(b"not a checkpoint")
    done = cli("finetune", *on_tiny, f"checkpoint_path={path}")
    assert done.status == 2, done.err
    assert str(path) in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"n_folds": 3, "fold": 0}, {"n_folds": 3, "fold": 1}),
        ({"seed": 0}, {"seed": 1}),
    ],
    ids=["fold", "seed"],
)
def test_an_encoder_pretrained_on_patients_to_be_tested_on(
    then: dict[str, int], now: dict[str, int], cli: CommandLine, on_tiny: list[str], dataset_dir: Path
) -> None:
    """The planted leak is found, and its patients are counted; nothing names them."""

    def typed(splits: dict[str, int]) -> list[str]:
        return [*on_tiny, *(f"data.splits.{name}={value}" for name, value in splits.items())]

    assert cli("pretrain", *typed(then), "encoder=gru", "encoder.d_model=8").status == 0
    done = cli("finetune", *typed(now))
    stays = StayStore(dataset_dir).stays
    patients, sets = stays["patient_id"].to_numpy(), stays["set"].to_list()
    trained = split_stays(patients, sets, SplitConfig(**then))["train"]
    tested = split_stays(patients, sets, SplitConfig(**now))["test"]
    leaked = sorted(set(patients[trained].tolist()) & set(patients[tested].tolist()))
    counted = f"held {len(leaked)} of the patients to be tested on"
    assert leaked and done.status == 2 and counted in done.err, done.err
    assert "training.allow_other_split=true" in done.err
    assert cli("finetune", *typed(now), "training.allow_other_split=true").status == 0
    assert cli("finetune", *typed(then)).status == 0
    card = load_encoder("outputs/encoder.pt").card
    assert card is not None and card.data["patients"] == digest_of(patients)  # 16 digits, not their ids


def test_a_checkpoint_of_other_units(own_dataset: tuple[Path, list[str]], cli: CommandLine) -> None:
    folder, arguments = own_dataset
    assert cli("pretrain", *arguments, "encoder=gru", "encoder.d_model=8").status == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["variables"][0]["unit"] = "furlong"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = cli("finetune", *arguments)
    assert done.status == 2 and "furlong" in done.err, done.err


def test_resume_takes_no_other_settings(cli: CommandLine, on_tiny: list[str]) -> None:
    done = cli("pretrain", "resume=somewhere", *on_tiny)
    assert done.status == 2 and "drop" in done.err and "training.max_epochs=1" in done.err


@pytest.mark.parametrize("app", ["pretrain", "finetune"])
def test_a_model_without_room_for_its_training(
    app: str, on_tiny: list[str], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slices.training.memory.physical_memory", lambda: 10_000.0)
    monkeypatch.setattr(f"slices.training.apps.{app}.models_that_fit", nullcontext)
    scratch = SCRATCH if app == "finetune" else []
    done = cli(app, *on_tiny, *scratch, "encoder=gru", "encoder.d_model=8")
    assert done.status == 2 and "half of this machine's memory" in done.err, done.err
