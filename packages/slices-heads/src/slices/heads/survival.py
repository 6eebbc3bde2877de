"""Time to the first of several events, in intervals: discrete hazards with competing risks.

Letters: K intervals, R risks. Logits are ``(..., K, R)``: in interval k, for a stay that is still under way,
the softmax over the R risks and "it goes on" (a logit of 0) gives the hazards. With one risk this is the
logistic hazard of Gensheimer & Narasimhan, "A scalable discrete-time survival model for neural networks"
(2019); with several, Tutz & Schmid, "Modeling discrete time-to-event data" (2016), chapter 8.

A label is a pair ``(..., 2)``: interval k and event e. With e = 1..R the event happened in interval k =
0..K-1. With e = 0 (censored) the k = 0..K intervals before it went by without any event, and no more is
known: k = K says that nothing happened in all the time looked at. It takes both to be there.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from .labels import check_classes, divisor, labels_present


def survival_label(
    time: Float[Tensor, "*batch"], event: Shaped[Tensor, "*batch"], ends: Float[Tensor, "K"]
) -> Float[Tensor, "*batch 2"]:
    """The label of a time at which event 1..R happened, or until which there was none (event 0).

    Interval k ends with ``ends[k]``, which belongs to it. What happened after the last end is not seen. A
    time or an event that is NaN is missing.

    >>> ends = torch.tensor([24.0, 48.0])
    >>> survival_label(torch.tensor([24.0, 30.0, 48.0, 60.0]), torch.tensor([1, 0, 0, 1]), ends)
    tensor([[0., 1.],
            [1., 0.],
            [2., 0.],
            [2., 0.]])
    """
    happened = (event > 0) & (time <= ends[-1])
    interval = torch.where(happened, torch.bucketize(time, ends), torch.bucketize(time, ends, right=True))
    pair = torch.stack([interval.float(), torch.where(happened, event.float(), 0.0)], dim=-1)
    missing = time.isnan() | event.isnan()
    return pair.masked_fill(missing.unsqueeze(-1), torch.nan)


def survival_loss(
    logits: Float[Tensor, "*batch K R"],
    label: Shaped[Tensor, "*batch 2"],
    label_mask: Bool[Tensor, "*batch 2"] | None = None,
) -> Float[Tensor, ""]:
    """Negative log-likelihood, the mean over stays: ``-sum_{j < k} log(1 - h_j) - [e > 0] log h_{k, e}``.

    ``h_{j, r}`` is the hazard of risk r in interval j, ``h_j`` their sum over the risks.

    Raises ``ValueError`` for an interval or event that there is none of (on the CPU).

    >>> label = torch.tensor([[1, 0], [1, 1]])  # censored in interval 1; event 1 there
    >>> round(survival_loss(torch.zeros(2, 3, 1), label).item(), 4)  # (1 + 2) / 2 * log(2)
    1.0397
    """
    n_intervals, n_risks = logits.shape[-2:]
    present = labels_present(label, label_mask).all(-1)
    pair = torch.where(present.unsqueeze(-1), label, 0).long()
    interval, event = pair.unbind(-1)
    check_classes(label[..., 1], present, n_risks + 1, "event")
    check_classes(label[..., 0], present & (event > 0), n_intervals, "interval of an event")
    check_classes(label[..., 0], present, n_intervals + 1, "interval")
    steps = torch.arange(n_intervals, device=logits.device)
    ends_here = (steps == interval.unsqueeze(-1)) & (event > 0).unsqueeze(-1)
    at_risk = (steps < interval.unsqueeze(-1)) | ends_here
    outcome = torch.where(ends_here, event.unsqueeze(-1), 0)
    log_likelihood = log_hazards(logits).gather(-1, outcome.unsqueeze(-1)).squeeze(-1)
    counted = at_risk & present.unsqueeze(-1)
    return -(log_likelihood * counted).sum() / divisor(present.float())


def log_hazards(logits: Float[Tensor, "*batch K R"]) -> Float[Tensor, "*batch K R+1"]:
    """Logarithms of the probability, in each interval, of going on (first) and of each risk."""
    return torch.log_softmax(F.pad(logits.float(), (1, 0)), dim=-1)


def survival_function(logits: Float[Tensor, "*batch K R"]) -> Float[Tensor, "*batch K"]:
    """The probability that by the end of interval k nothing has happened: ``prod_{j <= k} (1 - h_j)``.

    >>> survival_function(torch.zeros(3, 1))
    tensor([0.5000, 0.2500, 0.1250])
    """
    return log_hazards(logits)[..., 0].cumsum(-1).exp()


def cumulative_incidence(logits: Float[Tensor, "*batch K R"]) -> Float[Tensor, "*batch K R"]:
    """The probability that risk r has struck by the end of interval k: ``sum_{j <= k} S_{j-1} h_{j, r}``.

    With the survival function S it sums to 1 over the risks.

    >>> cumulative_incidence(torch.zeros(3, 1)).flatten()
    tensor([0.5000, 0.7500, 0.8750])
    """
    hazards = log_hazards(logits)
    goes_on = hazards[..., :1]
    until_then = goes_on.cumsum(-2) - goes_on
    return (until_then + hazards[..., 1:]).exp().cumsum(-2)
