"""Taking a pretrained encoder from a file."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from slices.encoders import BaseEncoder, EncoderCard, LoadedEncoder, build_encoder, load_encoder
from slices.encoders.files import brief
from slices.encoders.weights import build_to_fit, put_weights
from slices.ssl import build_ssl_objective
from slices.training.card import as_normalizer, unpack_card
from slices.training.checkpoint_io import read_checkpoint
from slices.training.config import NamedEncoder, PretrainConfig
from slices.training.errors import UserError
from slices.training.module_checkpoint import module_config

log = logging.getLogger(__name__)

# what may differ between the encoder in a file and the one asked for: neither changes what its weights mean
FREE_OPTIONS = ("dropout", "pooling")


def read_pretrained(
    checkpoint_path: str | Path | None = None, pretrain_checkpoint_path: str | Path | None = None
) -> LoadedEncoder | None:
    """The encoder of an encoder file, or of a Lightning checkpoint of pretraining; None without either.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged or something else; it is named.
    """
    if checkpoint_path is not None and pretrain_checkpoint_path is not None:
        raise UserError("give checkpoint_path or pretrain_checkpoint_path, not both")
    path = checkpoint_path or pretrain_checkpoint_path
    if path is None:
        return None
    if pretrain_checkpoint_path is not None or Path(path).suffix == ".ckpt":
        return _from_lightning(Path(path))
    loaded = load_encoder(path)
    if not loaded.card.variables:
        log.warning("%s names no variables: data is matched by the number of its columns alone", path)
    return loaded


def _from_lightning(path: Path) -> LoadedEncoder:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: give the .ckpt file of a pretraining run")
    held = read_checkpoint(path)
    try:
        return _of_pretraining(held)
    except Exception as error:  # whatever a config that nobody wrote leads to
        raise ValueError(f"{path} is not a checkpoint of pretraining: {brief(error)}") from error


def _of_pretraining(checkpoint: Mapping[str, Any]) -> LoadedEncoder:
    given, part = module_config(checkpoint), "objective."
    config = PretrainConfig.parse(given)
    weights = {name.removeprefix(part): tensor for name, tensor in checkpoint["state_dict"].items()}
    objective = build_to_fit(
        lambda: build_ssl_objective(build_encoder(config.encoder.name, config.encoder.config), config.ssl),
        given["encoder"],
        weights,
    )
    put_weights(objective, weights)
    card, normalizer = unpack_card(checkpoint.get("slices"))
    return LoadedEncoder(
        cast(BaseEncoder, objective.encoder),
        as_normalizer(normalizer),
        card or EncoderCard(objective=config.ssl.name),
    )


def adapted(
    loaded: LoadedEncoder, wanted: NamedEncoder | None, name: str, per_step: bool
) -> tuple[BaseEncoder, list[str]]:
    """The loaded encoder, with the dropout and pooling asked for, and its parameters that nobody trained.

    Args:
        loaded: what the file holds.
        wanted: the ``encoder`` section; None takes the encoder as it is.
        name: the registry name of the loaded encoder.
        per_step: one embedding a step is needed, whatever the pooling was.

    Raises:
        ValueError: any other option differs; all that do are listed.
    """
    found = loaded.encoder.config
    options = {option: getattr(wanted.config if wanted else found, option) for option in FREE_OPTIONS}
    if wanted is not None and (differing := _differences(name, found, wanted)):
        raise UserError(
            f"the checkpoint holds another encoder than the config asks for ({'; '.join(differing)}): "
            f"take it as it is with encoder=checkpoint (no encoder section), or ask for encoder={name}"
        )
    if per_step:
        options["pooling"] = "none"
    encoder = build_encoder(name, dataclasses.replace(found, **options))
    fresh = _copy_weights(loaded.encoder, encoder)
    untrained = [name for name in loaded.card.data.get("untrained", ()) if name in encoder.state_dict()]
    fresh = sorted({*fresh, *untrained})
    if fresh:
        log.info("not pretrained, so trained from scratch: %s", ", ".join(fresh))
    return encoder, fresh


def _differences(name: str, found: object, wanted: NamedEncoder) -> list[str]:
    if wanted.name != name:
        return [f"name: {name!r} in the file, {wanted.name!r} asked for"]
    listed = []
    for part in dataclasses.fields(wanted.config):
        in_file, asked = getattr(found, part.name), getattr(wanted.config, part.name)
        from_data = asked in (None, ()) and part.name in ("d_input", "static_columns")
        if in_file != asked and not from_data and part.name not in FREE_OPTIONS:
            listed.append(f"{part.name}: {in_file!r} in the file, {asked!r} asked for")
    return listed


def _copy_weights(source: nn.Module, target: nn.Module) -> list[str]:
    """All weights but those of a pooling that only one of the two has; gives those left as they were."""
    weights, needed = source.state_dict(), target.state_dict()
    shared = {key: value for key, value in weights.items() if key in needed}
    target.load_state_dict(needed | shared)
    return sorted(set(needed) - set(weights))


def n_parameters(module: nn.Module, trainable: bool = False) -> int:
    """How many numbers the module learns."""
    parameters = (p for p in module.parameters() if p.requires_grad or not trainable)
    return sum(torch.numel(p) for p in parameters)
