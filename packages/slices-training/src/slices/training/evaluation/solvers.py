"""Penalised linear models, solved to convergence for a path of penalties.

A solver takes features ``(N, F)`` and labels ``(N,)`` in float64 and penalties from strong to weak, and
gives a ``Line`` for each.

Letters: N rows, F features, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

MAX_STEPS = 100
CONVERGED = 1e-12  # what the next step would gain, as a share of the loss


class Line(NamedTuple):
    """``features @ weight + bias``."""

    weight: Float[Tensor, "F C"]
    bias: Float[Tensor, "C"]

    def __call__(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N C"]:
        return x @ self.weight + self.bias


def logistic_path(
    x: Float[Tensor, "N F"], label: Float[Tensor, "N"], strengths: Sequence[float], n_classes: int
) -> list[Line]:
    """Multinomial logistic regression by Newton's method, each solution the start of the next.

    Two classes share one weight vector, more have one each. A class without a row gets a bias of
    minus infinity. Newton steps by conjugate gradients: Lin, Weng & Keerthi, "Trust region Newton method
    for logistic regression" (2008), with a line search in place of the region.

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
    values, axes = _principal_axes(x - mean)
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


def _principal_axes(off: Float[Tensor, "N F"]) -> tuple[Float[Tensor, "A"], Float[Tensor, "F A"]]:
    """Squared lengths and directions of the axes of centred rows; at most N of them.

    No solution has a part outside of the rows' span: a penalty would only grow by it.
    """
    if len(off) >= off.shape[1]:
        values, axes = torch.linalg.eigh(off.T @ off)
        return values, axes
    _, lengths, axes = torch.linalg.svd(off, full_matrices=False)
    return lengths.square(), axes.T


def _minimise_log_loss(design: Tensor, truth: Tensor, theta: Tensor, penalty: Tensor) -> Tensor:
    """(F, K) weights of K logits, from a start; where K is 1 the other logit is 0. ``penalty`` is (F, 1)."""
    if not truth.shape[1]:
        return theta
    fixed = design.new_zeros(len(design), 1 if truth.shape[1] == 1 else 0)

    def loss_and_prob(theta: Tensor) -> tuple[Tensor, Tensor]:
        logits = design @ theta
        normaliser = torch.cat([fixed, logits], dim=1).logsumexp(1, keepdim=True)
        loss = normaliser.sum() - (truth * logits).sum() + (penalty * theta**2).sum() / 2
        return loss, (logits - normaliser).exp()

    loss, prob = loss_and_prob(theta)
    for _ in range(MAX_STEPS):
        gradient = design.T @ (prob - truth) + penalty * theta

        def curvature(v: Tensor, prob: Tensor = prob) -> Tensor:
            weighted = prob * (design @ v)
            return design.T @ (weighted - prob * weighted.sum(1, keepdim=True)) + penalty * v

        step = _conjugate_gradient(curvature, -gradient)
        descent = float((gradient * step).sum())
        if -descent < CONVERGED * (1 + float(loss)):
            return theta + step
        size, before = 1.0, loss
        loss, prob = loss_and_prob(theta + step)
        while loss > before + 1e-4 * size * descent:
            size /= 2
            loss, prob = loss_and_prob(theta + size * step)
        theta = theta + size * step
    return theta


def _conjugate_gradient(curvature: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
    """Solves ``curvature(step) = target`` to a relative residual of 1e-3: Hestenes & Stiefel (1952)."""
    step, residual = torch.zeros_like(target), target
    direction, square = residual, float((residual**2).sum())
    enough = 1e-6 * square
    for _ in range(target.numel()):
        if square <= enough:
            break
        curved = curvature(direction)
        length = square / (direction * curved).sum()
        step, residual = step + length * direction, residual - length * curved
        square, previous = float((residual**2).sum()), square
        direction = residual + square / previous * direction
    return step


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
    values, vectors = _principal_axes(off)
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
