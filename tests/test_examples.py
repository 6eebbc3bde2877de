"""The files of examples/ run, and come to what they promise (those of SLURM: see test_sweeps)."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LONGEST = 80  # lines: an example is read in one go


def run(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What it prints, in the test's folder."""
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def numbers(pattern: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return tmp_path


def test_examples_are_short() -> None:
    files = [path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".sh", ".sbatch")]
    assert len(files) > 8
    assert not [path.name for path in files if len(path.read_text().splitlines()) >= LONGEST]


def test_an_encoder_alone(capsys: pytest.CaptureFixture[str]) -> None:
    (accuracy,) = numbers(r"accuracy on new stays: (\S+)", run("encoder_alone.py", capsys))
    assert accuracy > 0.75


def test_an_objective_on_an_encoder_of_ones_own(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    first, last = numbers(r"error of hidden values (\S+)", run("objective_on_your_encoder.py", capsys))
    assert last < first / 2
    assert (folder / "yours.pt").is_file()


def test_an_objective_on_a_model_of_hugging_face(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    losses = numbers(r"loss (\d\S*),", run("objective_on_hugging_face.py", capsys))
    assert losses[-1] < losses[0]


def test_a_head_on_the_embeddings_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    (auroc,) = numbers(r"without a label: (\S+)", run("head_on_embeddings.py", capsys))
    assert auroc > 0.8


def test_the_notebook_of_a_first_look(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert "144 died" in run("notebooks/first_look_at_stays.py", capsys)
    assert (folder / "stay.png").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_of_a_probe(capsys: pytest.CaptureFixture[str]) -> None:
    untrained, pretrained = numbers(r"AUROC (\S+)", run("notebooks/pretrain_and_probe.py", capsys))
    assert 0.5 < untrained < pretrained


def bash(script: str, *words: str, **variables: str) -> str:
    """What a script shows, where the console scripts of this interpreter are found first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(EXAMPLES / script), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | variables,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_encoder_goes_to_another_hospital() -> None:
    small = ["training.max_epochs=1", "data.resolution=4"]
    assert "test/auroc" in bash("transfer.sh", *small)


@pytest.mark.slow
def test_the_whole_way_on_physionet_2012(shared_data: Path, folder: Path) -> None:
    bash("physionet2012.sh", str(shared_data / "physionet2012"), "data.source.sets=[a]", EPOCHS="1")
    judged = (folder / "outputs" / "judged" / "evaluation.md").read_text(encoding="utf-8")
    assert "probe" in judged and "lightgbm" in judged
