"""Stays of any prepared dataset, labelled or not, cut as a model was trained to see them, in raw units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from slices.training.data.columns import Columns, match_columns
from slices.training.data.loader import StayLoader, StaySampler
from slices.training.data.samples import Samples, last_hours, unlabelled
from slices.training.data.schema import Variable
from slices.training.data.store import StayStore
from slices.training.data.views import Array, Index, View
from slices.training.errors import UserError
from slices.training.serving.info import ViewConfig

EDGE = 1e-3  # hours: how far lengths may be off


class Inputs(NamedTuple):
    """What a model wants to be fed: its columns in order, and the view.

    ``sums_known``: do the variables say which of them are summed? An encoder's file does not.
    """

    variables: tuple[Variable, ...]
    view: ViewConfig
    sums_known: bool = True


class NewStays:
    """The stays of a dataset as samples of a model: at first whole stays, or all windows of them.

    Args:
        store: the dataset.
        inputs: what the model wants.
        adapt: take variables that the dataset lacks as unobserved, and leave out those that it has besides.

    Raises:
        ValueError: other variables, units, statics or sums than the model's; each is named.
    """

    def __init__(self, store: StayStore, inputs: Inputs, *, adapt: bool = False) -> None:
        self.store, self.inputs = store, inputs
        self.view = view_of(_matched(store, inputs, adapt), inputs.view)
        self.window = inputs.view.window
        self.samples = unlabelled(store, self.view, self.window)

    def ask(self, stay: Index, until: Array) -> None:
        """From here on the samples are these stays (their positions), each seen up to its hour."""
        end = np.minimum(until, np.minimum(self.store.length_hours[stay], self.view.horizon))
        start = np.zeros_like(until) if self.window is None else last_hours(end, self.view, self.window)
        self.samples = Samples(stay, start, until)

    def ask_at(self, hours: Sequence[float]) -> None:
        """From here on every stay is a sample at each of these hours since admission."""
        stay = np.repeat(np.arange(len(self.store)), len(hours))
        self.ask(stay, np.tile(np.asarray(hours, dtype=np.float32), len(self.store)))

    def ask_at_the_end(self) -> None:
        """From here on every stay is a sample at its end, or at the horizon where that comes first."""
        until = np.minimum(self.store.length_hours, np.float32(self.view.horizon))
        self.ask(np.arange(len(self.store)), until)

    @property
    def n_short(self) -> int:
        """How many samples end before the hour that they are asked at: there is less to see of them."""
        length, until = self.store.length_hours[self.samples.stay], self.samples.until
        return int((np.isfinite(until) & (length < until - EDGE)).sum())

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.samples.stay)

    def batches(self, size: int) -> Iterator[tuple[Index, dict[str, Tensor]]]:
        """The positions of the samples of each batch, and the batch in raw units, in the dataset's order."""
        sampler = StaySampler(np.arange(len(self)), size, shuffle=False)
        loader = StayLoader(lambda rows, epoch: self.cut(rows), sampler)
        yield from zip(sampler.batches(), loader, strict=True)

    def cut(self, rows: Index) -> dict[str, Tensor]:
        """One batch of these samples, in raw units."""
        samples = self.samples.take(rows)
        return self.view.cut(self.store, samples.stay, samples.until, samples.start)


def view_of(columns: Columns, config: ViewConfig) -> View:
    """The view of these columns."""
    return View(
        column=columns.of_variable,
        static=columns.is_static,
        summed=columns.is_summed,
        resolution=config.resolution,
        horizon=config.horizon,
        span=config.window.length if config.window else None,
        max_steps=config.max_steps,
        aggregate=config.aggregate,
    )


def _matched(store: StayStore, inputs: Inputs, adapt: bool) -> Columns:
    wanted = inputs.variables
    names, units = ([getattr(variable, key) for variable in wanted] for key in ("name", "unit"))
    columns = match_columns(store.variables, names, units, adapt=adapt, option="adapt_variables")
    there = set(range(len(wanted))) - set(columns.absent)
    found = {"static": set(columns.static), "summed": set(columns.summed)}
    asked = {
        "static": {i for i, variable in enumerate(wanted) if variable.static} & there,
        "summed": {i for i, variable in enumerate(wanted) if variable.aggregate == "sum"} & there,
    }
    for what in ("static", "summed") if inputs.sums_known else ("static",):
        if differing := sorted(found[what] ^ asked[what]):
            said = ", ".join(f"{names[i]} ({'not ' * (i not in found[what])}{what})" for i in differing)
            raise UserError(
                f"the dataset and the model do not agree on which variables are {what}; in the dataset: "
                f"{said}. Prepare it with a vocabulary that says as the model does"
            )
    return columns
