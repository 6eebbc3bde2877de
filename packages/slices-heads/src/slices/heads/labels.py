"""Which labels are there, whether they are classes, and means over those that are there.

Letters: C classes. A mask has its label's shape; True = the label is there. What a label holds where its
mask is False does not matter, and a label that is NaN or infinite is never there, so that with such labels
no mask is needed.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


def labels_present(
    label: Shaped[Tensor, "*label"], label_mask: Bool[Tensor, "*label"] | None
) -> Bool[Tensor, "*label"]:
    """Where there is a label: a finite one, and by the mask, where there is one.

    >>> labels_present(torch.tensor([1.0, float("nan"), 0.0]), torch.tensor([True, True, False]))
    tensor([ True, False, False])
    """
    finite = label.isfinite()
    return finite if label_mask is None else finite & label_mask


def masked_mean(values: Float[Tensor, "*label"], share: Shaped[Tensor, "*label"]) -> Float[Tensor, ""]:
    """``sum(share * values) / sum(share)``, and 0 where there is nothing to share.

    >>> masked_mean(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True])).item()
    3.5
    """
    return (values * share).sum() / divisor(share.float())


def divisor(share: Float[Tensor, "*label"]) -> Float[Tensor, ""]:
    """The sum of the shares, and 1 where it is 0."""
    total = share.sum()
    return torch.where(total > 0, total, 1.0)


def check_classes(
    label: Shaped[Tensor, "*label"],
    present: Bool[Tensor, "*label"],
    n_classes: int,
    kind: str = "class",
) -> None:
    """Raises ``ValueError`` for a label that is there but is none of the classes 0..C-1.

    Only on the CPU: a GPU would have to be waited for, and raises by itself where it indexes by class.
    """
    if label.device.type != "cpu" or torch.compiler.is_compiling():
        return
    value = label.float()
    wrong = value[present & ((value < 0) | (value > n_classes - 1) | (value != value.round()))]
    if len(wrong):
        raise ValueError(
            f"label {wrong[0].item():g} is no {kind}: there are {n_classes}, 0 to {n_classes - 1} "
            f"({len(wrong)} such labels). Correct it, or mask it out where it is missing"
        )
