"""What ``look`` is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig

from slices.training.config import parse_app
from slices.training.ranges import require_at_least_one, require_seed

MapName = Literal["pca", "umap"]


@dataclass(kw_only=True)
class LookConfig:
    """Everything that ``configs/look.yaml`` says.

    Args:
        run: the folder of a finished pretraining or fine-tuning.
        split: the stays to choose from.
        n_stays: the first so many of them.
        stay_ids: these in their place.
        color_by: of the map of embeddings, a map each: tasks and statics of the dataset, ``measured`` (the
            number of values) and, of a fine-tuned model, ``predicted``; without names all of them.
        map: principal components, or UMAP (extra ``umap``).
        seed: of what is hidden.
    """

    run: str | None = None
    split: Literal["train", "val", "test"] = "val"
    n_stays: int = 3
    stay_ids: tuple[int, ...] = ()
    color_by: tuple[str, ...] = ()
    map: MapName = "pca"
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least_one(self, "n_stays")
        require_seed(self, "seed")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> LookConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "look")
