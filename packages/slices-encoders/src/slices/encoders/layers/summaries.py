"""What a whole stay says of each variable, in a few numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..inputs import StayInputs, log_days

N_SUMMARIES = 9
LEAST_VARIANCE = 1e-6  # a root has no slope at 0


def summaries(stay: StayInputs) -> Float[Tensor, "B D S"]:
    """Mean, standard deviation, least, greatest, first and last value of each variable; whether it was ever
    observed; log(1 + measurements); and the log of the hours from its last value to the last real step.

    Of the observed cells of a step, each counts once. 0 where a variable was never observed, but for the
    deviation.

    >>> from slices.encoders.inputs import complete
    >>> of_stay = summaries(complete(torch.tensor([[[1.0], [2.0], [6.0]]])))
    >>> [round(number, 3) for number in of_stay.flatten().tolist()]
    [3.0, 2.16, 1.0, 6.0, 1.0, 6.0, 1.0, 1.386, 0.0]
    """
    seen, x = stay.mask, stay.x.float()
    n, ever = seen.sum(1), seen.any(1)
    n = n.clamp(min=1)
    mean = x.sum(1) / n
    variance = ((x - mean.unsqueeze(1)).square() * seen).sum(1) / n
    least, greatest = torch.where(seen, x, torch.inf).amin(1), torch.where(seen, x, -torch.inf).amax(1)
    first = seen.byte().argmax(1, keepdim=True)
    last = x.shape[1] - 1 - seen.flip(1).byte().argmax(1, keepdim=True)
    end = torch.where(stay.padding_mask, stay.times, -torch.inf).amax(
        1, keepdim=True
    )  # times may be negative
    since = end - stay.times.gather(1, last.squeeze(1))
    of_values = (least, greatest, x.gather(1, first).squeeze(1), x.gather(1, last).squeeze(1))
    numbers = (
        mean,
        (variance + LEAST_VARIANCE).sqrt(),
        *(torch.where(ever, value, 0.0) for value in of_values),
        ever.float(),
        torch.log1p(stay.counts.float().sum(1)),
        log_days(torch.where(ever, since, 0.0)),
    )
    return torch.stack(numbers, dim=-1).to(stay.x.dtype)
