"""The samples of a split as rows of summary features, with labels and what they are of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from slices.training.data.datamodule import StayDataModule
from slices.training.evaluation.summary_features import summary_features

INPUTS = ("timeseries", "mask", "counts", "times", "padding_mask")
ABOUT = ("stay_id", "patient_id", "prediction_time", "label", "label_mask")


class FeatureRows(NamedTuple):
    """Summary features in raw units, NaN where nothing was observed, and of each row what ``ABOUT`` names."""

    features: Float[Tensor, "N F"]
    about: dict[str, Tensor]


def feature_rows(data: StayDataModule, split: str) -> FeatureRows:
    """One row a sample: of a task with one label a step, a row for each prefix of a stay."""
    features: list[Tensor] = []
    about: list[dict[str, Tensor]] = []
    for batch in data.cuts(data.splits[split], normalize=False):
        inputs = {name: batch[name] for name in INPUTS}
        features.append(torch.from_numpy(summary_features(**inputs, static_columns=data.static_columns)))
        about.append({name: batch[name] for name in ABOUT if name in batch})
    return FeatureRows(
        torch.cat(features), {name: torch.cat([part[name] for part in about]) for name in about[0]}
    )
