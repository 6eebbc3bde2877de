"""Ordered classes: proportional odds, where one score passes one threshold after the other.

McCullagh, "Regression models for ordinal data" (1980), section 2: the log-odds that the class is above k are
``score - threshold_k``. The logits of an ordinal task are the logarithms of the classes' probabilities that
follow, so that their softmax is those probabilities, and cross-entropy on them the model's likelihood.
Letters: C classes, in their order; E = C - 1 thresholds between them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_GAP = 1e-3


def ordinal_log_probs(
    score: Float[Tensor, "*batch"], threshold: Float[Tensor, "E"]
) -> Float[Tensor, "*batch E+1"]:
    """``log P(class = k)`` from a score and ascending thresholds.

    With ``a_k = score - threshold_k`` it is ``log(sigmoid(a_{k-1}) - sigmoid(a_k))``, the outermost being
    1 and 0; here without the difference, which would be 0 far from the thresholds:
    ``sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a))``.

    >>> ordinal_log_probs(torch.tensor([0.0]), torch.tensor([-1.0, 1.0])).exp()
    tensor([[0.2689, 0.4621, 0.2689]])
    """
    odds = score.float().unsqueeze(-1) - threshold.float()
    above, below = F.pad(F.logsigmoid(odds), (1, 0)), F.pad(F.logsigmoid(-odds), (0, 1))
    between = F.pad(torch.log(-torch.expm1(-threshold.float().diff())), (1, 1))
    return above + below + between


class Thresholds(nn.Module):
    """C-1 learned thresholds that ascend whatever is learnt; at first all classes are as likely at score 0.

    The first stands still: the score's own bias moves them all. The gaps are positive by a softplus.

    >>> ordinal_log_probs(torch.tensor(0.0), Thresholds(4)()).exp().detach()
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    first: Tensor

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        even = torch.logit(torch.arange(1, n_classes) / n_classes)
        self.register_buffer("first", even[:1], persistent=False)
        self.raw_gaps = nn.Parameter(torch.log(torch.expm1(even.diff() - LEAST_GAP)))

    def forward(self) -> Float[Tensor, "E"]:
        """The thresholds, from low to high."""
        gaps = F.softplus(self.raw_gaps.float()) + LEAST_GAP
        return torch.cat([self.first, self.first + gaps.cumsum(0)])
