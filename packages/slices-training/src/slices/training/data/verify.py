"""Whether a prepared dataset still is what was written."""

from __future__ import annotations

from pathlib import Path

from slices.training.data.store import ARRAYS, TABLES, Manifest, check_digest, check_sizes


def verify_dataset(directory: str | Path) -> None:
    """Compare every file of a dataset with its sha256 in the manifest, read through once in small blocks.

    Opening a dataset looks at sizes, and at the tables alone. The manifest itself has no digest.

    Raises ``DatasetError`` naming the first file that differs, both digests and the remedy, or what is
    missing, and ``FileNotFoundError`` where there is no dataset.
    """
    directory = Path(directory)
    manifest = Manifest.read(directory)
    check_sizes(directory, manifest)
    for name in (*ARRAYS, *TABLES):
        check_digest(directory, manifest, name)
