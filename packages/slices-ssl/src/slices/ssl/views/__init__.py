"""Views: what an objective shows of a stay. Each is a module that draws a ``Look``, for each stay its own."""

from .changing import JitterTimes, JitterValues, ShiftTimes
from .config import ViewConfig, make_view
from .hiding import Crop, DropElements, DropVariables, MaskSteps, Thin
from .look import Compose, Look, View, look_at, plain_look

__all__ = [
    "Compose",
    "Crop",
    "DropElements",
    "DropVariables",
    "JitterTimes",
    "JitterValues",
    "Look",
    "MaskSteps",
    "ShiftTimes",
    "Thin",
    "View",
    "ViewConfig",
    "look_at",
    "make_view",
    "plain_look",
]
