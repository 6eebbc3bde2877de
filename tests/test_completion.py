"""What shells make of ``slices completion``; Hydra, which is slow, is stood in for."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CASES = [
    ("slices pret", "pretrain"),
    ("slices list s", "sources ssl"),
    ("slices completion z", "zsh"),
    ("slices pretrain encoder=gru_", "encoder=gru_d"),  # by Hydra, of the app's own line
]
IN_FISH_ALONE = [("echo | slices pretrain enc", "encoder=gru_d"), ("slices look examp", "examples/")]
IN_BASH = """
    source {script}
    slices() {{
        [[ "$*" == "pretrain -sc query=bash" && $COMP_LINE == slices-pretrain* ]] && echo encoder=gru_d
    }}
"""
IN_FISH = """
    source {script}
    function slices
        test "$argv" = "pretrain -sc query=fish"; and string match -q "slices-pretrain *" $COMP_LINE
        and echo encoder=gru_d
    end
"""


def script_for(shell: str, folder: Path) -> Path:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    path = folder / f"slices.{shell}"
    path.write_bytes(said(shell))
    return path


@cache
def said(shell: str) -> bytes:
    words = [sys.executable, "-m", "slices.training.cli", "completion", shell]
    return subprocess.run(words, check=True, capture_output=True).stdout


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_bash_completes(tmp_path: Path, typed: str, offered: str) -> None:
    n_words = len(typed.split())
    script = f"""
        {IN_BASH.format(script=script_for("bash", tmp_path))}
        COMP_WORDS=({typed}) COMP_CWORD={n_words - 1} COMP_LINE="{typed}" COMP_POINT={len(typed)}
        _slices; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert " ".join(sorted(done.stdout.split())) == offered


@pytest.mark.parametrize(("typed", "offered"), [*CASES, *IN_FISH_ALONE])
def test_fish_completes(tmp_path: Path, typed: str, offered: str) -> None:
    script = f"{IN_FISH.format(script=script_for('fish', tmp_path))}\ncomplete -C '{typed}'"
    done = subprocess.run(["fish", "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert " ".join(sorted(done.stdout.split())) == offered


@pytest.mark.parametrize(("typed", "offered"), [case for case in CASES if " " not in case[1]])
def test_zsh_completes(tmp_path: Path, typed: str, offered: str) -> None:
    """In a terminal: a tab makes the word whole."""
    script = IN_BASH.format(script=script_for("zsh", tmp_path))
    (tmp_path / "all.zsh").write_text(f"{script}\necho rea''dy\n")
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        os.write(ours, f"source {tmp_path / 'all.zsh'}\n".encode())
        assert "ready" in read_until(ours, "ready")
        os.write(ours, f"{typed}\t".encode())
        assert offered in read_until(ours, offered)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
        os.close(theirs)


def read_until(terminal: int, wanted: str) -> str:
    """What a terminal shows until it shows that, or nothing more for ten seconds."""
    seen = ""
    while wanted not in seen and select.select([terminal], [], [], 10)[0]:
        seen += os.read(terminal, 4096).decode()
    return seen
