"""TS2Vec: steps that two overlapping crops share, told from other steps and from other stays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require
from ..draws import uniform
from ..encoding import StayInputs, pool_steps
from ..losses import hierarchical_loss, masked_mean
from ..viewing import Encode, Pair, ViewDraw, Viewing, shown_steps, stacked
from ..views import Compose, DropElements, Look, look_at, plain_look


@dataclass(kw_only=True)
class TS2VecConfig(SSLConfig):
    """Options of :class:`TS2Vec`.

    Args:
        drop_elements: the share of cells that a view leaves out.
        alpha: weight of telling stays apart, against 1 - ``alpha`` of telling steps apart.
    """

    name: str = "ts2vec"
    drop_elements: float = 0.5
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "drop_elements", 0 <= self.drop_elements < 1, "at least 0 and below 1")
        require(self, "alpha", 0 <= self.alpha <= 1, "from 0 to 1")


class OverlapViewing(Viewing):
    """Two crops of each stay's real steps that overlap (section 3.3), and cells dropped from each.

    Of what both show, from ``left`` to ``right``, the first crop begins earlier, and the second one ends
    later. Statics are in one of the two, by lot.
    """

    def __init__(self, drop_elements: float) -> None:
        super().__init__()
        self.key = ("overlap", drop_elements)
        self.view = Compose([DropElements(drop_elements)])

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> ViewDraw:
        real = inputs.padding_mask
        chance = uniform((len(real), 5), real.device, generator)
        n = real.sum(-1, keepdim=True)
        length, left, begin, end = (chance[:, i : i + 1] for i in range(4))
        shared = (2 + (length * (n - 1)).long()).minimum(n)  # at least 2 steps, where there are as many
        first = (left * (n - shared + 1)).long()
        last = first + shared
        begin, end = (begin * (first + 1)).long(), last + (end * (n - last + 1)).long()
        place = real.cumsum(-1) - 1
        inside = [(place >= begin) & (place < last) & real, (place >= first) & (place < end) & real]
        has = chance[:, 4:] < 0.5
        return ViewDraw(
            *(self._look(inputs, dynamic, *of, generator) for of in zip(inside, (has, ~has), strict=True))
        )

    def _look(
        self,
        inputs: StayInputs,
        dynamic: Bool[Tensor, "#D"],
        inside: Bool[Tensor, "B T"],
        statics: Bool[Tensor, "B 1"],
        generator: torch.Generator | None,
    ) -> Look:
        crop = plain_look(inputs)._replace(keep=inside.unsqueeze(-1), statics=statics)
        return crop.over(self.view(inputs, dynamic, generator))

    def forward(
        self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: ViewDraw
    ) -> Pair:
        views = stacked([look_at(inputs, look, dynamic) for look in draw])
        n_steps = inputs.x.shape[1]
        return Pair(views, encode(views, n_steps), n_steps, shown_steps(views, inputs, dynamic))


@register_objective("ts2vec", TS2VecConfig)
class TS2Vec(BaseSSLObjective):
    """TS2Vec (Yue et al., 2022, section 3), for any encoder with an embedding per step.

    Two random overlapping crops of a stay are encoded; the steps that both show are contrasted with those of
    other stays at the same step and with the stay's other steps, at every scale; see
    :func:`~slices.ssl.losses.hierarchical_loss`. Departures: cells are dropped from a view at its input,
    where the paper masks whole steps inside its own encoder; and dot products are divided by the root of the
    width, as embeddings here are mostly normalised, and as long as wide.

    Metrics: ``alignment``, the mean cosine similarity of a step's two views.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = TS2Vec(encoder, TS2VecConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['alignment'])
    """

    config: TS2VecConfig

    def __init__(self, encoder: nn.Module, config: TS2VecConfig) -> None:
        super().__init__(encoder, config, OverlapViewing(config.drop_elements))

    def score(self, seen: Pair) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        self.need_steps(seen)
        steps, there = pool_steps(seen.tokens, seen.views.times, seen.views.padding_mask)
        first, second = (steps.float() / steps.shape[-1] ** 0.25).chunk(2)
        in_first, in_second = (seen.shown & there).chunk(2)
        valid = in_first & in_second
        loss = hierarchical_loss(first, second, valid, self.config.alpha)
        cosine = F.cosine_similarity(first.detach(), second.detach(), dim=-1)
        return loss, {"alignment": masked_mean(cosine, valid)}
