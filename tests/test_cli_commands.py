"""``slices``: the apps under one name, and the commands that look at what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from cli import CommandLine, Finished
from models import made
from records import write_record
from slices.encoders import load_encoder, registry, save_encoder, save_pretrained
from slices.training.cli import doctor
from slices.training.cli.__main__ import main
from slices.training.cli.apps import app_lines
from slices.training.cli.listing import KINDS, lines_of
from slices.training.past_runs import past_runs
from slices.training.serving import save_model

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "packages/slices-training/pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
Slices = Callable[..., Finished]


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Slices:
    """The command, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def typed(*words: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["slices", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Finished(int(stop.value.code or 0), *capsys.readouterr())

    return typed


def test_every_app_is_a_command_and_has_a_line() -> None:
    scripts = {name.removeprefix("slices-") for name in PROJECT["scripts"]} - {"slices"}
    assert app_lines().keys() == scripts


def test_an_app_is_started_as_itself(slices: Slices, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the ranks and jobs that it starts, by its own command line, are of the same app."""
    started: list[list[str]] = []

    def execv(path: str, command: list[str]) -> None:
        started.append(command)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    slices("pretrain", "encoder=gru", "--cfg", "job")
    assert started[0][-5:] == ["-m", "slices.training.apps.pretrain", "encoder=gru", "--cfg", "job"]


LIGHT = """
import sys
from slices.training.cli.__main__ import main
for words in (["--help"], ["list"], ["list", "sources"], ["runs", "."], ["completion", "bash"]):
    sys.argv = ["slices", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, words
assert not {"torch", "lightning", "hydra", "rich"} & set(sys.modules)
"""


def test_what_should_be_quick_imports_nothing_slow(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_can_be_chosen_has_a_line(kind: str) -> None:
    lines = lines_of(KINDS[kind])
    assert lines and all(lines.values()), lines


def test_a_list_has_names_lines_and_papers(slices: Slices) -> None:
    done = slices("list", "encoders")
    assert done.status == 0
    (line,) = [line for line in done.out.splitlines() if line.startswith("encoder=gru_d ")]
    assert "Che et al." in line


def test_a_third_partys_name_is_listed_also_where_it_cannot_be_imported(
    slices: Slices, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("theirs", "no_such_module", "slices.heads")
    monkeypatch.setattr(registry, "entry_points", lambda **_: [])
    monkeypatch.setattr("slices.heads.registry.entry_points", lambda **_: [point])
    done = slices("list", "heads")
    assert done.status == 0 and "task.head_type=theirs" in done.out and "no_such_module" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrian"], "unknown command 'pretrian': did you mean 'pretrain'?"),
        (["list", "encoder"], "unknown kind 'encoder': did you mean 'encoders'?"),
        (["inspect", "nowhere.pt"], "there is nothing at nowhere.pt"),
        (["runs", "nowhere"], "there is no folder nowhere"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
    ],
)
def test_a_mistake_is_told_in_a_line(slices: Slices, words: list[str], said: str) -> None:
    done = slices(*words)
    assert done.status == 2 and said in done.err and "Traceback" not in done.err


def test_inspect_tells_encoders_and_models(
    slices: Slices, pretrained: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    encoder = load_encoder(pretrained)
    hub = save_pretrained(tmp_path / "hub", *encoder)
    model = save_model(tmp_path / "model.safetensors", made(tiny, tmp_path).model)
    for path in (pretrained, save_encoder(tmp_path / "e.safetensors", *encoder), hub):
        done = slices("inspect", path)
        assert done.status == 0, done.err
        assert "a pretrained encoder" in done.out and "transformer, " in done.out
    done = slices("inspect", model)
    assert done.status == 0, done.err
    for said in ("in_hospital_mortality (binary)", "survived, died", "heart_rate [bpm]", "15 log", "model="):
        assert said in done.out
    dataset = Path(tiny["dataset_dir"])
    done = slices("inspect", dataset)
    assert "a prepared dataset, of synthetic" in done.out and "120 stays" in done.out


def test_inspect_tells_checkpoints_and_runs(slices: Slices, checkpoint: Path, tmp_path: Path) -> None:
    done = slices("inspect", checkpoint)
    assert done.status == 0, done.err
    assert "pretraining with mae, at epoch 1, step 1" in done.out and "gru, " in done.out
    done = slices("inspect", write_record(tmp_path / "run"))
    assert done.status == 0, done.err
    assert "a run of pretrain, complete" in done.out and "val/loss 0.5000" in done.out
    assert "finetune checkpoint_path=" in done.out
    done = slices("inspect", write_record(tmp_path / "killed", outcome="running", ended=None))
    assert "pretrain resume=" in done.out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"hello"),
        ("notes.pt", b"hello"),
        ("notes.safetensors", b"hello"),
        ("notes.ckpt", b"hello"),
        ("manifest.json", b"{}"),
        ("config.json", b"{}"),
        ("record.yaml", b"app: [unclosed"),
        ("record.yaml", b"{app: pretrain, outcome: complete, earlier: []}"),
    ],
)
def test_inspect_refuses_what_is_not_ours(slices: Slices, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / name).write_bytes(content)
    done = slices("inspect", tmp_path / "there" / (name if name.startswith("notes") else ""))
    assert done.status == 2 and done.err.startswith("error: ") and "there" in done.err


def test_runs_are_told_the_newest_first(slices: Slices, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    write_record(outputs / "old")
    tuned = {"model": "gru+mae", "task": "mortality"}
    newer = "2026-02-02T03:04:05+00:00"
    write_record(outputs / "new", app="finetune", started=newer, ended=None, outcome="running", learns=tuned)
    (write_record(outputs / "broken") / "record.yaml").write_text("- a list")
    lines = slices("runs", outputs).out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["app", "finetune", "pretrain"]
    assert "gru+mae" in lines[1] and "mortality" in lines[1] and "running" in lines[1]
    assert "val/loss 0.5000" in lines[2] and " 61 " in lines[2]
    assert "damaged" in lines[3] and str(outputs / "broken") in lines[3]
    assert slices("runs", outputs, "--csv").out.startswith("app,when,outcome,model,of,metrics")


def test_the_guide_names_commands_that_there_are(slices: Slices) -> None:
    text = (ROOT / "docs" / "COMMAND_LINE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|[`(])slices (\w+)", text, re.MULTILINE))
    assert named - app_lines().keys() == {"list", "inspect", "runs", "doctor", "completion"}
    assert all(f" {name} " in slices().out for name in named)


def test_a_run_says_what_it_learns(cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    done = cli("pretrain", *on_tiny, "encoder=gru", "encoder.d_model=8", "hydra.run.dir=run")
    assert done.status == 0, done.err
    (run,) = past_runs(tmp_path)
    assert (run.app, run.outcome, run.model, run.of) == ("pretrain", "complete", "gru", "mae")
    assert "val/loss" in run.metrics and run.seconds is not None


def test_a_strangers_record_cannot_speak_to_the_terminal(slices: Slices, tmp_path: Path) -> None:
    folder = write_record(tmp_path / "runs" / "run", app="\x1b[2Jpretrain", learns={"model": "\x1b[31mgru"})
    for words in (["runs", folder.parent], ["inspect", folder]):
        done = slices(*words)
        assert "\x1b" not in done.out + done.err


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled."""
    monkeypatch.setattr(doctor, "COMPILE", "")


@pytest.mark.usefixtures("quick")
def test_all_is_well(slices: Slices, tmp_path: Path) -> None:
    write_record(tmp_path / "here" / "outputs" / "run")
    done = slices("doctor")
    assert done.status == 0 and "all is well" in done.out, done.out
    for said in ("torch.compile", "works", "1 runs", "GB free", "[wandb]"):
        assert said in done.out


@pytest.mark.usefixtures("quick")
def test_what_is_wrong_has_a_remedy(slices: Slices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "2.6.3" if name == "lightning" else real(name))
    monkeypatch.setattr(doctor, "COMPILE", "raise OSError('no compiler')")
    monkeypatch.setattr(doctor, "LEAST_DISK", 1e18)
    (tmp_path / "here" / "datasets" / "half").mkdir(parents=True)
    (tmp_path / "here" / "datasets" / "half" / "manifest.json").write_text("{}")
    done = slices("doctor")
    assert done.status == 1 and "3 wrong" in done.out
    assert "lightning: 2.6.3, wanted" in done.out and "remedy: pip install 'lightning" in done.out
    assert "datasets/half: is no whole dataset" in done.out
    assert "leave training.compile=null (OSError: no compiler)" in done.out


def test_compiling_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "COMPILE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    assert "not done after" in doctor.compiling().found


def test_every_extra_is_explained() -> None:
    ours = {f"slices-training[{extra}]" for extra in PROJECT["optional-dependencies"]}
    assert doctor.EXTRAS.keys() == {"slices-encoders[hub]"} | ours
    found = {one.name: one.found for one in doctor.extras()}
    assert found["[hub]"].startswith(("installed", "not installed (pip install 'slices-encoders[hub]')"))
