from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("slices-encoders", "slices-ssl", "slices-heads", "slices-training")


def build(project: Path, target: str, out: Path) -> None:
    # hatchling directly: no build isolation, so no network and about 0.3 s a package
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """sdist, unpacked elsewhere, then wheel: what a user of a package index gets."""
    work = tmp_path_factory.mktemp("dist")
    found = {}
    for name in PACKAGES:
        stem = name.replace("-", "_")
        build(ROOT / "packages" / name, "sdist", work)
        (sdist,) = work.glob(f"{stem}-*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(work, filter="data")
        build(work / sdist.name.removesuffix(".tar.gz"), "wheel", work)
        (found[name],) = work.glob(f"{stem}-*.whl")
    return found
