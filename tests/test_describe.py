"""``slices-describe verify=true`` on the command line."""

from __future__ import annotations

from pathlib import Path

from cli import CommandLine


def test_describing_verifies_when_asked(cli: CommandLine, tmp_path: Path) -> None:
    arguments = ["data.source.n_stays=20", "data.dataset_dir=made"]
    assert cli("prepare", *arguments).status == 0
    whole = cli("describe", *arguments, "verify=true")
    assert whole.status == 0 and "every file is as it was written" in whole.out, whole.err
    path = tmp_path / "made" / "value.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cli("describe", *arguments).status == 0  # opening looks at sizes only
    damaged = cli("describe", *arguments, "verify=true")
    assert damaged.status == 2
    assert "value.npy is damaged" in damaged.err and "overwrite=true" in damaged.err


def test_what_cannot_even_be_opened_is_verified_first(cli: CommandLine, tmp_path: Path) -> None:
    arguments = ["data.source.n_stays=20", "data.dataset_dir=made"]
    assert cli("prepare", *arguments).status == 0
    path = tmp_path / "made" / "stays.parquet"
    path.write_bytes(b"x" * path.stat().st_size)
    damaged = cli("describe", *arguments, "verify=true")
    assert damaged.status == 2 and "stays.parquet is damaged" in damaged.err
