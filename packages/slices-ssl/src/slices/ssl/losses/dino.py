"""DINO: a student's distributions over prototypes follow a teacher's. V views, B stays, K prototypes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .averages import masked_mean
from .module import LossModule


def dino_loss(
    student: Float[Tensor, "V B K"],
    teacher: Float[Tensor, "G B K"],
    centre: Float[Tensor, "K"],
    valid: Bool[Tensor, "V B"] | None = None,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Tensor, ""]:
    """Self-distillation with no labels (Caron et al., 2021, equations 1 to 3).

    The cross-entropy of every student's view with every *other* teacher's view, the first G of the V being
    those that the teacher sees too. ``centre`` is taken off the teacher's logits. A pair counts where both
    views are valid. No gradient reaches the teacher.

    >>> logits = torch.randn(2, 4, 8)
    >>> dino_loss(logits, logits, torch.zeros(8)).shape
    torch.Size([])
    """
    if valid is None:
        valid = torch.ones(student.shape[:2], dtype=torch.bool, device=student.device)
    n_views, n_global = len(student), len(teacher)
    with torch.autocast(student.device.type, enabled=False):
        target = torch.softmax((teacher.detach().float() - centre.float()) / teacher_temperature, dim=-1)
        log_student = torch.log_softmax(student.float() / student_temperature, dim=-1)
        entropy = -torch.einsum("gbk,vbk->gvb", target, log_student)
    view = torch.arange(n_views, device=student.device)
    other = (view[:n_global, None] != view).unsqueeze(-1)
    return masked_mean(entropy, other & valid[:n_global, None] & valid)


class DINOLoss(LossModule):
    """:func:`dino_loss` as a module."""

    function = staticmethod(dino_loss)
