"""Ranges leave out releases that are known to be bad; the lock pins, by hash, what the ranges allow."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
BAD = {
    "lightning": ["2.6.2", "2.6.3", "2.6.5"],  # two were compromised, up to 2.6.5 a checkpoint can run code
    "hydra-core": ["1.3.2", "1.3.7"],  # run code from `_target_`
    "torch": ["2.5.1", "2.9.1"],  # a checkpoint can run code or write over memory, weights_only or not
    "polars": ["1.36.0"],  # withdrawn
}


def pins() -> dict[str, str]:
    """Versions by name."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK, flags=re.MULTILINE))


def wanted() -> list[Requirement]:
    lines = runpy.run_path(str(ROOT / "requirements" / "lock.py"))["wanted"]()
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("packages/*/pyproject.toml")), ids=lambda path: path.parent.name
)
def test_ranges_leave_out_bad_releases(path: Path) -> None:
    for line in tomllib.loads(path.read_text())["project"]["dependencies"]:
        requirement = Requirement(line)
        assert not [v for v in BAD.get(requirement.name, []) if requirement.specifier.contains(v)], line


def test_the_packages_name_what_has_bad_releases() -> None:
    assert BAD.keys() <= {requirement.name for requirement in wanted()}


def test_the_lock_pins_what_is_wanted_within_its_range() -> None:
    """If not: ``hatch run lock:update``."""
    assert len(wanted()) > 20
    for requirement in wanted():
        pinned = pins().get(canonicalize_name(requirement.name))
        assert pinned and requirement.specifier.contains(pinned), f"{requirement}: the lock has {pinned}"


def test_every_pin_has_hashes_and_the_lock_names_no_index() -> None:
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).strip())
    assert len(blocks) == len(pins()) > 50
    for block in blocks:
        first, *hashes = block.replace("\\", "").split()
        assert "==" in first and hashes, first
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in hashes), first
