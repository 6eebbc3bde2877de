"""A teacher: a slowly moving average of a student."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class Teacher(nn.Module):
    """Holds ``model``, a copy of ``student`` that follows it as an exponential moving average.

    As in BYOL (Grill et al., 2020, equation 1): teacher = momentum * teacher + (1 - momentum) * student.
    Buffers (running statistics) are copied. It has no gradient and stays in evaluation mode.

    >>> student = nn.Linear(2, 2)
    >>> teacher = Teacher(student)
    >>> teacher.train().model.training
    False
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode, whatever ``mode``."""
        return super().train(False)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move towards ``student``; once per optimizer step.

        Raises ``ValueError`` where the weights are in half precision, in which it would hardly move.
        """
        if any(mine.dtype in (torch.bfloat16, torch.float16) for mine in self.model.parameters()):
            raise ValueError(
                "the teacher's weights are in half precision, which rounds its small steps away: keep "
                "them in float32, and train with precision bf16-mixed or 16-mixed"
            )
        for mine, theirs in zip(self.model.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs, 1.0 - momentum)
        for copied, buffer in zip(self.model.buffers(), student.buffers(), strict=True):
            copied.copy_(buffer)


def cosine_momentum(start: float, step: int, total_steps: int) -> float:
    """Momentum that rises from ``start`` to 1 over ``total_steps`` along half a cosine (BYOL, section 3.2).

    >>> [round(cosine_momentum(0.9, step, 10), 3) for step in (0, 5, 10, 99)]
    [0.9, 0.95, 1.0, 1.0]
    """
    progress = min(step / max(total_steps, 1), 1.0)
    return 1.0 - (1.0 - start) * (1.0 + math.cos(math.pi * progress)) / 2
