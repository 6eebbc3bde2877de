"""The challenge's files as tests write them, and what is prepared from them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

import stored
from slices.training.data import (
    StayStore,
    build_source,
    prepare_dataset,
)

DESCRIPTORS = """Time,Parameter,Value
00:00,RecordID,{id}
00:00,Age,54
00:00,Gender,0
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,-1
"""
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def stay_text(number: int, lines: str = "") -> str:
    return DESCRIPTORS.format(id=number) + lines


def write_folder(raw: Path, name: str, texts: dict[int, str], outcomes: str | None = None) -> None:
    (raw / f"set-{name}").mkdir(parents=True)
    for number, text in texts.items():
        (raw / f"set-{name}" / f"{number}.txt").write_text(text)
    if outcomes is not None:
        (raw / f"Outcomes-{name}.txt").write_text(outcomes)


def prepared(raw: Path, **options: Any) -> StayStore:
    source = build_source({"name": "physionet2012", "raw": str(raw), **options})
    return prepare_dataset(source, raw.parent / "dataset")


def events(store: StayStore, stay: int) -> list[tuple[float, str, float]]:
    """Hour, variable and value of a stay's events, rounded."""
    of_stay = (event[1:] for event in stored.events(store) if event[0] == stay)
    return [(round(time, 4), name, round(value, 4)) for time, name, value in of_stay]


def labels(store: StayStore, task: str) -> dict[int, float]:
    return dict(store.labels(task).select("stay_id", "value").iter_rows())


def make_archive(path: Path) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as tar:
        for number in range(100, 140):
            text = stay_text(number, "".join(f"01:00,HR,{v}\n" for v in rng.integers(40, 140, 50))).encode()
            entry = tarfile.TarInfo(f"set-a/{number}.txt")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
