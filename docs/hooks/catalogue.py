"""Catalogues of what is registered: from docstrings, by counting, and from ``when.yaml`` when to use what."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from slices.encoders import ENCODER_REGISTRY, build_encoder
from slices.heads import TASK_HEAD_REGISTRY, build_task_head
from slices.ssl import SSL_REGISTRY, build_ssl_objective

D = 35  # variables; of a width and a length that a first run has
B, T, H = 8, 48, 64
WHEN = yaml.safe_load(Path(__file__).with_name("when.yaml").read_text(encoding="utf-8"))
SUM = {"parts": {"mae": {}, "vicreg": {}}}


def of(package: str) -> str:
    """The catalogue of a package in Markdown; "" where it has none."""
    return {"encoders": encoders, "ssl": objectives, "heads": heads}.get(package, str)()


def encoders() -> str:
    """Parameters as built for 35 variables by the defaults."""
    gru = n_parameters(build_encoder("gru", {"d_input": D}))
    rows = []
    for name, when in entries(ENCODER_REGISTRY, "encoders"):
        size = n_parameters(build_encoder(name, {"d_input": D}))
        rows.append((linked(ENCODER_REGISTRY[name], name), f"{size:,}", f"{size / gru:.1f}", when))
    return table(
        f"Parameters as built for {D} variables by the defaults, and as a multiple of `gru`'s.",
        ("encoder", "parameters", "× `gru`", "when to use it"),
        rows,
    )


def objectives() -> str:
    """What an objective adds to an encoder: parameters that learn, and stays that are encoded a step."""
    rows = []
    for name, when in entries(SSL_REGISTRY, "objectives"):
        counting = Counting()
        options = {"name": name, "d_input": D} | (SUM if name == "sum" else {})
        objective = build_ssl_objective(counting, options)
        added = n_parameters(objective) - n_parameters(counting)
        x, mask = torch.randn(B, T, D), torch.rand(B, T, D) < 0.3
        objective(x, mask, draw=objective.draw(x, mask, generator=torch.Generator().manual_seed(0)))
        learnt, watched = counting.passes[True], counting.passes[False]
        passes = f"{learnt:g}" + (f" + {watched:g}" if watched else "")
        rows.append((linked(SSL_REGISTRY[name], name), f"{added:,}", passes, when))
    return table(
        f"Parameters that learn besides the encoder's ({H} wide, {D} variables), and how often a step "
        "encodes each stay or a piece of it: with a gradient, and after the plus sign by a teacher, without.",
        ("objective", "parameters", "passes", "when to use it"),
        rows,
    )


def heads() -> str:
    """Parameters of a binary task."""
    rows = []
    for name, when in entries(TASK_HEAD_REGISTRY, "heads"):
        head = build_task_head({"name": name, "task_type": "binary", "input_dim": H})
        rows.append((linked(TASK_HEAD_REGISTRY[name], name), f"{n_parameters(head):,}", when))
    return table(
        f"Parameters for a binary task on embeddings {H} wide.",
        ("head", "parameters", "when to use it"),
        rows,
    )


class Counting(nn.Module):
    """An encoder that counts how often it is given a batch, with a gradient (True) and without."""

    output_dim = H

    def __init__(self) -> None:
        super().__init__()
        self.passes = {True: 0.0, False: 0.0}
        self.layer = nn.Linear(D, H)

    def forward(self, x: Tensor) -> Tensor:
        self.passes[torch.is_grad_enabled()] += len(x) / B
        out: Tensor = self.layer(x)
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> Counting:
        """A teacher counts with its student."""
        copy = Counting()
        copy.passes = self.passes
        copy.load_state_dict(self.state_dict())
        return copy


def n_parameters(module: nn.Module) -> int:
    """Those that learn."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def entries(registry: Mapping[str, Any], kind: str) -> Iterable[tuple[str, str]]:
    """Names and when to use them. Raises ``ValueError`` where registry and ``when.yaml`` differ."""
    if differ := set(registry) ^ set(WHEN[kind]):
        raise ValueError(f"docs/hooks/when.yaml: {kind}: not in both it and the registry: {sorted(differ)}")
    return WHEN[kind].items()


def linked(component: type, name: str) -> str:
    """The name, led to its reference, and what it is after: the first sentence of its docstring."""
    package = ".".join(component.__module__.split(".")[:2])
    paragraph = " ".join((inspect.getdoc(component) or "").split("\n\n")[0].split())
    sentence = re.split(r"\.\s(?=[A-Z])", paragraph)[0].rstrip(".")
    return f"[`{name}`][{package}.{component.__name__}]: {sentence}"


def table(text: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A section with a table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(["", "## Catalogue", "", text, "", *(f"| {' | '.join(line)} |" for line in lines), ""])
