"""Small raw data of each source, as files to damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from meds_raw import RECORD
from physionet_raw import OUTCOMES, stay_text, write_folder
from ricu_raw import hourly_tables
from table_raw import ROWS


def write_ricu(raw: Path) -> Path:
    for name, table in hourly_tables().items():
        table.write_parquet(raw / f"{name}.parquet")
    return raw / "dyn.parquet"


def write_table(raw: Path) -> Path:
    pl.DataFrame(ROWS).write_parquet(raw / "rows.parquet")
    return raw / "rows.parquet"


def write_csv(raw: Path) -> Path:
    pl.DataFrame(ROWS).write_csv(raw / "rows.csv")
    return raw / "rows.csv"


def write_meds(raw: Path) -> Path:
    (raw / "data").mkdir()
    RECORD.write_parquet(raw / "data" / "0.parquet")
    return raw / "data" / "0.parquet"


def write_physionet(raw: Path) -> Path:
    lines = "00:07,HR,73\n00:37,Temp,35.1\n01:07,NISysABP,147\n47:59,HR,88\n"
    texts = {number: stay_text(number, lines) for number in (132539, 132540)}
    outcomes = OUTCOMES + "132539,6,1,5,-1,0\n132540,16,8,8,7,1\n"
    write_folder(raw, "a", texts, outcomes)
    return raw / "set-a" / "132539.txt"


WRITERS: dict[str, Callable[[Path], Path]] = {
    "ricu": write_ricu,
    "table": write_table,
    "meds": write_meds,
    "physionet2012": write_physionet,
}
