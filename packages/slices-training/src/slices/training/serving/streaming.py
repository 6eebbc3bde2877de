"""Tables written to parquet as they come, in row groups: memory holds a few batches, whatever there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

ROW_GROUP = 50_000


def write_stream(path: Path, tables: Iterator[pl.DataFrame], schema: pl.Schema) -> int:
    """Writes the tables one behind the other; whole or not at all. Gives the number of rows.

    An error on the way is raised as it is, and leaves no file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    rows = 0
    failed: list[Exception] = []

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        nonlocal rows
        try:
            for table in tables:
                rows += len(table)
                yield table.select(schema.keys()).cast(schema)
        except Exception as error:
            failed.append(error)
            raise

    try:
        register_io_source(source, schema=schema).sink_parquet(partial, row_group_size=ROW_GROUP)
        partial.replace(path)
    except pl.exceptions.PolarsError:  # older releases of polars wrap what is raised in a source
        if failed:
            raise failed[0] from None
        raise
    finally:
        partial.unlink(missing_ok=True)
    return rows
