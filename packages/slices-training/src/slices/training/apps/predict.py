"""``slices-predict``: what a fine-tuned model says of new stays."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.compose import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slices.training.data.schema import Variable
    from slices.training.data.sources import Source
    from slices.training.data.store import StayStore
    from slices.training.serving.config import EmbedConfig, PredictConfig
    from slices.training.serving.ensemble import Ensemble
    from slices.training.serving.predicting import Predictor

log = logging.getLogger(__name__)


def predict(config: DictConfig) -> None:
    """Writes the predictions of all stays of a source, labelled or not."""
    from hydra.core.hydra_config import HydraConfig

    from slices.training.apps.run import Cost
    from slices.training.serving.config import PredictConfig
    from slices.training.serving.dataset import refuse_view_options
    from slices.training.serving.meds import admissions_of, meds_schema, meds_tables
    from slices.training.serving.predicting import Predictor
    from slices.training.serving.streaming import write_stream

    cost = Cost()
    with checking_what_was_asked():
        refuse_view_options(HydraConfig.get().overrides.task)
        parsed = PredictConfig.parse(config)
        folder = Path(HydraConfig.get().runtime.output_dir)
        ensemble = _ensemble(parsed)
        with stays_of(parsed, folder, ensemble.first.info.columns) as (store, source):
            predictor = Predictor(ensemble, store, at=parsed.at, adapt=parsed.adapt_variables)
            _announce(predictor)
            tables, schema = predictor.tables(parsed.data.batch_size), predictor.schema
            if parsed.format == "meds":
                tables = meds_tables(tables, admissions_of(source, ensemble.first))
                schema = meds_schema(labelled=parsed.at == "labels")
            file = folder / "predictions.parquet"
            rows = write_stream(file, tables, schema)
    number = f"{len(predictor.stays):,} in {rows:,} rows"
    log.info("predictions: %s (%s), after %s", file, number, cost)
    if predictor.labels.task is not None and parsed.format == "slices":
        log.info("some have labels; next: %s", command("evaluate") + f" predictions=[{file}]")


@contextmanager
def stays_of(
    config: PredictConfig | EmbedConfig, folder: Path, variables: Sequence[Variable]
) -> Iterator[tuple[StayStore, Source]]:
    """The stays that a config asks for, and where they come from."""
    from slices.training.data.store import StayStore
    from slices.training.serving.dataset import new_stays

    if config.dataset is not None:
        yield StayStore(config.dataset), config.data.build_source()
        return
    adapt, jobs = config.adapt_variables, config.jobs
    with new_stays(config.data, folder, variables, adapt=adapt, jobs=jobs) as found:
        yield found


def _ensemble(config: PredictConfig) -> Ensemble:
    from slices.training.serving.config import device_of
    from slices.training.serving.ensemble import Ensemble, load_models

    ensemble = load_models(config.models)
    members = dict(zip(ensemble.names, ensemble.members, strict=True))
    if not config.calibrate:
        members = {name: member.uncalibrated() for name, member in members.items()}
    return Ensemble({name: member.to(device_of(config.device)) for name, member in members.items()})


def _announce(predictor: Predictor) -> None:
    """Says what was decided, before any work is done."""
    model, stays = predictor.model, predictor.stays
    log.info("model: %s, task %s (%s)", predictor.ensemble.name, model.task.task_name, model.task.task_type)
    log.info("it sees: %s", model.info.view)
    chosen = {"temperature": (model.info.temperature,), "threshold": predictor.ensemble.thresholds}
    for name, values in chosen.items():
        known = (f"{value:.3g}" for value in values if value is not None)
        log.info("%s: %s", name, ", ".join(known) or "none")
    for note in model.info.notes:
        log.warning("not chosen in training: %s", note)
    if stays.n_short:
        log.warning(
            "%s of %s stays end before the hour they are predicted at: the model sees what there is of them",
            f"{stays.n_short:,}",
            f"{len(stays):,}",
        )
    trained_on = int((predictor.split == "train").sum())
    if trained_on:
        log.warning("%s of these stays are those it was trained on (split=train)", f"{trained_on:,}")


def main() -> None:
    launch("predict", predict)


if __name__ == "__main__":
    main()
