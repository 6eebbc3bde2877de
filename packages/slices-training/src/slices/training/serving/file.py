"""A fine-tuned model in one file, ``.pt`` or ``.safetensors``, in the way of ``slices.encoders.checkpoint``.

A header of plain values (encoder, head, normaliser, task, view, temperature, thresholds, provenance) and the
weights. Reading one never runs code from it: encoder and head must be registered under the names in it, and
every value goes through the checks of its dataclass.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from slices.encoders.checkpoint import encoder_header, encoder_of, plain_header
from slices.encoders.files import FileKind, Header, brief, checked_path, read_file, write_file
from slices.encoders.registry import make_config
from slices.encoders.weights import build_to_fit, put_weights, weights_of
from slices.heads import TaskHeadConfig, build_task_head
from slices.training.serving.info import ModelInfo
from slices.training.serving.model import TrainedModel

MODEL = FileKind("slices-model", "model", "save_model")
FORMAT_VERSION = 1
PARTS = ("encoder", "head")


def save_model(path: str | os.PathLike[str], model: TrainedModel) -> Path:
    """Write a model to ``.pt`` or ``.safetensors``, by the path's ending; whole or not at all.

    Raises:
        ValueError: another ending, an encoder whose class is not registered, or a model that could not be
            loaded from it, such as one with layers added to a registered encoder.
        TypeError: a config with something in it that is not a plain value.
    """
    path = checked_path(path)
    header: Header = {
        "format": MODEL.format,
        "format_version": FORMAT_VERSION,
        "encoder": encoder_header(model.encoder, model.normalizer, model.card),
        "head": asdict(model.head.config),
        "model": asdict(model.info),
    }
    header, weights = plain_header(header), _weights(model)
    try:
        _model_of(header, weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not written, since it could not be loaded: {error}") from error
    write_file(path, header, weights)
    return path


def load_model(path: str | os.PathLike[str]) -> TrainedModel:
    """Read what ``save_model`` wrote, onto the CPU and in eval mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another ending, a damaged or foreign file, an encoder or head that is not registered, a
            config or weights that do not fit. Names the file and lists all that does not match.
    """
    path = checked_path(path)
    header, weights = read_file(path, MODEL)
    try:
        _check_header(header)
        return _model_of(header, weights)
    except Exception as error:  # whatever a config that nobody wrote leads to
        raise ValueError(f"cannot load {path}: {brief(error)}") from error


def _model_of(header: Header, weights: dict[str, Tensor]) -> TrainedModel:
    of_part = {part: _below(weights, f"{part}.") for part in PARTS}
    if foreign := weights.keys() - {f"{part}.{name}" for part in PARTS for name in of_part[part]}:
        raise ValueError(f"unexpected {', '.join(sorted(foreign))}")
    loaded = encoder_of(header["encoder"], of_part["encoder"])
    if loaded.normalizer is None:
        raise ValueError("it has no normaliser")
    config = make_config(TaskHeadConfig, header["head"], "head")
    head = build_to_fit(lambda: build_task_head(config), header["head"], of_part["head"])
    put_weights(head, of_part["head"])
    info = make_config(ModelInfo, header["model"], "model")
    return TrainedModel(loaded.encoder, head, loaded.normalizer, info, loaded.card)


def _weights(model: TrainedModel) -> dict[str, Tensor]:
    parts = {part: weights_of(getattr(model, part)) for part in PARTS}
    return {f"{part}.{name}": tensor for part, held in parts.items() for name, tensor in held.items()}


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _check_header(header: Header) -> None:
    if (written := header.get("format_version")) != FORMAT_VERSION:
        raise ValueError(
            f"it has format version {written}, slices-training {version('slices-training')} reads version "
            f"{FORMAT_VERSION}; install the slices-training that wrote it"
        )
    if missing := {"encoder", "head", "model"} - header.keys():
        raise ValueError(f"its header lacks {', '.join(sorted(missing))}")
    if missing := {"name", "config", "normalizer", "card"} - header["encoder"].keys():
        raise ValueError(f"its encoder lacks {', '.join(sorted(missing))}")
