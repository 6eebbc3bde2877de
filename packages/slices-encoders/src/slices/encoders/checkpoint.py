"""An encoder in one file, with everything needed to use it elsewhere.

The file holds a header of plain values (registry name, config, normaliser, card) and the weights:
``.pt`` as a dict that loads with ``weights_only=True``, ``.safetensors`` with the header as JSON in
its metadata. Reading one never runs code from it: the name must be registered, and every value goes
through the checks of its dataclass.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from .base import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY, BaseEncoder
from .config import require
from .factory import build_encoder
from .files import ENCODER, Header, brief, checked_path, read_file, write_file
from .normalizer import Normalizer
from .registry import make_config
from .weights import Weights, build_to_fit, put_weights, weights_of

FORMAT_VERSION = 1


@dataclass(kw_only=True)
class EncoderCard:
    """Where an encoder comes from and what it wants to be fed.

    Attributes:
        variables: names of the D columns, in order.
        units: their units, as many.
        time_unit: of ``times``.
        objective: what it was trained with.
        versions: of the packages that made it; ``save_encoder`` adds its own and torch's.
        data: fingerprint of the training data, its split and the like, as plain values.

    Raises:
        ValueError: units of some variables only.
    """

    variables: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    time_unit: str = "hours"
    objective: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variables, self.units = tuple(self.variables), tuple(self.units)
        require(
            len(self.units) in (0, len(self.variables)),
            f"there must be as many units as variables, {len(self.variables)}, got {len(self.units)}",
        )


class LoadedEncoder(NamedTuple):
    """What ``load_encoder`` gives."""

    encoder: BaseEncoder
    normalizer: Normalizer | None
    card: EncoderCard


def save_encoder(
    path: str | os.PathLike[str],
    encoder: BaseEncoder,
    normalizer: Normalizer | None = None,
    card: EncoderCard | None = None,
) -> Path:
    """Write an encoder to ``.pt`` or ``.safetensors``, by the path's ending; whole or not at all.

    Raises:
        ValueError: another ending, an encoder whose class is not registered, a config of another class than
            the one registered with it, or a card or normaliser that is not as wide.
        TypeError: a config or card with something in it that is not a plain value.
    """
    path = checked_path(path)
    header = {"format": ENCODER.format, "format_version": FORMAT_VERSION}
    write_file(path, header | encoder_header(encoder, normalizer, card), weights_of(encoder))
    return path


def load_encoder(path: str | os.PathLike[str]) -> LoadedEncoder:
    """Read what ``save_encoder`` wrote, onto the CPU, in eval mode and with weights in the default precision.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another ending, a damaged or foreign file, an encoder that is not registered, a
            config or weights that do not fit it. Names the file and lists all that does not match.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_encoder(f"{folder}/gru.pt", build_encoder("gru", {"d_input": 4}))
    ...     load_encoder(path).encoder.config.d_input
    4
    """
    path = checked_path(path)
    header, weights = _read(path)
    try:
        return encoder_of(header, weights)
    except Exception as error:  # whatever a config that nobody wrote leads to
        raise ValueError(f"cannot load {path}: {brief(error)}") from error


def encoder_header(
    encoder: BaseEncoder, normalizer: Normalizer | None = None, card: EncoderCard | None = None
) -> Header:
    """All of an encoder but its weights, as plain values; raises as ``save_encoder`` does."""
    card = card or EncoderCard()
    name = ENCODER_REGISTRY.name_of(type(encoder))
    expected, config = ENCODER_CONFIG_REGISTRY.find(name), type(encoder.config)
    require(
        config is expected,
        f"the config of a saved {name!r} must be {expected.__name__}, not {config.__name__}",
    )
    _check_widths(encoder, normalizer, card)
    return plain_header(
        {
            "name": name,
            "config": asdict(encoder.config),
            "normalizer": normalizer and normalizer.to_dict(),
            "card": asdict(card) | {"versions": _versions() | card.versions},
        }
    )


def encoder_of(header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> LoadedEncoder:
    """The encoder of these plain values and weights, in eval mode.

    Raises:
        TypeError, ValueError: what does not fit, all of it listed.
    """
    name, config = header["name"], header["config"]
    encoder = build_to_fit(lambda: build_encoder(name, config), config, weights)
    normalizer = header["normalizer"] and Normalizer.from_dict(header["normalizer"])
    card = make_config(EncoderCard, header["card"], "card")
    _check_widths(encoder, normalizer, card)
    put_weights(encoder, weights)
    return LoadedEncoder(encoder.eval(), normalizer, card)


def read_card(path: str | os.PathLike[str]) -> EncoderCard:
    """The card alone, also of an encoder that is not registered here. Raises as ``load_encoder`` does."""
    path = checked_path(path)
    header, _ = _read(path)
    try:
        card: EncoderCard = make_config(EncoderCard, header["card"], "card")
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot load {path}: {brief(error)}") from error
    return card


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("slices-encoders", "torch")}


def plain_header(header: dict[str, Any]) -> Header:
    """The same in JSON's types, so that both kinds of file hold the same. ``TypeError`` if it cannot."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(header))
    except TypeError as error:
        raise TypeError(f"configs and cards in a file must hold plain values only: {error}") from error
    return plain


def _read(path: Path) -> tuple[Header, Weights]:
    """Header and weights of this version, whole, but not yet checked against an encoder."""
    header, weights = read_file(path)
    check_header(path, header)
    return header, weights


def check_header(path: Path, header: Header) -> None:
    """Raises ``ValueError`` for that of another version, or one that lacks a part."""
    written = header.get("format_version")
    require(
        written == FORMAT_VERSION,
        f"cannot load {path}: it has format version {written!r:.40}, slices-encoders "
        f"{version('slices-encoders')} reads version {FORMAT_VERSION}; install the one that wrote it",
    )
    missing = {"name", "config", "normalizer", "card"} - header.keys()
    require(not missing, f"cannot load {path}: its header lacks {', '.join(sorted(missing))}")


def _check_widths(encoder: BaseEncoder, normalizer: Normalizer | None, card: EncoderCard) -> None:
    d_input = encoder.config.d_input
    for what, width in (
        ("the normaliser has", normalizer and len(normalizer.transforms)),
        ("the card names", len(card.variables) or None),
    ):
        require(width in (None, d_input), f"{what} {width} variables, the encoder {d_input}")
