"""Downloads of the challenge's files, from a site that is a folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from physionet_raw import OUTCOMES, make_archive
from slices.training.data.sources.physionet2012 import files


def test_downloads_are_verified_and_only_what_is_missing(tmp_path: Path) -> None:
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    make_archive(site / "set-a.tar.gz")
    (site / "Outcomes-a.txt").write_text(OUTCOMES + "100,6,1,5,-1,0\n")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.name}" for path in sorted(site.iterdir())]
    (site / "SHA256SUMS.txt").write_text("\n".join(sums))
    address = site.as_uri() + "/"
    files.download(raw, ("a",), address)
    assert (raw / "set-a.tar.gz").read_bytes() == (site / "set-a.tar.gz").read_bytes()
    os.remove(site / "SHA256SUMS.txt")
    files.download(raw, ("a",), address)  # nothing is missing, nothing is asked for
    with pytest.raises(OSError, match=r"cannot download .*SHA256SUMS.txt.*by hand into data.source.raw"):
        files.download(raw, ("b",), address)
    (site / "SHA256SUMS.txt").write_text("0" * 64 + " set-a.tar.gz\n")
    os.remove(raw / "set-a.tar.gz")
    with pytest.raises(ValueError, match="does not match its published SHA-256"):
        files.download(raw, ("a",), address)
    assert [path.name for path in raw.iterdir()] == ["Outcomes-a.txt"]


@pytest.mark.parametrize("layout", ["{} {}", "{}  {}", "{} *{}", "{}\t{}", "\n{}  {} \r\n"])
def test_checksum_listings_as_the_usual_tools_write_them(layout: str, tmp_path: Path) -> None:
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    make_archive(site / "set-a.tar.gz")
    (site / "Outcomes-a.txt").write_text(OUTCOMES + "100,6,1,5,-1,0\n")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in site.iterdir()}
    lines = [layout.format(checksum, name) for name, checksum in sums.items()]
    lines.append(layout.format("0" * 64, "a name with spaces.txt"))
    (site / "SHA256SUMS.txt").write_text("\n".join(lines), newline="")
    files.download(raw, ("a",), site.as_uri() + "/")
    assert {path.name for path in raw.iterdir()} == {"set-a.tar.gz", "Outcomes-a.txt"}


def test_a_file_without_a_published_sum_is_not_downloaded(tmp_path: Path) -> None:
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    make_archive(site / "set-a.tar.gz")
    (site / "SHA256SUMS.txt").write_text("0" * 64 + "  set-b.tar.gz\nnonsense\n")
    with pytest.raises(ValueError, match=r"set-a.tar.gz, Outcomes-a.txt: not listed in .*SHA256SUMS.txt"):
        files.download(raw, ("a",), site.as_uri() + "/")
    assert not raw.exists()
