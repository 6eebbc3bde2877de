"""The contract of a task head: an embedding in, logits and predictions out.

Letters: B stays, T time steps, H embedding width, C classes, labels or targets, W width of the last layer.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from .config import TaskHeadConfig
from .links import make_link, predictions
from .task_types import TaskType

__all__ = ["BaseTaskHead", "TaskHeadConfig", "TaskType", "predictions"]


class BaseTaskHead(nn.Module):
    """A head maps an embedding to ``{"logits", "probs"}``; subclasses define ``forward``.

    It acts on the last axis alone, so that ``(B, H)`` gives one prediction a stay and ``(B, T, H)``
    one a step, unless it says by ``pools_steps`` that it makes one of ``(B, T, H)``: it then takes
    ``valid (B, T)`` beside it, and an encoder must not pool. The task's type, not its width, decides what
    logits and ``probs`` are (see ``slices.heads.links``): ``outputs`` makes them of the last layer's numbers.

    Attributes: ``config``; ``input_dim``, H; ``output_dim``, W: as many numbers as ``outputs`` takes, which
    are the logits of a binary, multiclass or multilabel task, and of a regression to points.
    Raises ``ValueError`` where the config has no ``input_dim``, or lacks an ``n_classes`` it needs.
    """

    pools_steps: ClassVar[bool] = False

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__()
        if config.input_dim is None:
            raise ValueError("input_dim is missing: give the width of the encoder's output (output_dim)")
        self.config = config
        self.input_dim = config.input_dim
        self.link = make_link(config)
        self.output_dim = self.link.width

    def forward(self, embedding: Float[Tensor, "*batch H"]) -> dict[str, Tensor]:
        """``{"logits", "probs"}`` of embeddings ``(..., H)``; both ``(..., C)`` for most types of task."""
        raise NotImplementedError

    def outputs(self, raw: Float[Tensor, "*batch W"]) -> dict[str, Tensor]:
        """The dict that ``forward`` returns, from the numbers of the last layer."""
        outputs: dict[str, Tensor] = self.link(raw)
        return outputs
