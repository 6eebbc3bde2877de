"""``.safetensors``, with a checksum: the format has none, and a flipped bit would be another model."""

from __future__ import annotations

import ctypes
import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from .archives import MOST_BYTES, require_loadable
from .config import require
from .plain import parse_json

CHECKSUM = "crc32"  # in the metadata: of the header without it, and of the weights
CHUNK = 1 << 22
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors. Raises whatever is stumbled over; a file without a checksum is not verified."""
    _verify(path)
    with safe_open(path, framework="pt", device="cpu") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return dict(file.metadata() or {}), weights


def write_safetensors(path: Path, metadata: dict[str, str], weights: dict[str, Tensor]) -> None:
    """The format is short, and the library's own writer needs numpy, which torch does not bring along."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in weights.items():
        dtype = _DTYPES.get(tensor.dtype)
        require(dtype is not None, f"{name} is {tensor.dtype}, which .safetensors cannot hold; save a .pt")
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    checksum = _of_entries(entries)
    for tensor in weights.values():
        checksum = zlib.crc32(_bytes(tensor), checksum)
    entries["__metadata__"][CHECKSUM] = f"{checksum:08x}"
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for tensor in weights.values():
            file.write(_bytes(tensor))


def _verify(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        require(length <= min(MOST_BYTES, require_loadable(path)), f"its header claims {length:,} bytes")
        entries = parse_json(file.read(length))
        expected = entries.get("__metadata__", {}).pop(CHECKSUM, None)
        if expected is None:
            return
        checksum = _of_entries(entries)
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    require(expected == f"{checksum:08x}", f"its checksum is {checksum:08x}, not {expected}")


def _of_entries(entries: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(entries, sort_keys=True).encode())


def _bytes(tensor: Tensor) -> bytes:
    return ctypes.string_at(tensor.data_ptr(), tensor.nbytes)
