"""Does the model fit the data? What is not said is filled in, what does not fit is refused."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from slices.encoders import BaseEncoder
from slices.encoders.registry import unknown
from slices.training.config import NamedEncoder, TaskConfig
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import StayDataModule, dataset_info
from slices.training.errors import UserError

log = logging.getLogger(__name__)
VIEW = ("resolution", "aggregate")
UNEVEN = 1e-3  # hours by which the gaps of a grid may differ


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


def with_task(task: TaskConfig, data: DataConfig | None) -> TaskConfig:
    """The task with type, number of classes and ``per_step`` from the data, each where needed and not given.

    Raises:
        UserError: the data has no such task, or there is none to ask.
    """
    counted = task.task_type in ("binary", "regression") or task.n_classes is not None
    stated = task.task_type is not None and task.per_step is not None
    if stated and (counted or data is None):
        return task
    if data is None:
        raise UserError("task.task_type and task.per_step are not given: give both, or a data section")
    tasks = dataset_info(data).tasks
    if task.task_name not in tasks:
        raise UserError(f"{unknown('task', task.task_name, tasks)} (in the data), or give task.n_classes")
    info = tasks[task.task_name]
    return dataclasses.replace(
        task,
        task_type=task.task_type or info.task_type,
        n_classes=task.n_classes if counted else info.n_classes,
        per_step=info.per_step if task.per_step is None else task.per_step,
    )


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
    ordered = task.task_type == "ordinal" and data.task_type == "multiclass"
    if (data.task_type != task.task_type and not ordered) or data.n_classes not in (None, n_outputs):
        raise UserError(
            f"task {data.name!r} is {data.task_type} with {data.n_classes} classes in the data, but the "
            f"config says {task.task_type} with {task.n_classes}: choose task={data.name}"
        )
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


def refuse_other_split(pretrained: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to test on stays that the encoder may have been pretrained on.

    What is compared is what decides who is tested on: splits are drawn by a hash of the patient's id, so
    that the sections of then and now tell whether a patient of the test split can have been in the training
    split, with no list of patients in the file. Another share of validation stays, or a smaller test split
    of the same draw, is therefore allowed. (Validation stays may have been trained on, without labels.)

    Args:
        pretrained, now: fingerprints of the data of pretraining and of this run.

    Raises:
        UserError: the same dataset, split so that test stays may have been trained on. Of another dataset
            of the same source, where patients may or may not be the same, that is only warned of.
    """
    then = pretrained.get("splits")
    if then is None or pretrained.get("source") != now["source"] or _none_was_trained_on(then, now["splits"]):
        return
    found = (
        f"the encoder was pretrained on another split ({then} then, {now['splits']} now), so that it may "
        "have seen the stays it would be tested on"
    )
    if pretrained.get("dataset") == now["dataset"]:
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


def _none_was_trained_on(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Is it sure that no patient of the test split of ``now`` was in the training split of ``then``?"""
    if then == now:
        return True
    tested, trained = now["test_sets"] or now["train_sets"], then["train_sets"]
    spared = {*then["test_sets"], *then.get("val_sets", ())}
    if tested and (not _may_overlap(tested, trained) if trained else spared >= set(tested)):
        return True
    if (
        now["test_sets"]
        or then["test_sets"]
        or any(then[key] != now[key] for key in ("seed", "n_folds", "fold"))
    ):
        return False
    return now["n_folds"] is not None or bool(now["test_fraction"] <= then["test_fraction"])


def _may_overlap(some: Sequence[str], others: Sequence[str]) -> bool:
    """May a set of stays be named by both of these lists of names and shell patterns?"""
    patterns = [name for name in (*some, *others) if set("*?[") & set(name)]
    both = set(some) & set(patterns) and set(others) & set(patterns)  # two patterns: not worth finding out
    return bool(both) or any(fnmatchcase(a, b) or fnmatchcase(b, a) for a, b in product(some, others))


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
