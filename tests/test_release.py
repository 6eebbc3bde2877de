"""Releasing one package: on a copy of the repository."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEADS = "packages/slices-heads"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a release needs of the repository, with heads at 0.2.0, which is not released yet."""
    ignored = shutil.ignore_patterns("__pycache__", "tests")
    for folder in ("scripts", "packages", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    replace(tmp_path / HEADS / "pyproject.toml", *version_lines(tmp_path / HEADS, "0.2.0"))
    sections = "## [0.2.0] - unreleased\n\n### Added\n- A head.\n\n## [0.1.0] - 2020-01-01\n\n- All.\n"
    (tmp_path / HEADS / "CHANGELOG.md").write_text(f"# Changelog\n\n{sections}")
    return tmp_path


def version_lines(package: Path, version: str) -> tuple[str, str]:
    now = tomllib.loads((package / "pyproject.toml").read_text())["project"]["version"]
    return f'version = "{now}"', f'version = "{version}"'


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def release(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/release.py", "slices-heads", *words]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def refusal(checkout: Path, version: str) -> str:
    """What it says, without another interpreter."""
    script = runpy.run_path(str(checkout / "scripts" / "release.py"))
    with pytest.raises(script["Refused"]) as refused:
        script["release"]("slices-heads", version, "2031-02-03", dry=False)
    return str(refused.value)


def contents(checkout: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_release_builds_dates_and_tries_one_package(checkout: Path) -> None:
    before = contents(checkout)
    dry = release(checkout, "0.2.0", "--date", "2031-02-03", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert contents(checkout) == before
    done = release(checkout, "0.2.0", "--date", "2031-02-03")
    assert done.returncode == 0, done.stderr
    changed = {path for path, content in contents(checkout).items() if before.get(path) != content}
    wheel, sdist = (
        checkout / "dist" / f"slices_heads-0.2.0{end}" for end in ("-py3-none-any.whl", ".tar.gz")
    )
    assert changed == {checkout / HEADS / "CHANGELOG.md", wheel, sdist}
    with tarfile.open(sdist) as archive:
        held = archive.extractfile("slices_heads-0.2.0/CHANGELOG.md")
        assert held is not None and b"## [0.2.0] - 2031-02-03\n" in held.read()
    again = release(checkout, "0.2.0")
    assert again.returncode == 1 and "top section is '[0.2.0] - 2031-02-03'" in again.stderr


@pytest.mark.slow
def test_a_wheel_that_cannot_be_imported_is_not_released(checkout: Path) -> None:
    replace(
        checkout / HEADS / "src/slices/heads/__init__.py",
        '    "TaskLoss",\n',
        '    "TaskLoss",\n    "Gone",\n',
    )
    before = contents(checkout)
    done = release(checkout, "0.2.0")
    assert done.returncode == 1 and "has no attribute 'Gone'" in done.stderr
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("version", "file", "edit", "reason"),
    [
        ("0.1.9", "pyproject.toml", None, "pyproject.toml: version 0.2.0 is above 0.1.9"),
        ("0.2", "pyproject.toml", None, "three numbers, as in 0.2.1"),
        ("0.2.1", "CHANGELOG.md", None, "write what is new under '## [0.2.1] - unreleased'"),
        ("0.2.0", "CHANGELOG.md", ("- A head.\n", ""), "nothing is said under '## [0.2.0] - unreleased'"),
        ("0.3.0", "CHANGELOG.md", ("0.2.0", "0.3.0"), "slices-heads>=0.2,<0.3 leaves out 0.3.0: change it"),
    ],
)
def test_what_cannot_be_released_is_refused_and_nothing_is_written(
    checkout: Path, version: str, file: str, edit: tuple[str, str] | None, reason: str
) -> None:
    if edit:
        replace(checkout / HEADS / file, *edit)
    before = contents(checkout)
    assert reason in refusal(checkout, version)
    assert contents(checkout) == before


def test_any_form_of_range_is_understood(checkout: Path) -> None:
    path = checkout / "packages" / "slices-training" / "pyproject.toml"
    replace(path, "slices-heads>=0.2,<0.3", "slices-heads~=0.2.0")
    replace(checkout / HEADS / "CHANGELOG.md", "0.2.0", "0.3.0")
    assert "slices-heads~=0.2.0 leaves out 0.3.0" in refusal(checkout, "0.3.0")
