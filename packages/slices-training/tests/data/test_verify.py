"""A dataset that is not what was written is found out when asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from slices.training.data import DatasetError, build_source, prepare_dataset
from slices.training.data.store import ARRAYS, TABLES
from slices.training.data.verify import verify_dataset

FILES = [*ARRAYS, *TABLES]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = build_source({"name": "synthetic", "n_stays": 20})
    return prepare_dataset(source, tmp_path_factory.mktemp("verify") / "dataset").directory


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_whole_dataset_passes(dataset: Path) -> None:
    verify_dataset(dataset)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(name: str, share: float, dataset: Path) -> None:
    path = dataset / name
    content = path.read_bytes()
    damaged = flipped(content, int(share * len(content)))
    digests = [hashlib.sha256(text).hexdigest()[:12] for text in (damaged, content)]
    path.write_bytes(damaged)
    try:
        with pytest.raises(
            DatasetError,
            match=rf"{name} is damaged .*{digests[0]}.*manifest says {digests[1]}.*overwrite=true",
        ):
            verify_dataset(dataset)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "value.npy is missing"),
        (lambda path: path.write_bytes(b""), "value.npy has 0 bytes"),
    ],
)
def test_what_is_missing_is_named(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    store = prepare_dataset(build_source({"name": "synthetic", "n_stays": 2}), tmp_path / "d")
    damage(store.directory / "value.npy")
    with pytest.raises(DatasetError, match=f"{message}.*overwrite=true"):
        verify_dataset(store.directory)
    with pytest.raises(FileNotFoundError, match="no dataset at"):
        verify_dataset(tmp_path / "nowhere")
