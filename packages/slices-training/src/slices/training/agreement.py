"""Does the model fit the data? What is not said is filled in, what does not fit is refused."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from slices.encoders import BaseEncoder
from slices.encoders.registry import unknown
from slices.training.adaptation.config import FineTuningConfig
from slices.training.config import FineTuneConfig, NamedEncoder, TaskConfig, plain
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import StayDataModule, dataset_info
from slices.training.data.schema import TaskInfo
from slices.training.data.splits import SplitConfig, split_stays
from slices.training.data.views import Index
from slices.training.errors import UserError

log = logging.getLogger(__name__)
VIEW = ("resolution", "aggregate")
UNEVEN = 1e-3  # hours by which the gaps of a grid may differ
N_INTERVALS = 10  # of a survival task, where their number is not given


def shaped(encoder: NamedEncoder, data: DataConfig | None) -> NamedEncoder:
    """The encoder with number of variables and static columns from the data, each where not given.

    Raises:
        UserError: the number of variables is not known.
    """
    given = encoder.config
    if data is None:
        if given.d_input is None:
            raise UserError("encoder.d_input is missing: give the number of variables, or a data section")
        return encoder
    info = dataset_info(data)
    if given.d_input not in (None, len(info.variables)):
        return encoder  # made for other data than the section's
    static_columns = given.static_columns or info.static_columns
    config = dataclasses.replace(given, d_input=len(info.variables), static_columns=static_columns)
    return NamedEncoder(name=encoder.name, config=config)


def encoder_from_scratch(config: FineTuneConfig) -> NamedEncoder:
    """The encoder section with what its data says of it; the default one where there is none."""
    named = config.encoder or NamedEncoder.parse({"name": "flowsheet"})
    if config.task.keeps_steps:
        named = NamedEncoder(name=named.name, config=dataclasses.replace(named.config, pooling="none"))
    return shaped(named, config.data)


def refuse_adaptation(training: FineTuningConfig, world_size: int, *, pretrained: bool) -> None:
    """Raises ``UserError`` for a way to adapt that this run has not what it takes for."""
    if training.unfreeze_epoch is not None and world_size > 1:
        raise UserError("training.unfreeze_epoch works on one device: use devices=1, or null to train all")
    if training.l2_sp and not pretrained:
        raise UserError(
            f"training.l2_sp={training.l2_sp:g} pulls towards pretrained weights, and there is no "
            "checkpoint: give checkpoint_path=..., or l2_sp=0"
        )


def refuse_unpooled(encoder: BaseEncoder, task: TaskConfig) -> None:
    """Raises ``UserError`` for one embedding a step where the head takes one a stay."""
    if encoder.config.pooling == "none" and not task.keeps_steps:
        raise UserError(
            f"task {task.task_name!r} has one label a stay, but encoder.pooling=none gives one embedding a "
            "step: use encoder.pooling=mean, task.head_type=attention, or task.per_step=true"
        )


def with_task(task: TaskConfig, data: DataConfig | None) -> TaskConfig:
    """The task with type, number of classes and ``per_step`` from the data, each where needed and not given.

    Raises:
        UserError: the data has no such task, or there is none to ask.
    """
    counted = task.task_type in ("binary", "regression") or task.n_classes is not None
    if task.task_type == "survival":
        counted = task.n_risks is not None and bool(task.n_classes)
    stated = task.task_type is not None and task.per_step is not None
    if stated and (counted or data is None):
        return task
    if data is None:
        raise UserError("task.task_type and task.per_step are not given: give both, or a data section")
    tasks = dataset_info(data).tasks
    if task.task_name not in tasks:
        raise UserError(f"{unknown('task', task.task_name, tasks)} (in the data), or give task.n_classes")
    info = tasks[task.task_name]
    if "survival" in (task.task_type, info.task_type):
        task = dataclasses.replace(
            task,
            n_classes=task.n_classes or len(task.interval_ends) or N_INTERVALS,
            n_risks=task.n_risks or info.n_risks,
        )
        counted = True
    return dataclasses.replace(
        task,
        task_type=task.task_type or info.task_type,
        n_classes=task.n_classes if counted else info.n_classes,
        per_step=info.per_step if task.per_step is None else task.per_step,
    )


def with_others(task: TaskConfig, data: DataConfig | None) -> TaskConfig:
    """The task with those of ``also`` filled in as ``with_task`` fills in the first. Raises as it does."""
    also = {}
    for name, (other, weight) in task.others().items():
        own = plain(with_task(other, data))
        also[name] = {"weight": weight} | {
            k: own[k] for k in own if k not in ("task_name", "per_step", "also")
        }
    return dataclasses.replace(task, also=also)


def check_shape(datamodule: StayDataModule, encoder: BaseEncoder, accepted: frozenset[str]) -> None:
    """Refuses data that the encoder, or what calls it, was not built for.

    Raises:
        UserError: another number of variables, other static columns, or measured timestamps for something
            that does not look at ``times`` and ``padding_mask`` (``accepted``: the inputs that it names).
    """
    if encoder.d_input != len(datamodule.variables):
        raise UserError(
            f"encoder.d_input={encoder.d_input}, but the data has {len(datamodule.variables)} variables: "
            "leave d_input out to take it from the data"
        )
    differing = set(encoder.config.static_columns) ^ set(datamodule.static_columns)
    differing -= set(datamodule.absent_columns)
    if differing:
        names = ", ".join(datamodule.variables[column] for column in sorted(differing))
        raise UserError(
            f"encoder and data do not agree on what is measured once a stay ({names}): leave "
            "encoder.static_columns out to take them from the data"
        )
    unseen = {"times", "padding_mask"} - accepted
    if datamodule.config.resolution == "observations":
        raise UserError(
            "data.resolution=observations gives single values (value, time, variable) for your own models: "
            "our encoders and objectives take a grid (data.resolution=1.0) or data.resolution=timestamps"
        )
    if datamodule.config.resolution == "timestamps" and unseen:
        raise UserError(
            f"data.resolution=timestamps, but the forward of encoder or objective does not take "
            f"{' and '.join(sorted(unseen))}: use a grid (data.resolution=1.0), or ones that do"
        )


def check_task(datamodule: StayDataModule, task: TaskConfig, encoder: BaseEncoder, n_outputs: int) -> None:
    """Refuses labels of another kind than the model was built for.

    Raises:
        UserError: no labels, another type of task or number of classes, labels a step for a model of one a
            stay or the other way round, or labels a step for an encoder that sees the future.
    """
    data = datamodule.task
    if data is None:
        raise UserError(f"the data module gives no labels: build it with task={task.task_name!r}")
    check_kind(data, task, n_outputs)
    if datamodule.labels_a_step != task.per_step:
        have = "step" if datamodule.labels_a_step else "sample"
        raise UserError(
            f"task {data.name!r}: the batches have one label a {have}, but task.per_step={task.per_step}: "
            f"give the data module per_step={task.per_step}"
        )
    if task.per_step and not encoder.causal:
        raise UserError(
            f"task {data.name!r} has one label a step: it needs an encoder that cannot see the future "
            "(encoder=gru, or encoder.causal=true where that is an option; in pretraining too), or "
            "task.per_step=false, which shows the encoder each stay up to each prediction time"
        )


def check_kind(data: TaskInfo, task: TaskConfig, n_outputs: int) -> None:
    """Refuses labels of another type, or of other classes or events. Raises ``UserError``."""
    ordered = task.task_type == "ordinal" and data.task_type == "multiclass"
    if data.n_risks is not None and task.task_type == "survival" and data.n_risks != (task.n_risks or 1):
        raise UserError(
            f"task {data.name!r} has {data.n_risks} events in the data ({', '.join(data.classes)}), but "
            f"task.n_risks={task.n_risks}: leave it out to take it from the data"
        )
    n_classes = 1 if data.task_type == "regression" else data.n_classes
    if (data.task_type != task.task_type and not ordered) or n_classes not in (None, n_outputs):
        raise UserError(
            f"task {data.name!r} is {data.task_type} with {data.n_classes} classes in the data, but the "
            f"config says {task.task_type} with {task.n_classes}: choose task={data.name}"
        )


def refuse_other_split(pretrained: Mapping[str, Any], now: Mapping[str, Any], stays: pl.DataFrame) -> None:
    """Refuses to test on patients that the encoder was pretrained on.

    An encoder file holds no list of patients. It needs none: splits are drawn by a hash of the patient's id,
    so that the section of then draws, from the stays of this dataset, those who were trained on. Another
    share of validation stays, or a smaller test split of the same draw, is therefore allowed. (Validation
    stays may have been trained on, without labels.)

    Args:
        pretrained, now: fingerprints of the data of pretraining and of this run.
        stays: this dataset's table of stays.

    Raises:
        UserError: patients of the test split were in the training split of then. Where the patients of then
            were others of the same source, which may go by the same ids, that is only warned of.
    """
    then = pretrained.get("splits")
    if then is None or pretrained.get("source") != now["source"]:
        return
    shared = _in_both(stays, then, now["splits"])
    if shared is not None and not len(shared):
        return
    of_them = "" if shared is None else f"{len(shared):,} of the "
    found = (
        f"the encoder was pretrained on another split ({then} then, {now['splits']} now), whose training "
        f"stays held {of_them}patients to be tested on"
    )
    if any(pretrained.get(key) == now[key] for key in ("dataset", "patients")):
        raise UserError(f"{found}: use the same data.splits, or training.allow_other_split=true")
    log.warning(
        "%s, if the dataset of then (%s) has the same patients", found, str(pretrained.get("dataset"))[:12]
    )


def compare_views(pretrained: Mapping[str, Any], now: Mapping[str, Any], variables: Sequence[str]) -> None:
    """Refuses variables whose values mean something else than they did in pretraining; warns of another view.

    Args:
        pretrained, now: fingerprints of the data of pretraining and of this run; of files written by earlier
            versions, what they do not say is not compared.
        variables: those that the encoder is fed with.

    Raises:
        UserError: a variable that was added up within a time step and is not, or the other way round.
    """
    if (summed := pretrained.get("summed")) is not None:
        differing = sorted((set(summed) ^ set(now["summed"])) & set(variables))
        if differing:
            raise UserError(
                f"{', '.join(differing)}: added up within a time step in pretraining or here, not in both. "
                "Set `aggregate` of these variables in the source's vocabulary to what it was then"
            )
    keys = [key for key in VIEW if key in pretrained and pretrained[key] != now[key]]
    if keys:
        was = ", ".join(f"{key}={pretrained[key]}" for key in keys)
        log.warning(
            "the encoder was pretrained with %s, here with %s: what a step sums up differs",
            was,
            ", ".join(f"{key}={now[key]}" for key in keys),
        )


def _in_both(stays: pl.DataFrame, then: Mapping[str, Any], now: Mapping[str, Any]) -> Index | None:
    """Patients tested on now who were trained on then; None where the sets of then are not here to tell."""
    patients, sets = stays["patient_id"].to_numpy(), stays["set"].to_list()
    tested = split_stays(patients, sets, SplitConfig(**now))["test"]
    try:
        trained = split_stays(patients, sets, SplitConfig(**then))["train"]
    except (ValueError, TypeError):
        return None
    return np.intersect1d(patients[trained], patients[tested])


def refuse_unseen_times(batch: Mapping[str, Any], accepted: frozenset[str]) -> None:
    """Refuses measured times for what does not look at ``times``, and so takes steps to lie evenly apart.

    Args:
        batch: as a data module gives it; this one reads its numbers, so ask it of one batch, not of all.
        accepted: the inputs that the ``forward`` names.

    Raises:
        UserError: times that are not evenly apart.
    """
    times, real = batch.get("times"), batch.get("padding_mask")
    if times is None or "times" in accepted:
        return
    gap = times.diff(dim=1)
    gap = gap if real is None else gap[real[:, 1:] & real[:, :-1]]
    if gap.numel() and (gap.max() - gap.min()) > UNEVEN:
        raise UserError(
            "the batch has measured times, but the forward of encoder or objective does not take `times`: "
            "name it there, use an encoder that does, or give a grid of evenly spaced steps"
        )
