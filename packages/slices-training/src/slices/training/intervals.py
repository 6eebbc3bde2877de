"""The intervals of time that a survival head predicts. Letters: K intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from slices.heads import survival_label
from slices.training.data.views import Array
from slices.training.errors import UserError


class Intervals(nn.Module):
    """Labels of a dataset, hours and event, as those of the loss: interval and event.

    ``ends (K,)`` are hours, ascending; NaN until :meth:`set` gives them. They are not in the state: a
    checkpoint has them in its config.
    """

    ends: Tensor

    def __init__(self, n_intervals: int, ends: Sequence[float] = ()) -> None:
        super().__init__()
        self.register_buffer("ends", torch.full((n_intervals,), torch.nan), persistent=False)
        if ends:
            self.set(ends)

    def set(self, ends: Sequence[float]) -> None:
        """The hours at which the intervals end, each belonging to the one that it ends."""
        self.ends.copy_(torch.tensor(ends))

    def forward(self, label: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        hours, event = label[..., 0].contiguous(), label[..., 1]
        return survival_label(hours, event, self.ends)


def struck_by() -> pl.Expr:
    """Had ``event`` come by the hour ``until``? Null where that is not known.

    ``label_event`` happened at ``label_time``; 0: nothing until then, and no more was seen.

    >>> labels = {"label_time": [9.0, 9.0, 9.0, 15.0], "label_event": [1.0, 2.0, 0.0, 0.0]}
    >>> pl.DataFrame({"event": 1, "until": 12.0, **labels}).select(struck_by()).to_series().to_list()
    [1.0, 0.0, None, 0.0]
    """
    by_then = (pl.col("label_time") <= pl.col("until")) & (pl.col("label_event") > 0)
    known = by_then | (pl.col("label_time") > pl.col("until"))
    struck = by_then & (pl.col("label_event") == pl.col("event"))
    return pl.when(known).then(struck.cast(pl.Float32)).alias("label")


def quantile_ends(hours: Array, n_intervals: int) -> list[float]:
    """Ends between which about equally many events of training lie, the last at the latest of them.

    Kvamme & Borgan, "Continuous and discrete-time survival prediction with neural networks" (2021), section
    3.1, with quantiles of the events in place of the survival curve's.

    Raises:
        UserError: the hours to events have fewer quantiles that differ.

    >>> quantile_ends(np.array([1.0, 2.0, 3.0, 10.0]), 2)
    [2.0, 10.0]
    """
    if not len(hours):
        raise UserError("no training stay has an event, so that task.interval_ends cannot be taken from them")
    shares = np.arange(1, n_intervals + 1) / n_intervals
    ends = np.unique(np.quantile(hours, shares, method="inverted_cdf")).tolist()
    if ends[0] <= 0:
        ends = ends[1:]
    if len(ends) < n_intervals:
        raise UserError(
            f"the hours to the {len(hours):,} events of training have {len(ends)} quantiles that differ, "
            f"fewer than task.n_classes={n_intervals} intervals: use task.n_classes={max(len(ends), 1)}, or "
            "task.interval_ends"
        )
    return [float(end) for end in ends]
