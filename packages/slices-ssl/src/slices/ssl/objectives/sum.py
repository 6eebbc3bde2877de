"""A weighted sum of objectives around one encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..base import (
    CONFIG_REGISTRY,
    SSL_REGISTRY,
    BaseSSLObjective,
    Predicted,
    SSLConfig,
    register_objective,
)
from ..encoding import accepted_inputs
from ..registry import make_config
from ..viewing import CutMasked, CutMaskedViewing, CutViewing, MaskedViewing, Viewing


@dataclass(kw_only=True)
class SumConfig(SSLConfig):
    """Options of :class:`Sum`.

    Args:
        parts: by name, each objective's options and its ``weight`` (1 if not given). The name is that of the
            objective, unless ``name`` among its options says another.
        one_view: parts that forecast from a cut and parts that reconstruct what a mask hides all look at one
            view, the stay up to a random hour less what is masked before it, and so cost one pass. To
            reconstruct is then all that was hidden, what follows the cut as well; a ``mask_ratio`` is the
            share of what comes before it.
    """

    name: str = "sum"
    parts: dict[str, Any] | None = None
    one_view: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.read_parts()

    def read_parts(self) -> dict[str, tuple[float, SSLConfig]]:
        """Weight and config of each part. Raises ``ValueError`` or ``TypeError`` for wrong ones."""
        return {key: _part(key, options) for key, options in (self.parts or {}).items()}


@register_objective("sum", SumConfig)
class Sum(BaseSSLObjective):
    """The weighted sum of some objectives' losses, each as it is alone, or all on one view.

    Parts that view a batch alike (the same masks, the same views) share the draw and what the encoder makes
    of it, so that they cost one pass. With ``one_view`` those that forecast and those that reconstruct do so
    from one view: what was hidden, what comes next and when are all asked of the same tokens.

    Metrics: each part's ``loss`` and metrics, under its name, as in ``mae/loss``.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = Sum(encoder, SumConfig(d_input=3, parts={"mae": {}, "vicreg": {"weight": 0.1}}))
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> sorted(metrics)
    ['mae/hidden', 'mae/loss', 'mae/reconstruction', 'vicreg/distance', 'vicreg/loss']
    """

    config: SumConfig

    def __init__(self, encoder: nn.Module, config: SumConfig) -> None:
        super().__init__(encoder, config)
        read = config.read_parts()
        if not read:
            raise ValueError(
                "ssl.parts: must name at least one objective, as in parts={mae: {weight: 1.0}, vicreg: {}}"
            )
        self.weights = {key: weight for key, (weight, _) in read.items()}
        self.parts = nn.ModuleDict()
        for key, (_, part) in read.items():
            part = replace(part, d_input=config.d_input, static_columns=config.static_columns)
            self.parts[key] = SSL_REGISTRY.find(part.name)(encoder, part)
        self.names = {key: accepted_inputs(part) for key, part in self.parts.items()}
        if config.one_view:
            self.viewing = _one_viewing(self._parts())

    @property
    def reads_labels(self) -> bool:
        """Where a part does."""
        return any(part.reads_labels for part in self._parts().values())

    @property
    def predicts_values(self) -> bool:
        """Where a part does."""
        return any(part.predicts_values for part in self._parts().values())

    def predict_values(self, *inputs: Any, **named: Any) -> Predicted:
        """What the first part says that can, of a view of its own."""
        able = [part for part in self._parts().values() if part.predicts_values]
        return able[0].predict_values(*inputs, **named) if able else super().predict_values(*inputs, **named)

    def on_optimizer_step(self, step: int, total_steps: int) -> None:
        for part in self._parts().values():
            part.on_optimizer_step(step, total_steps)

    def draw(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Any, ...] | None:
        """One draw of each kind of view."""
        if self.viewing is not None:
            return super().draw(x, mask, padding_mask, times, generator)
        return tuple(
            self._parts()[keys[0]].draw(x, mask, padding_mask, times, generator) for keys in self._alike()
        )

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
        draw: tuple[Any, ...] | None = None,
        label: Tensor | None = None,
        label_mask: Tensor | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        if self.viewing is not None:
            return super().forward(x, mask, padding_mask, times, counts, draw)
        if draw is None:
            draw = self.draw(x, mask, padding_mask, times) or ()
        stay = {"mask": mask, "padding_mask": padding_mask, "times": times, "counts": counts}
        labels = {"label": label, "label_mask": label_mask}
        scored: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
        for keys, drawn in zip(self._alike(), draw, strict=True):
            first, *others = (self._parts()[key] for key in keys)
            if others:
                seen = first.see(x, **stay, draw=drawn)  # type: ignore[arg-type]
                results = [part.score(seen) for part in (first, *others)]
            else:
                given = {**stay, **labels, "draw": drawn}
                results = [first(x, **{name: given[name] for name in given if name in self.names[keys[0]]})]
            scored |= zip(keys, results, strict=True)
        return self._added(scored)

    def score(self, seen: CutMasked) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """All parts' losses on one view."""
        parts = self._parts().items()
        return self._added({key: part.score(seen.cut if _cuts(part) else seen.masked) for key, part in parts})

    def _added(
        self, scored: Mapping[str, tuple[Tensor, dict[str, Tensor]]]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        total = torch.stack([self.weights[key] * loss.float() for key, (loss, _) in scored.items()]).sum()
        metrics: dict[str, Tensor] = {}
        for key, (loss, of_part) in scored.items():
            metrics |= {f"{key}/loss": loss.detach()} | {f"{key}/{m}": v for m, v in of_part.items()}
        return total, metrics

    def _parts(self) -> dict[str, BaseSSLObjective]:
        return cast(dict[str, BaseSSLObjective], dict(self.parts.items()))

    def _alike(self) -> list[list[str]]:
        """The parts' names, those together that can share a view."""
        groups: dict[Any, list[str]] = {}
        for key, part in self._parts().items():
            viewing = _shared_viewing(part)
            groups.setdefault(viewing.key if viewing else key, []).append(key)
        return list(groups.values())


def _shared_viewing(part: BaseSSLObjective) -> Viewing | None:
    """The viewing of a part that does nothing but score what it gives."""
    return part.viewing if type(part).forward is BaseSSLObjective.forward else None


def _cuts(part: BaseSSLObjective) -> bool:
    return isinstance(part.viewing, CutViewing)


def _one_viewing(parts: Mapping[str, BaseSSLObjective]) -> CutMaskedViewing:
    """The one view of all parts; ``ValueError`` where they have none in common."""
    viewings = {key: _shared_viewing(part) for key, part in parts.items()}
    cuts = {key: viewing for key, viewing in viewings.items() if isinstance(viewing, CutViewing)}
    masks = {key: viewing for key, viewing in viewings.items() if type(viewing) is MaskedViewing}
    if other := sorted(parts.keys() - cuts.keys() - masks.keys()):
        raise ValueError(
            f"one_view: parts.{other[0]} neither cuts stays nor masks them; leave it out, or one_view=false"
        )
    for kind, alike in (("cut stays", cuts), ("mask stays", masks)):
        if not alike:
            raise ValueError(f"one_view: no part is there to {kind}: add one, or leave one_view out")
        if len({viewing.key for viewing in alike.values()}) > 1:
            ways = "; ".join(f"{key} {viewing.key[1:]}" for key, viewing in alike.items())
            raise ValueError(
                f"one_view: the parts that {kind} do so each in its own way ({ways}): give them the same "
                "options (for cuts min_hours; for masks mask_mode, mask_ratio, block_length, and "
                "presence_weight of all or none), or leave all but one out"
            )
    return CutMaskedViewing(next(iter(cuts.values())), next(iter(masks.values())))


def _part(key: str, options: Any) -> tuple[float, SSLConfig]:
    where = f"parts.{key}"
    if not key.isidentifier() or hasattr(nn.ModuleDict(), key):
        raise ValueError(
            f"{where}: a part's name must be a word, of letters, digits and _, and no module's attribute"
        )
    if not isinstance(options, Mapping):
        raise TypeError(f"{where}: must be a mapping of options, got {options!r}")
    given = {"name": key, **options}
    weight = given.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise ValueError(f"{where}.weight={weight!r}: must be a finite number of at least 0")
    for name in ("d_input", "static_columns"):
        if name in given:
            raise ValueError(f"{where}.{name}: is the sum's; leave it out of the parts")
    if given["name"] == "sum":
        raise ValueError(f"{where}: a sum is no part of a sum")
    return float(weight), make_config(CONFIG_REGISTRY.find(given["name"]), given, where)
