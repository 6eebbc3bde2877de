"""A header of plain values and named tensors in one file, ``.pt`` or ``.safetensors``.

Written whole or not at all; read without running, or believing, anything that is in the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .archives import read_archive
from .config import require
from .plain import parse_json, require_plain
from .safetensors_io import read_safetensors, write_safetensors
from .weights import Weights, require_finite

Header = dict[str, Any]


class FileKind(NamedTuple):
    """What a file holds: the name of its format, what that is called, and what writes it."""

    format: str
    content: str
    writer: str


ENCODER = FileKind("slices-encoder", "encoder", "save_encoder")
LONGEST = 3000  # characters of an error


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The path, if its ending is one of the two. Raises ``ValueError`` otherwise."""
    path = Path(path)
    require(path.suffix in (".pt", ".safetensors"), f"{path} must end in .pt or .safetensors")
    return path


def write_file(path: Path, header: Header, weights: Weights) -> None:
    """Write beside ``path`` first, then put it in its place. ``header["format"]`` names its kind.

    Raises ``ValueError`` for weights that are not finite.
    """
    require_finite(weights)
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
        header, weights = _read(path, kind)
    except Exception as error:  # of a damaged file, the readers raise whatever they stumble over
        raise ValueError(
            f"cannot read {path}: it is damaged, cut short or was not written by {kind.writer}; "
            f"save or download it again ({type(error).__name__}: {brief(error)})"
        ) from error
    return header, weights


def is_of_kind(path: Path, kind: FileKind) -> bool:
    """Is this a file of this kind? Of a damaged one, the answer is no."""
    try:
        _read(path, kind)
    except Exception:
        return False
    return True


def brief(error: Exception) -> str:
    """What it says, of which a hostile file may have had a say."""
    text = str(error)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _read(path: Path, kind: FileKind) -> tuple[Header, Weights]:
    header, weights = _read_pt(path) if path.suffix == ".pt" else _read_safetensors(path, kind)
    known = isinstance(header, dict) and header.get("format") == kind.format
    require(known, f"its format is not {kind.format!r}")
    return header, weights


def _read_pt(path: Path) -> tuple[Header, Weights]:
    content = read_archive(path)
    header, weights = content["header"], content["weights"]
    require_plain(header)
    require(
        all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in weights.items()),
        "its weights are not named tensors",
    )
    return header, dict(weights)


def _read_safetensors(path: Path, kind: FileKind) -> tuple[Header, Weights]:
    metadata, weights = read_safetensors(path)
    require(kind.format in metadata, f"its format is not {kind.format!r}")
    return parse_json(metadata[kind.format]), weights
