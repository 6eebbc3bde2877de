"""Whether a prepared dataset still is what was written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from slices.training.data.store import ARRAYS, REMEDY, TABLES, DatasetError, Manifest, check_sizes

SHOWN = 12  # digits of a digest that tell two apart


def verify_dataset(directory: str | Path) -> None:
    """Compare every file of a dataset with its sha256 in the manifest, read through once in small blocks.

    Opening a dataset only looks at sizes. The manifest itself has no digest.

    Raises ``DatasetError`` naming the first file that differs, both digests and the remedy, or what is
    missing, and ``FileNotFoundError`` where there is no dataset.
    """
    directory = Path(directory)
    manifest = Manifest.read(directory)
    check_sizes(directory, manifest)
    for name in (*ARRAYS, *TABLES):
        found, recorded = _sha256(directory / name), str(manifest.files[name].get("sha256"))
        if found != recorded:
            raise DatasetError(
                f"{directory / name} is damaged (its sha256 is {found[:SHOWN]}…, its manifest says "
                f"{recorded[:SHOWN]}…): {REMEDY}"
            )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}): {REMEDY}") from error
