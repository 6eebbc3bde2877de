"""Penalised linear models, solved to convergence for a path of penalties.

A solver takes features ``(N, F)`` and labels ``(N,)`` in float64 and penalties from strong to weak, and
gives a ``Line`` for each.

Letters: N rows, F features, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Line(NamedTuple):
    """``features @ weight + bias``."""

    weight: Float[Tensor, "F C"]
    bias: Float[Tensor, "C"]

    def __call__(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N C"]:
        return x @ self.weight + self.bias


def logistic_path(
    x: Float[Tensor, "N F"], label: Float[Tensor, "N"], strengths: Sequence[float], n_classes: int
) -> list[Line]:
    """Multinomial logistic regression by L-BFGS, each solution the start of the next.

    Two classes share one weight vector, more have one each. A class without a row gets a bias of
    minus infinity. Liu & Nocedal, "On the limited memory BFGS method" (1989).

    >>> x, y = torch.tensor([[-1.0], [1.0], [1.0]]).double(), torch.tensor([0, 1, 1])
    >>> line = logistic_path(x, y, [1e-6], n_classes=3)[0]
    >>> line(x).softmax(-1).round(decimals=2)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 1., 0.]], dtype=torch.float64)
    """
    present, target = torch.unique(label.long(), return_inverse=True)
    free = {1: present[:0], 2: present[1:]}.get(len(present), present)  # whose logits are not fixed at 0
    truth = F.one_hot(target, len(present)).to(x)[:, len(present) - len(free) :]
    mean = x.mean(0)
    values, axes = torch.linalg.eigh((x - mean).T @ (x - mean))
    design = torch.cat([(x - mean) @ axes, x.new_ones(len(x), 1)], dim=1)
    theta, lines = x.new_zeros(design.shape[1], len(free)), []
    for strength in strengths:
        # on the principal axes, in units of 1/sqrt(bound on the curvature), the problem is well conditioned
        unit = torch.cat([values.clamp(min=0) / 4 + strength, x.new_tensor([len(x) / 4])]).rsqrt()[:, None]
        penalty = strength * unit**2
        penalty[-1] = 0.0
        theta = unit * _minimise_log_loss(design * unit.T, truth, theta / unit, penalty)
        weight = x.new_zeros(x.shape[1], n_classes)
        bias = x.new_full((n_classes,), -torch.inf)
        bias[present] = 0.0
        weight[:, free] = axes @ theta[:-1]
        bias[free] = theta[-1] - mean @ weight[:, free]
        lines.append(Line(weight, bias))
    return lines


def _minimise_log_loss(design: Tensor, truth: Tensor, start: Tensor, penalty: Tensor) -> Tensor:
    """(F, K) weights of K logits; where K is 1 the other logit is 0. ``penalty`` is (F, 1)."""
    if not truth.shape[1]:
        return start
    theta = start.clone()
    optimizer = torch.optim.LBFGS(
        [theta],
        max_iter=1000,
        tolerance_grad=1e-7,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def closure() -> Tensor:
        logits = design @ theta
        if truth.shape[1] == 1:
            loss, prob = F.softplus(logits) - truth * logits, logits.sigmoid()
        else:
            loss, prob = logits.logsumexp(1) - (truth * logits).sum(1), logits.softmax(1)
        theta.grad = design.T @ (prob - truth) + penalty * theta
        return loss.sum() + (penalty * theta**2).sum() / 2

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return theta


def ridge_path(x: Float[Tensor, "N F"], label: Float[Tensor, "N"], strengths: Sequence[float]) -> list[Line]:
    """Ridge regression in closed form, all penalties from one decomposition.

    Hoerl & Kennard, "Ridge regression" (1970), equation 2.1.

    >>> x = torch.tensor([[-1.0], [1.0]]).double()
    >>> ridge_path(x, torch.tensor([-2.0, 2.0]), [2.0])[0].weight
    tensor([[1.]], dtype=torch.float64)
    """
    label = label.to(x)
    mean, centre = x.mean(0), label.mean()
    off = x - mean
    values, vectors = torch.linalg.eigh(off.T @ off)
    projected = vectors.T @ (off.T @ (label - centre))
    lines = []
    for strength in strengths:
        weight = vectors @ (projected / (values.clamp(min=0) + strength))
        lines.append(Line(weight[:, None], (centre - mean @ weight)[None]))
    return lines


def log_losses(line: Line, x: Float[Tensor, "N F"], label: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Cross-entropy of each row; 0 for a class that the line has never seen."""
    losses = -line(x).log_softmax(-1).gather(1, label.long()[:, None])[:, 0]
    return torch.where(losses.isfinite(), losses, 0)


def squared_errors(line: Line, x: Float[Tensor, "N F"], label: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Squared error of each row."""
    return (line(x)[:, 0] - label) ** 2
