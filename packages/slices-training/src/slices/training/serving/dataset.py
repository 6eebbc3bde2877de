"""The dataset of new stays: the one that is prepared already, else one made for the moment."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf

from slices.training.compose import command
from slices.training.data.config import DataConfig
from slices.training.data.definitions import build_definitions
from slices.training.data.prepare import open_dataset, prepare_dataset
from slices.training.data.schema import Variable
from slices.training.data.sources import Source, build_source
from slices.training.data.sources.table import TableSource
from slices.training.data.store import DatasetError, StayStore
from slices.training.errors import UserError

log = logging.getLogger(__name__)
OURS = ("resolution", "horizon", "window", "max_steps", "aggregate", "splits", "label_fraction", "label_seed")


def refuse_view_options(typed: Sequence[str]) -> None:
    """Raises ``UserError`` for an option of ``data`` that the model's own takes the place of."""
    for word in typed:
        key = word.lstrip("+~").split("=")[0]
        if key.removeprefix("data.").split(".")[0] in OURS and key.startswith("data."):
            raise UserError(f"{word}: stays are cut and taken as the model was trained; leave it out")


@contextmanager
def new_stays(
    data: DataConfig, folder: Path, variables: Sequence[Variable], *, adapt: bool, jobs: int
) -> Iterator[tuple[StayStore, Source]]:
    """The dataset at ``data.dataset_dir`` where it is the one asked for, else one that is gone afterwards.

    A table without a vocabulary of its own is read by the model's: names, units and plausible ranges.

    Raises:
        UserError: a table with names that the model does not know (unless ``adapt``).
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dataset-") as beside:
        source = _source(data, Path(beside), variables, adapt)
        try:
            store = open_dataset(source, data.dataset_dir)
            log.info("stays: the prepared dataset %s", data.dataset_dir)
        except (DatasetError, FileNotFoundError) as error:
            log.info("stays: prepared for this run alone; %s keeps them", command("prepare"))
            if isinstance(error, DatasetError):
                log.info("the dataset at %s is not used: %s", data.dataset_dir, str(error).splitlines()[0])
            store = prepare_dataset(source, Path(beside) / "stays", jobs=jobs)
        for rule in store.manifest.drops.values():
            log.info("%9s  %s", f"{rule['count']:,}", rule["description"])
        yield store, source


def _source(data: DataConfig, folder: Path, variables: Sequence[Variable], adapt: bool) -> Source:
    own = data.build_source()
    if not isinstance(own, TableSource) or own.config.vocabulary is not None:
        return own
    vocabulary = folder / "model.yaml"
    OmegaConf.save({variable.name: _described(variable) for variable in variables}, vocabulary)
    source = build_source(data.source | {"vocabulary": str(vocabulary)})
    source.definitions = build_definitions(data.definitions)
    assert isinstance(source, TableSource)
    _compare_names(source, variables, adapt)
    return source


def _described(variable: Variable) -> dict[str, object]:
    return {key: value for key, value in variable.to_dict().items() if key != "name" and value is not None}


def _compare_names(source: TableSource, variables: Sequence[Variable], adapt: bool) -> None:
    """A name that the model does not know may be misspelt; one that the table lacks was not measured."""
    known = {variable.name: variable for variable in variables}
    seen = {name for name in source.survey.rows_of if name}
    seen |= {name for static in source.statics for name in static.names}
    if (strange := sorted(seen - known.keys())) and not adapt:
        raise UserError(
            f"{source.config.raw}: the model does not know {', '.join(strange)}; it takes "
            f"{', '.join(known)}. Rename them, or adapt_variables=true leaves them out"
        )
    units = ", ".join(f"{name} in {known[name].unit}" for name in known if name in seen and known[name].unit)
    log.info("values are taken to be in the model's units: %s", units or "it names none")
    if lacking := [name for name in known if name not in seen]:
        log.warning("never measured in this table: %s", ", ".join(lacking))
