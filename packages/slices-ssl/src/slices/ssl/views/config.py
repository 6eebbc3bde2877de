"""Views from a config."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import require, require_at_least
from .changing import JitterTimes, JitterValues, ShiftTimes
from .hiding import Crop, DropElements, DropVariables, MaskSteps, Thin
from .look import Compose, View


@dataclass(kw_only=True)
class ViewConfig:
    """What a view does to a stay; 0 leaves a part out.

    Attributes:
        crop: the share of its real steps that it shows, in a row; 1: all.
        mask_steps: the share of steps that it hides.
        drop_variables: the share of variables that it hides.
        drop_elements: the share of cells that it hides.
        thin: the greatest share of a variable's observations that it hides.
        jitter_values: standard deviation of noise on values, which are normalised.
        jitter_times: by how much of half the gap to its nearest neighbour a step moves at most.
        shift_times: hours by which a stay moves at most; else a step is known by its time alone.
    """

    crop: float = 0.6
    mask_steps: float = 0.0
    drop_variables: float = 0.0
    drop_elements: float = 0.2
    thin: float = 0.0
    jitter_values: float = 0.1
    jitter_times: float = 0.0
    shift_times: float = 12.0

    def __post_init__(self) -> None:
        require(self, "crop", 0 < self.crop <= 1, "above 0 and at most 1")
        for name in ("mask_steps", "drop_variables", "drop_elements"):
            require(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        for name in ("thin", "jitter_times"):
            require(self, name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        require_at_least(self, 0, "jitter_values", "shift_times")


def make_view(config: ViewConfig) -> Compose:
    """The views of a config, together.

    >>> [type(view).__name__ for view in make_view(ViewConfig()).views]
    ['Crop', 'DropElements', 'JitterValues', 'ShiftTimes']
    """
    views: list[View] = [
        kind(getattr(config, name))
        for name, kind in (
            ("mask_steps", MaskSteps),
            ("drop_variables", DropVariables),
            ("drop_elements", DropElements),
            ("thin", Thin),
            ("jitter_values", JitterValues),
            ("jitter_times", JitterTimes),
            ("shift_times", ShiftTimes),
        )
        if getattr(config, name) > 0
    ]
    return Compose([Crop(config.crop), *views] if config.crop < 1 else views)
