"""Corrupted files: what comes of one is our error, which names it, or what was written. Nothing else."""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import made
from slices.encoders import EncoderCard, Normalizer, build_encoder, load_encoder, save_encoder
from slices.encoders.safetensors_io import read_safetensors, write_safetensors
from slices.training.pretrained import read_pretrained
from slices.training.serving.file import load_model, save_model

KINDS = ("encoder.pt", "encoder.safetensors", "model.safetensors", "pretraining.ckpt")
SECONDS, MEGABYTES = 10, 300
HOSTILE: tuple[Any, ...] = (None, True, -1, 0, 7, 10**9, 10**30, -0.5, 1e308, float("nan"), "", "os.system")
HOSTILE += ("${oc.env:HOME}", "x" * 10_000, [], [0] * 1000, [[]], {}, {"_target_": "os.system"})


def read(path: Path) -> Any:
    """As an app would."""
    if path.suffix == ".ckpt":
        return read_pretrained(path)
    return load_model(path) if path.name.startswith("model") else load_encoder(path)


def said(held: Any) -> tuple[str, dict[str, Tensor]]:
    """All that was read: plain values, and weights."""
    encoder = held.encoder
    plain = [encoder.config, held.normalizer and held.normalizer.to_dict(), held.card]
    plain += [held.info, held.head.config] if hasattr(held, "head") else []
    module = held if hasattr(held, "head") else encoder
    return repr(plain), module.state_dict()


def same(one: Any, other: Any) -> bool:
    (plain, weights), (plain_too, weights_too) = said(one), said(other)
    equal = all(torch.equal(weights[name], weights_too[name]) for name in weights)
    return plain == plain_too and weights.keys() == weights_too.keys() and equal


@pytest.fixture
def written(tiny: dict[str, Any], tmp_path: Path, checkpoint: Path) -> Callable[[str], Path]:
    """A good file of each kind."""

    def write(kind: str) -> Path:
        path = tmp_path / kind
        if kind.startswith("encoder"):
            encoder = build_encoder("gru", {"d_input": 3, "d_model": 8, "static_columns": [2]})
            normalizer = Normalizer(["log"] * 3, [1.5, 2.0, 2.5], [0.5, 1.0, 1.5])
            card = EncoderCard(
                variables=("hr", "map", "age"), units=("bpm", "mmHg", "years"), objective="mae"
            )
            save_encoder(path, encoder, normalizer, card)
        if kind.startswith("model"):
            save_model(path, made(tiny, tmp_path).model)
        return path

    return write


def flipped(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 1, 2, 8, 64))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def cut(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def holed(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data))
    del data[at : at + dice.choice((1, 2, 8, 64, 1000))]


def stuffed(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data))
    data[at:at] = dice.randbytes(dice.choice((1, 2, 8, 64, 1000)))


def overwritten(data: bytearray, dice: random.Random) -> None:
    at, value = dice.randrange(len(data)), dice.choice((b"\0", b"\xff", b"[", b"{", b"PK\1\2", b"9"))
    data[at : at + 16] = (value * 16)[: len(data[at : at + 16])]


def swapped(data: bytearray, dice: random.Random) -> None:
    length = dice.choice((1, 4, 64, 1000))
    one, other = sorted(dice.sample(range(len(data) - length), 2))
    if one + length <= other:
        parts = data[one : one + length], data[other : other + length]
        data[other : other + length], data[one : one + length] = parts


def near_an_end(data: bytearray, dice: random.Random) -> None:
    """Where what is said of the rest is."""
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(min(400, len(data)))
        data[dice.choice((at, -at - 1))] = dice.randrange(256)


CORRUPTIONS = (flipped, cut, holed, stuffed, overwritten, swapped, near_an_end)


def check_bounded(reading: Callable[[], None]) -> None:
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    reading()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < MEGABYTES * 1024 and time.perf_counter() - began < SECONDS


def outcome(path: Path) -> Any:
    """What was read; None where that was refused as it should be."""
    held: list[Any] = [None]

    def reading() -> None:
        try:
            held[0] = read(path)
        except ValueError as error:
            assert str(path) in str(error) and len(str(error)) < 5000

    check_bounded(reading)
    return held[0]


@pytest.mark.parametrize("number", [25, pytest.param(2500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_corrupted_bytes(kind: str, number: int, written: Callable[[str], Path]) -> None:
    path = written(kind)
    good, data = read(path), path.read_bytes()
    assert same(good, read(path))
    refused = 0
    for seed in range(number):
        dice = random.Random(f"{kind} {seed}")
        damaged = bytearray(data)
        CORRUPTIONS[seed % len(CORRUPTIONS)](damaged, dice)
        path.write_bytes(damaged)
        held = outcome(path)
        refused += held is None
        assert held is None or same(good, held), (kind, seed)
    assert refused > number / 2


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Each container in a header with each of its keys."""
    if not isinstance(tree, dict | list):
        return []
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    return [(tree, key) for key in keys] + [place for key in keys for place in places(tree[key])]


@pytest.mark.parametrize("number", [10, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_headers_edited_by_hand(kind: str, number: int, written: Callable[[str], Path]) -> None:
    """The file is whole: what is loaded may be another one, and what is refused is refused as ever."""
    path = written(kind)
    header, save = header_of(path)
    for seed in range(number):
        dice = random.Random(f"{kind} {seed}")
        edited = json.loads(json.dumps(header))
        container, key = dice.choice(places(edited))
        if isinstance(container, dict) and dice.random() < 0.2:
            container[f"{key}_"] = container.pop(key)
        else:
            container[key] = dice.choice(HOSTILE)
        try:
            save(edited)
        except ValueError:  # what cannot even be written
            continue
        outcome(path)


def header_of(path: Path) -> tuple[Any, Callable[[Any], None]]:
    """What the file says beside its weights, and how to have it say something else."""
    if path.suffix == ".ckpt":
        held = torch.load(path, weights_only=True)
        plain = {key: held[key] for key in ("hyper_parameters", "slices", "epoch", "loops")}
        return plain, lambda edited: torch.save(held | edited, path)
    if path.suffix == ".pt":
        held = torch.load(path, weights_only=True)
        return held["header"], lambda edited: torch.save(held | {"header": edited}, path)
    metadata, weights = read_safetensors(path)
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    (format,) = (key for key in metadata if key.startswith("slices-"))
    return json.loads(metadata[format]), lambda edited: write_safetensors(
        path, {format: json.dumps(edited)}, weights
    )
