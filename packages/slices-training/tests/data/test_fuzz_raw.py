"""Raw files damaged anywhere are read or refused by an error of ours; no dataset is ever half there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from fuzzing import examples, is_ours
from raw_files import WRITERS, write_csv
from slices.training.data import build_source, prepare_dataset
from slices.training.data.verify import verify_dataset

SOURCES = [*WRITERS.items(), ("table", write_csv)]
WHERE = st.floats(0, 1, exclude_max=True)
CELLS = [
    "",
    "nan",
    "1e400",
    "-1",
    "x",
    '"',
    "2024-03-01 14:30",
    "99999999999999999999",
    "\x00",
    "ü",
    ",",
    "\n",
]


@st.composite
def edits(draw: st.DrawFn) -> Any:
    """What becomes of a file's content."""
    kind = draw(st.sampled_from(["cut", "bytes", "cells", "lines", "empty"]))
    places = draw(
        st.lists(st.tuples(WHERE, st.integers(0, 255), st.sampled_from(CELLS)), min_size=1, max_size=6)
    )

    def edited(content: bytes) -> bytes:
        note(f"{kind} {places}")
        where, _, _ = places[0]
        if kind in ("cut", "empty"):
            return content[: int(where * len(content)) if kind == "cut" else 0]
        if kind == "bytes":
            changed = bytearray(content)
            for where, byte, _ in places:
                changed[int(where * len(content))] = byte
            return bytes(changed)
        separator = b"," if kind == "cells" else b"\n"
        cells = content.split(separator)
        for where, _, cell in places:
            cells[int(where * len(cells))] = cell.encode()
        return separator.join(cells)

    return edited


def prepared_or_refused(folder: Path, source: Any, edited: Any, which: float) -> None:
    shutil.rmtree(folder / "raw", ignore_errors=True)
    shutil.rmtree(folder / "dataset", ignore_errors=True)
    (folder / "raw").mkdir()
    name, write = source
    write(folder / "raw")
    files = sorted(path for path in (folder / "raw").rglob("*") if path.is_file())
    path = files[int(which * len(files))]
    note(f"{name}: {path}")
    path.write_bytes(edited(path.read_bytes()))
    try:
        prepare_dataset(build_source({"name": name, "raw": str(folder / "raw")}), folder / "dataset")
    except (ValueError, TypeError, OSError) as error:
        assert is_ours(error), error
        assert not (folder / "dataset").exists()
    else:
        verify_dataset(folder / "dataset")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@examples(30)
@given(st.sampled_from(SOURCES), edits(), WHERE)
def test_damaged_raw_data_is_read_or_refused(workplace: Path, source: Any, edited: Any, which: float) -> None:
    prepared_or_refused(workplace, source, edited, which)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@examples(1000)
@given(st.sampled_from(SOURCES), edits(), WHERE)
def test_much_damaged_raw_data_is_read_or_refused(
    workplace: Path, source: Any, edited: Any, which: float
) -> None:
    prepared_or_refused(workplace, source, edited, which)
