"""The ``data`` section of a config."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from slices.training.data.definitions import build_definitions
from slices.training.data.samples import WindowConfig
from slices.training.data.sources import Source, build_source
from slices.training.data.splits import SplitConfig
from slices.training.data.views import Aggregate
from slices.training.ranges import require_at_least_one, require_seed

MOST_BINS = 2**24  # whole numbers that float32 can tell apart


@dataclass(kw_only=True)
class DataConfig:
    """Where stays come from, how they become batches, and who is trained and tested on.

    ``source`` names a registered source and its options; ``definitions`` are tasks of one's own, made of its
    events and outcomes: ``{name: {kind: kdigo_aki, within: 12}}``. ``resolution`` is the width of a time
    bin in hours, "timestamps" for the measured times, or "observations" for single values (of either the
    ``max_steps`` most recent are kept). ``horizon``: hours since admission that are seen. ``window`` cuts
    longer stays into pieces. ``aggregate``: of several values in one bin, their mean, the last, least or
    greatest; amounts (variables declared so, like urine) are always summed. ``bucket_by_length`` puts stays
    with about as many measurements into one training batch, so that less of it is padding. ``resident_gb``:
    memory for training and validation samples that are kept as they were first cut, at most a quarter of what
    the machine has; where they need more, and where several processes train, each epoch cuts them anew.
    ``label_fraction`` of the training labels and of the validation labels (which choose the epoch) are used,
    drawn by ``label_seed`` within the classes, at least one of each; all of the test labels are.
    """

    source: dict[str, Any]
    dataset_dir: str
    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    resolution: float | Literal["timestamps", "observations"] = 1.0
    horizon: float = 48.0
    window: WindowConfig | None = None
    max_steps: int | None = None
    aggregate: Aggregate = "mean"
    batch_size: int = 64
    bucket_by_length: bool = False
    resident_gb: float = 6.0
    splits: SplitConfig = field(default_factory=SplitConfig)
    label_fraction: float = 1.0
    label_seed: int = 0

    def __post_init__(self) -> None:
        self.source = dict(self.source)
        self.build_source()
        if not 0 < self.horizon < math.inf:
            raise ValueError(f"horizon={self.horizon}: allowed is a positive number of hours")
        if not isinstance(self.resolution, str) and not 0 < self.resolution <= self.horizon:
            raise ValueError(
                f"resolution={self.resolution}: allowed is a width in hours up to horizon, or 'timestamps' "
                "or 'observations'"
            )
        if not isinstance(self.resolution, str) and self.horizon / self.resolution > MOST_BINS:
            raise ValueError(
                f"resolution={self.resolution}: horizon={self.horizon} has more than {MOST_BINS:,} bins of "
                "that width, and their times could not be told apart"
            )
        if self.max_steps is not None and (not isinstance(self.resolution, str) or self.max_steps < 1):
            raise ValueError(
                f"max_steps={self.max_steps}: allowed is 1 or more with resolution='timestamps' or "
                "'observations', else null"
            )
        if self.window is not None and not isinstance(self.resolution, str):
            self._check_bins(self.window, self.resolution)
        require_at_least_one(self, "batch_size")
        require_seed(self, "label_seed")
        if not 0 <= self.resident_gb < math.inf:
            raise ValueError(f"resident_gb={self.resident_gb}: allowed is 0 (keep none) or more")
        if not 0 < self.label_fraction <= 1:
            raise ValueError(f"label_fraction={self.label_fraction}: allowed is above 0, up to 1")

    def build_source(self) -> Source:
        """The source, with its own config and the definitions. Raises as ``build_source`` does."""
        source = build_source(self.source)
        source.definitions = build_definitions(self.definitions)
        return source

    @staticmethod
    def _check_bins(window: WindowConfig, resolution: float) -> None:
        for name, hours in (("length", window.length), ("stride", window.step)):
            if abs(hours / resolution - round(hours / resolution)) > 1e-6 or hours < resolution:
                raise ValueError(
                    f"window.{name}={hours}: allowed is a whole number of bins (resolution={resolution})"
                )
