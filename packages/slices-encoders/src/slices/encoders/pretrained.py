"""An encoder as a folder: ``model.safetensors`` and ``config.json``, the layout of the Hugging Face hub.

``push`` and ``pull`` carry such a folder there and back; they need the extra ``hub``, and are all of this
package that ever opens a connection.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .base import BaseEncoder
from .checkpoint import (
    FORMAT_VERSION,
    EncoderCard,
    LoadedEncoder,
    check_header,
    encoder_header,
    encoder_of,
)
from .config import require
from .files import ENCODER, Header, brief
from .normalizer import Normalizer
from .plain import parse_json
from .safetensors_io import read_safetensors, write_safetensors
from .weights import Weights, require_finite, weights_of

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MOST_BYTES = 10_000_000  # of a config; a real one has a few thousand


def save_pretrained(
    folder: str | os.PathLike[str],
    encoder: BaseEncoder,
    normalizer: Normalizer | None = None,
    card: EncoderCard | None = None,
) -> Path:
    """Write ``model.safetensors`` and ``config.json`` into a folder, which is made where it is not there.

    Raises:
        ValueError, TypeError: what cannot be saved, as in ``save_encoder``.

    >>> import tempfile
    >>> from slices.encoders import build_encoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_pretrained(folder, build_encoder("gru", {"d_input": 4}))
    ...     sorted(file.name for file in path.iterdir()), from_pretrained(folder).encoder.d_input
    (['config.json', 'model.safetensors'], 4)
    """
    folder = Path(folder)
    header = {"format": ENCODER.format, "format_version": FORMAT_VERSION}
    header |= encoder_header(encoder, normalizer, card)
    tensors = weights_of(encoder)
    require_finite(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    weights, config = (folder / f".{name}.{os.getpid()}.part" for name in (WEIGHTS, CONFIG))
    try:
        write_safetensors(weights, {"format": "pt"}, tensors)
        config.write_text(json.dumps(header, indent=2) + "\n")
        os.replace(weights, folder / WEIGHTS)
        os.replace(config, folder / CONFIG)
    finally:
        weights.unlink(missing_ok=True)
        config.unlink(missing_ok=True)
    return folder


def from_pretrained(folder: str | os.PathLike[str]) -> LoadedEncoder:
    """Read what ``save_pretrained`` wrote, onto the CPU and in eval mode. Runs no code of it.

    Raises:
        FileNotFoundError: no such folder, or one of its two files is not there.
        ValueError: damaged or foreign files, an encoder that is not registered, a config or weights that do
            not fit it. Names the file and lists all that does not match.
    """
    folder = Path(folder)
    for file in (folder / CONFIG, folder / WEIGHTS):
        if not file.is_file():
            raise FileNotFoundError(
                f"no encoder in {folder}: there is no {file.name}. Give a folder that save_pretrained wrote, "
                'or that pull("owner/name") brought'
            )
    header = _config(folder / CONFIG)
    weights = _weights(folder / WEIGHTS)
    try:
        return encoder_of(header, weights)
    except Exception as error:  # whatever a config that nobody wrote leads to
        raise ValueError(f"cannot load {folder}: {brief(error)}") from error


def push(folder: str | os.PathLike[str], repo_id: str, *, private: bool = True) -> str:
    """Upload a folder that ``save_pretrained`` wrote to ``owner/name`` on the hub; gives its address.

    Raises:
        ImportError: the extra is not installed.
        FileNotFoundError, ValueError: no encoder lies there.
    """
    hub = _hub()
    from_pretrained(folder)  # nobody is sent what cannot be loaded
    api = hub.HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=[WEIGHTS, CONFIG]))


def pull(repo_id: str, *, revision: str | None = None, cache_dir: str | None = None) -> Path:
    """Download ``owner/name`` from the hub, its two files alone; gives the folder for ``from_pretrained``.

    Raises ``ImportError`` where the extra is not installed.
    """
    patterns = [WEIGHTS, CONFIG]
    found = _hub().snapshot_download(repo_id, revision=revision, allow_patterns=patterns, cache_dir=cache_dir)
    return Path(found)


def _config(path: Path) -> Header:
    require(path.stat().st_size <= MOST_BYTES, f"{path} is too large to be the config of an encoder")
    try:
        header = parse_json(path.read_bytes())
        known = isinstance(header, dict) and header.get("format") == ENCODER.format
        require(known, f"its format is not {ENCODER.format!r}")
    except ValueError as error:
        raise ValueError(
            f"cannot read {path}: it was not written by save_pretrained ({brief(error)})"
        ) from error
    check_header(path, header)
    return dict(header)


def _weights(path: Path) -> Weights:
    try:
        return read_safetensors(path)[1]
    except Exception as error:  # of a damaged file, the reader raises whatever it stumbles over
        raise ValueError(f"cannot read {path}: it is damaged or cut short ({brief(error)})") from error


def _hub() -> ModuleType:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError(
            "the hub needs huggingface-hub: pip install 'slices-encoders[hub]', or carry the folder yourself"
        ) from error
