"""A source of many parts that takes its time, for tests that kill, and for processes that import it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from slices.training.data import Chunk, Part, Source, Tally, Variable, prepare_dataset
from slices.training.data.schema import EVENT_SCHEMA, LABEL_SCHEMA, STAY_SCHEMA

PARTS, STAYS = 12, 5


@dataclass(kw_only=True)
class SlowConfig:
    """``log``: a file to which every read adds a line, its process and its part."""

    log: str = field(metadata={"content": False})
    seconds: float = field(default=0.0, metadata={"content": False})
    broken: str = field(default="", metadata={"content": False})


class SlowSource(Source):
    name = "slow"
    variables = (Variable(name="hr"), Variable(name="age", static=True))
    tasks = ()
    config: SlowConfig

    def parts(self) -> list[Part]:
        return [Part(f"number {i}") for i in range(PARTS)]

    def raw_files(self) -> dict[str, tuple[str, ...]]:
        return {}

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        with open(self.config.log, "a") as log:
            log.write(f"{os.getpid()} {part.name}\n")
        if part.name == self.config.broken:
            raise ValueError("a value that cannot be")
        time.sleep(self.config.seconds)
        first = STAYS * int(part.name.split()[1])
        stays = [(first + i, first + i, "a", 48.0) for i in range(STAYS)]
        events = [
            (stay[0], hour, v, stay[0] + hour + v) for stay in stays for hour in (3.0, 0.0) for v in (1, 0)
        ]
        tally.add("noted", "a part that was read", {"a": 1})
        yield Chunk(
            pl.DataFrame(stays, STAY_SCHEMA, orient="row"),
            pl.DataFrame(events, EVENT_SCHEMA, orient="row"),
            LABEL_SCHEMA.to_frame(),
        )


def reads(log: Path) -> list[tuple[int, str]]:
    """Process and part of every read so far."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(line.split()[0]), line.split(maxsplit=1)[1]) for line in lines]


def main(directory: str, log: str, seconds: str) -> None:
    """Prepare it with two processes."""
    prepare_dataset(SlowSource(SlowConfig(log=log, seconds=float(seconds))), directory, jobs=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
