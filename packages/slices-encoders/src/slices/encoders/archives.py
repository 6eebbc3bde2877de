"""What ``torch.save`` wrote, read so that a file from a stranger can do no harm.

``weights_only`` runs no code, but what it may build is a long list, and it believes the sizes that a file
claims. So the archive is checked before torch sees it, and nothing but plain tensors is built.
"""

from __future__ import annotations

import os
import pickletools
import stat
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import torch
from torch import Tensor

from .config import require
from .plain import leaves

MOST_BYTES = 4_000_000  # of what is not weights, as reading takes seventy times as much memory,
A_TENSOR = 250  # and beside these for each tensor, so that what was trained can be resumed however deep it is
BUILT = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2")  # and storages
END = 98  # bytes of the three records that close what torch.save writes
MOST_BEHIND = 64  # bytes, such as a checksum of the whole


def read_archive(path: Path) -> Any:
    """The content, with its tensors on the CPU, mapped from the file.

    Raises whatever is stumbled over, ``ValueError`` for records that are compressed, linked, doubled, damaged
    or larger than the file, for a pickle that is too long or names anything but tensors, and for a tensor
    that is larger than its data, ``MemoryError`` for a file that is larger than this machine's memory.
    """
    size = require_loadable(path)
    with ZipFile(path) as archive:
        _check_end(path, archive)
        records = archive.infolist()
        for record in records:
            _check_record(record)
        names = {record.filename.lower() for record in records}  # torch does not tell their case apart
        require(len(names) == len(records), "it holds a record twice")
        require(sum(record.file_size for record in records) <= size, "its records claim more than it holds")
        pickle = archive.getinfo(records[0].filename.partition("/")[0] + "/data.pkl")  # as torch finds it
        most = MOST_BYTES + A_TENSOR * len(records)
        require(pickle.file_size <= most, f"beside its weights it has {pickle.file_size:,} bytes")
        _check_pickle(archive.read(pickle))
        damaged = archive.testzip()
        require(damaged is None, f"its record {damaged} is damaged")
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    for value in leaves(content):
        if isinstance(value, Tensor):  # one number can be expanded to any shape
            require(value.nbytes <= value.untyped_storage().nbytes(), "a tensor is larger than its data")
    return content


def require_loadable(path: Path) -> int:
    """Its bytes; ``MemoryError`` for more than this machine's memory, as a sparse file may claim."""
    size = path.stat().st_size
    if hasattr(os, "sysconf"):  # which Windows has not
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if size > memory:
            raise MemoryError("it is larger than the memory of this machine")
    return size


def _check_end(path: Path, archive: ZipFile) -> None:
    """Python's reader finds the list of records by its place, torch's by what is written: both must agree."""
    with path.open("rb") as file:
        file.seek(-min(END + MOST_BEHIND, path.stat().st_size), 2)
        begin, rest = file.tell(), file.read()
    at = rest.rfind(b"PK\5\6") - 76
    end = rest[max(at, 0) :][:END]
    written = [int.from_bytes(end[place : place + 8], "little") for place in (48, 64)]
    known = end[:4] + end[56:60] + end[76:80] == b"PK\6\6PK\6\7PK\5\6"
    require(known and written == [archive.start_dir, begin + at], "it does not end as torch.save ends a file")


def _check_record(record: ZipInfo) -> None:
    name = record.orig_filename
    require(name == record.filename, f"its record {name!r} has two names")
    linked = stat.S_ISLNK(record.external_attr >> 16)
    outside = ".." in PurePosixPath(name).parts or "\\" in name or PurePosixPath(name).is_absolute()
    require(not linked and not outside, f"its record {name!r} is no file within it")
    require(record.compress_type == ZIP_STORED, f"its record {name!r} is compressed")


def _check_pickle(pickle: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            name = str(argument)
            known = name in BUILT or (name.startswith("torch ") and name.endswith("Storage"))
            require(known, f"it names {name.replace(' ', '.')}, which is no tensor")
