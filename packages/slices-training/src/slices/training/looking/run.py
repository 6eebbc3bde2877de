"""From the folder of a run to a page with some of its stays."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from slices.encoders.registry import unknown
from slices.training.apps.record import read_record
from slices.training.checkpoint_io import newest_whole
from slices.training.config import FineTuneConfig, PretrainConfig
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import StayDataModule
from slices.training.data.views import Index
from slices.training.errors import UserError
from slices.training.evaluation.bootstrap import Array
from slices.training.looking import hidden, risk
from slices.training.looking.config import LookConfig, MapName
from slices.training.looking.known import known_of_stays
from slices.training.looking.plane import section_of
from slices.training.module_checkpoint import load_module
from slices.training.pretraining import SSLPretrainModule
from slices.training.report.page import Page, Section
from slices.training.serving.ensemble import load_models
from slices.training.yaml_files import read_config

MOST_ON_MAP = 2000


def require_drawing(method: MapName) -> None:
    """Raises ``UserError`` where matplotlib, or what makes the map, is not there."""
    if find_spec("matplotlib") is None:
        raise UserError("matplotlib is not installed: pip install 'slices-training[report]'")
    if method == "umap" and find_spec("umap") is None:
        raise UserError("map=umap needs umap-learn: pip install 'slices-training[umap]', or take map=pca")


def page_of(config: LookConfig, note: str) -> Page:
    """The page of a run's stays.

    Raises:
        UserError: a run of another app, or stays that it has not.
        FileNotFoundError, ValueError: no run, no data, or damage; it is named.
    """
    folder = Path(str(config.run))
    app = read_record(folder)["app"]
    if app == "pretrain":
        sections = _of_pretraining(folder, config)
    elif app == "finetune":
        sections = _of_fine_tuning(folder, config)
    else:
        raise UserError(f"{folder} is a run of {app}: looked at are those of pretrain and finetune")
    facts = {"run": str(folder), "split": config.split}
    return Page(f"Stays of {folder}", facts, tuple(sections), notes=(note,))


def _of_pretraining(folder: Path, config: LookConfig) -> list[Section]:
    section = PretrainConfig.parse(read_config(folder / "config.yaml")).data
    data = _data(section)
    module = load_module(SSLPretrainModule, newest_whole(folder / "checkpoints"))
    card, normalizer = module.card, module.normalizer
    if card is None or normalizer is None:
        raise UserError(f"{folder} has no variables in its checkpoint: it was not trained by the app")
    data.feed(card.variables, card.units)
    data.normalizer = normalizer
    rows, colors = _stays(data, config), _colors(data, config, hidden.FOUND)
    sections = hidden.sections_of(module, data, _chosen(data, rows, config), config.seed)
    found = hidden.embeddings_of(module, data, rows[:MOST_ON_MAP])
    return [*sections, _map(data, rows[:MOST_ON_MAP], config, colors, *found)]


def _of_fine_tuning(folder: Path, config: LookConfig) -> list[Section]:
    data = _data(FineTuneConfig.parse(read_config(folder / "config.yaml")).data)
    model = load_models([str(folder)]).first
    rows, colors = _stays(data, config), _colors(data, config, risk.FOUND)
    sections = risk.sections_of(model, data, _chosen(data, rows, config))
    found = risk.embeddings_of(model, data, rows[:MOST_ON_MAP])
    return [*sections, _map(data, rows[:MOST_ON_MAP], config, colors, *found)]


def _colors(data: StayDataModule, config: LookConfig, found: tuple[str, ...]) -> dict[str, pl.Series]:
    """What is known of all stays, but for what is to be ``found``. Raises ``UserError`` for other names."""
    known = {name: values for name, values in known_of_stays(data.store).items() if name not in found}
    for name in config.color_by:
        if name not in (*found, *known):
            raise UserError(unknown("color_by", name, (*found, *known)))
    return known


def _map(
    data: StayDataModule,
    rows: Index,
    config: LookConfig,
    known: dict[str, pl.Series],
    embedding: Array,
    found: dict[str, pl.Series],
) -> Section:
    """The map of these stays, coloured by what was ``found`` of them and what is ``known`` of all."""
    colors = found | {name: values[data.samples.stay[rows]] for name, values in known.items()}
    chosen = {name: colors[name] for name in config.color_by or colors}
    said = f"The first {len(rows)} stays of the split {config.split!r}"
    return section_of(embedding, chosen, config.map, said)


def _data(section: DataConfig | None) -> StayDataModule:
    if section is None:
        raise UserError("the run's config has no section 'data'")
    data = StayDataModule(replace(section, label_fraction=1.0))  # stays are looked at without labels too
    data.prepare_data()
    data.setup()
    return data


def _stays(data: StayDataModule, config: LookConfig) -> Index:
    """The rows of the split, one a stay: of windows the first. Raises ``UserError`` where there are none."""
    rows = data.splits[config.split]
    if not len(rows):
        raise UserError(f"split={config.split}: the run had no such stays; choose another split")
    _, first = np.unique(data.samples.stay[rows], return_index=True)
    return rows[np.sort(first)]


def _chosen(data: StayDataModule, rows: Index, config: LookConfig) -> Index:
    """Of these rows those of the stays that are asked for."""
    if not config.stay_ids:
        return rows[: config.n_stays]
    ids = data.stay_ids(rows)
    if lacking := sorted(set(config.stay_ids) - set(ids.tolist())):
        raise UserError(f"stay_ids: {lacking[0]} is no stay of the split {config.split!r}; try another split")
    return rows[np.isin(ids, config.stay_ids)]
