"""Finding, downloading and reading the challenge's files; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import os
import re
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

SETS = ("a", "b", "c")
URL = "https://physionet.org/files/challenge-2012/1.0.0/"
SUMS = "SHA256SUMS.txt"
STAY_FILE = re.compile(r"\d{1,15}\.txt")
MOST_UNPACKED = 300_000_000  # bytes; a set has 30 million
DAMAGED = (gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)

log = logging.getLogger(__name__)


def find_sets(raw: Path, wanted: tuple[str, ...]) -> dict[str, Path]:
    """Each wanted set (or every one there is) and its archive or folder; an archive is preferred, since
    it shows when it is not whole.

    Raises ``FileNotFoundError`` where a wanted set, or any at all, is missing.
    """
    found = {name: path for name in SETS if (path := locate(raw, name))}
    if missing := [name for name in wanted if name not in found]:
        raise FileNotFoundError(
            f"{raw} has no set-{missing[0]} (looked for set-{missing[0]}.tar.gz, .zip and a folder; "
            f"sets found: {', '.join(found) or 'none'}): {_where_to_get_it()}"
        )
    if not found:
        raise FileNotFoundError(f"{raw} has none of set-a, set-b, set-c: {_where_to_get_it()}")
    return {name: found[name] for name in wanted or found}


def _where_to_get_it() -> str:
    return f"set data.source.raw to where it is, data.source.download=true to fetch it, or see {URL}"


def locate(raw: Path, name: str) -> Path | None:
    """The archive or folder of a set, if there is one."""
    for path in (raw / f"set-{name}.tar.gz", raw / f"set-{name}.zip"):
        if path.is_file():
            return path
    return folder if (folder := raw / f"set-{name}").is_dir() else None


def outcomes_file(raw: Path, name: str) -> Path:
    """Where the outcomes of a set are, if they are there."""
    return raw / f"Outcomes-{name}.txt"


def read_stays(path: Path) -> tuple[dict[int, bytes], int]:
    """The text of every stay of a set by record number, and how many entries were no such file or came twice.

    Raises ``ValueError`` naming the archive where it is truncated, damaged or holds no stay, ``OSError``
    where the system does not give it.
    """
    stays: dict[int, bytes] = {}
    ignored = 0
    try:
        for name, content in _entries(path):
            if STAY_FILE.fullmatch(name) and int(name[:-4]) not in stays:
                stays[int(name[:-4])] = content
            else:
                ignored += 1
    except DAMAGED as error:
        raise ValueError(
            f"{path} is truncated or damaged ({type(error).__name__}: {error}): "
            f"remove it and fetch it again from {URL}"
        ) from error
    except OSError as error:
        raise named(error, path) from error
    if not stays:
        raise ValueError(f"{path} holds no file like 132539.txt: it is not a set of the challenge. See {URL}")
    return stays, ignored


def stay_numbers(path: Path) -> set[int]:
    """The record numbers of a set. Raises as ``read_stays`` does."""
    return set(read_stays(path)[0])


def named(error: OSError, path: Path) -> OSError:
    """The same system error, naming the path where it does not yet."""
    return OSError(error.errno, error.strerror or str(error), str(error.filename or path))


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Base name and content of every file in a folder, .tar.gz or .zip."""
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(path.rglob("*")) if file.is_file())
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            _check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield Path(entry.filename).name, archive.read(entry)
    else:
        with gzip.open(path) as packed:
            content = packed.read(MOST_UNPACKED + 1)  # whole, so that its check sum is verified
        _check_unpacked(path, len(content))
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)) is not None:
                    yield Path(member.name).name, file.read()


def _check_unpacked(path: Path, size: int) -> None:
    if size > MOST_UNPACKED:
        raise ValueError(f"{path} unpacks to more than {MOST_UNPACKED:,} bytes, which no set of stays does")


def download(raw: Path, wanted: tuple[str, ...], url: str = URL) -> None:
    """Fetch what is missing of the wanted sets, checked against the SHA-256 sums published beside them.

    Raises ``OSError`` where the site cannot be reached, ``ValueError`` where a sum does not match
    or is not published.
    """
    files = [
        f"{stem}{name}{end}"
        for name in wanted or SETS
        for stem, end in (("set-", ".tar.gz"), ("Outcomes-", ".txt"))
    ]
    missing = [file for file in files if not _is_there(raw, file)]
    if not missing:
        return
    sums = _checksums(_fetch(url + SUMS).decode())
    if unlisted := [file for file in missing if file not in sums]:
        raise ValueError(
            f"{', '.join(unlisted)}: not listed in {url + SUMS}, so that a download could not be verified: "
            "fetch it by hand into data.source.raw"
        )
    raw.mkdir(parents=True, exist_ok=True)
    for file in missing:
        log.info("downloading %s", url + file)
        content = _fetch(url + file)
        if hashlib.sha256(content).hexdigest() != sums[file]:
            raise ValueError(f"{url + file} does not match its published SHA-256 sum: try again later")
        temporary = raw / f".{file}.{os.getpid()}.part"
        temporary.write_bytes(content)
        os.replace(temporary, raw / file)


def _checksums(listing: str) -> dict[str, str]:
    """Checksum of each file, from lines as sha256sum writes them: "<sum>  <name>" or "<sum> *<name>"."""
    lines = (line.strip().split(maxsplit=1) for line in listing.splitlines())
    return {pair[1].removeprefix("*"): pair[0].lower() for pair in lines if len(pair) == 2}


def _is_there(raw: Path, file: str) -> bool:
    if file.startswith("set-"):
        return locate(raw, file.removeprefix("set-").removesuffix(".tar.gz")) is not None
    return (raw / file).is_file()


def _fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            content: bytes = response.read()
            return content
    except OSError as error:
        raise OSError(
            f"cannot download {address} ({error}): fetch it by hand into data.source.raw"
        ) from error
