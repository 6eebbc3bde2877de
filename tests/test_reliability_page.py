"""``docs/RELIABILITY.md`` says what the tests do."""

from __future__ import annotations

import re
from pathlib import Path

from slices.ssl import list_objectives

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8")


def test_the_tests_that_it_names_are_there() -> None:
    named = re.findall(r"`([\w/-]+/test_\w+\.py)`", PAGE)
    assert len(named) > 10 and all((ROOT / path).is_file() for path in named)


def test_its_counts_are_those_of_the_tests() -> None:
    kinds = len(list_objectives()) + 1
    (each,) = re.findall(r"^N_EACH = (\d+)", (ROOT / "tests/test_interruptions.py").read_text(), re.MULTILINE)
    said = f"{kinds} kinds of run ({kinds - 1} objectives, fine-tuning), {each} interruptions each"
    assert f"{said}: {kinds * int(each)};" in PAGE
    mistakes = re.findall(r"^\| `[a-z]+` \|", (ROOT / "docs/MISTAKES.md").read_text(), re.MULTILINE)
    assert f"| mistakes in typing | {len(mistakes)}, " in PAGE
