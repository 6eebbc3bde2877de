"""A header of plain values and named tensors in one file, ``.pt`` or ``.safetensors``.

Written whole or not at all; read without running anything that is in the file.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from .config import require

Header = dict[str, Any]
Weights = dict[str, Tensor]


class FileKind(NamedTuple):
    """What a file holds: the name of its format, what that is called, and what writes it."""

    format: str
    content: str
    writer: str


ENCODER = FileKind("slices-encoder", "encoder", "save_encoder")
_SAFETENSORS_DTYPES = {
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


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The path, if its ending is one of the two. Raises ``ValueError`` otherwise."""
    path = Path(path)
    require(path.suffix in (".pt", ".safetensors"), f"{path} must end in .pt or .safetensors")
    return path


def write_file(path: Path, header: Header, weights: Weights) -> None:
    """Write beside ``path`` first, then put it in its place. ``header["format"]`` names its kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix == ".pt":
            torch.save({"header": header, "weights": weights}, part)
        else:
            write_safetensors(part, {header["format"]: json.dumps(header)}, weights)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_file(path: Path, kind: FileKind = ENCODER) -> tuple[Header, Weights]:
    """Header and weights as written. ``ValueError`` for a damaged or foreign file, naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {kind.content} at {path}")
    try:
        header, weights = _read_pt(path) if path.suffix == ".pt" else _read_safetensors(path, kind)
        known = isinstance(header, dict) and header.get("format") == kind.format
        require(known, f"its format is not {kind.format!r}")
    except Exception as error:  # of a damaged file, the readers raise whatever they stumble over
        raise ValueError(
            f"cannot read {path}: it is damaged, cut short or was not written by {kind.writer}; "
            f"save or download it again ({type(error).__name__}: {error})"
        ) from error
    return header, weights


def _read_pt(path: Path) -> tuple[Header, Weights]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    header, weights = content["header"], content["weights"]
    require(
        all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in weights.items()),
        "its weights are not named tensors",
    )
    return header, dict(weights)


def _read_safetensors(path: Path, kind: FileKind) -> tuple[Header, Weights]:
    metadata, weights = read_safetensors(path)
    require(kind.format in metadata, f"its format is not {kind.format!r}")
    return json.loads(metadata[kind.format]), weights


def read_safetensors(path: Path) -> tuple[dict[str, str], Weights]:
    """Metadata and tensors."""
    with safe_open(path, framework="pt", device="cpu") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return dict(file.metadata() or {}), weights


def write_safetensors(path: Path, metadata: dict[str, str], weights: Weights) -> None:
    """The format is short, and the library's own writer needs numpy, which torch does not bring along."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in weights.items():
        dtype = _SAFETENSORS_DTYPES.get(tensor.dtype)
        require(dtype is not None, f"{name} is {tensor.dtype}, which .safetensors cannot hold; save a .pt")
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for tensor in weights.values():
            file.write(ctypes.string_at(tensor.data_ptr(), tensor.nbytes))
