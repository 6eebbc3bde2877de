"""Training and testing the cells of one unit. Whatever is on disk already is not done again."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from slices.training.adaptation.solved_probe import embeddings, strengths_of
from slices.training.baseline.blend import mean_prediction
from slices.training.baseline.rows import feature_rows
from slices.training.benchmark.cells import Cell, Unit, cells
from slices.training.benchmark.checks import SEEDS_APART
from slices.training.benchmark.config import BenchmarkConfig
from slices.training.benchmark.overrides import flat
from slices.training.benchmark.rows import BASELINE, NONE, Spent
from slices.training.compose import compose_app
from slices.training.config import PretrainConfig, plain
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import StayDataModule
from slices.training.data.labels import label_subset
from slices.training.evaluation.bootstrap import Predictions
from slices.training.evaluation.probe import fit_probe
from slices.training.evaluation.stacking import Labels, fit_stacked
from slices.training.finetuning import FineTuneModule
from slices.training.memory import most_memory
from slices.training.optim import PlateauConfig
from slices.training.pretrained import n_parameters
from slices.training.pretraining import SSLPretrainModule
from slices.training.quiet import quiet_lightning


def do_unit(config: BenchmarkConfig, unit: Unit, threads: int) -> Unit:
    """Pretrains (or not), then adapts and tests every cell of the unit that is still to do."""
    torch.set_num_threads(threads)
    quiet_lightning()
    locks = Path(config.folder) / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / unit.key):  # another run may be at the same unit
        todo = still_to_do(config, unit)
        if todo and unit.objective == BASELINE:
            _do_baseline(config, unit, todo)
        elif todo:
            _do_encoder(config, unit, todo)
    return unit


def still_to_do(config: BenchmarkConfig, unit: Unit) -> list[Cell]:
    """The cells of a unit that have no file yet."""
    return [cell for cell in cells(config, unit) if not cell_file(config, cell).exists()]


def cell_file(config: BenchmarkConfig, cell: Cell) -> Path:
    """Where the predictions of a cell are kept."""
    return Path(config.folder) / "cells" / f"{cell.key}.npz"


def _do_baseline(config: BenchmarkConfig, unit: Unit, todo: list[Cell]) -> None:
    began = seconds()
    options, section, task = config.baseline_options(unit.encoder), config.data_of(unit), config.task
    data = StayDataModule(section, task=task.task_name, per_step=False)
    learnt = StayDataModule(section, task=task.task_name, per_step=False, also=options.also)
    for stays in (data, learnt):
        stays.setup()
    train, test = feature_rows(learnt, "train").features, feature_rows(data, "test").features
    shared = seconds() - began
    for cell in todo:
        began = seconds()
        rows, labels = training_labels(learnt, cell)
        model = fit_stacked(
            config.registered(unit.encoder),
            train[rows],
            labels,
            {name: _labels(learnt, rows, name) for name in options.also},
            group=_patients(learnt, "train")[rows],
            tune=options.tune,
        )
        _save(config, cell, data, torch.as_tensor(model.predict(test)), spent(began, shared))


def _do_encoder(config: BenchmarkConfig, unit: Unit, todo: list[Cell]) -> None:
    path, shared = (None, 0.0) if unit.objective == NONE else pretrained(config, unit)
    module, _ = _to_adapt(config, dataclasses.replace(todo[0], draw=0), path)
    data = _stays(config, todo[0], module, label_fraction=1.0)
    probes: dict[tuple[str, float], Frozen] = {}
    for cell in todo:
        began = seconds()
        if config.is_probe(cell.adaptation):
            way = (cell.adaptation, cell.fraction)
            if way not in probes:
                probes[way] = _frozen(config, cell, path)
            probs, size = _probed(cell, data, probes[way])
        else:
            probs, size = _finetuned(config, cell, path)
        _save(config, cell, data, probs, spent(began, shared, size))


class Frozen(NamedTuple):
    """Embeddings by split, and how many parameters their encoder has."""

    embedded: dict[str, Tensor]
    n_parameters: int
    has_prior: bool
    strengths: tuple[float, ...]


def _frozen(config: BenchmarkConfig, cell: Cell, path: Path | None) -> Frozen:
    module, _ = _to_adapt(config, dataclasses.replace(cell, draw=0), path)
    data = _stays(config, cell, module, label_fraction=1.0)
    module.eval()
    embedded = {split: embeddings(module, data, data.splits[split]) for split in ("train", "test")}
    training = module.config.training
    has_prior = training.probe_prior == "covariance"
    return Frozen(embedded, n_parameters(module.encoder), has_prior, strengths_of(training))


def _probed(cell: Cell, data: StayDataModule, frozen: Frozen) -> tuple[Tensor, int]:
    """Probabilities of the test stays, and how many parameters encoder and probe have."""
    rows, labels = training_labels(data, cell)
    patients = torch.from_numpy(_patients(data, "train"))[rows]
    features = frozen.embedded["train"]
    background = features if frozen.has_prior else None
    probe = fit_probe(
        features[rows],
        **labels._asdict(),
        group=patients,
        background=background,
        strengths=frozen.strengths,
    )
    size = frozen.n_parameters + probe.weight.numel() + probe.bias.numel()
    return probe.predict(frozen.embedded["test"]), size


def pretrained(config: BenchmarkConfig, unit: Unit) -> tuple[Path, float]:
    """The unit's pretrained encoder, and the processor seconds it took."""
    unit = config.pretraining_unit(unit)
    path = Path(config.folder) / "encoders" / f"{unit.key}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):  # of a transductive one other folds wait
        return path, _pretrain(config, unit, path)


def _pretrain(config: BenchmarkConfig, unit: Unit, path: Path) -> float:
    """Writes the encoder, unless it is there; gives the seconds it took."""
    cost = path.with_suffix(".seconds")
    if not (cost.exists() and path.exists()):
        began = seconds()
        composed = pretrain_config(config, unit)
        parsed = PretrainConfig.parse(composed)
        assert parsed.data is not None
        torch.manual_seed(unit.seed)
        module = SSLPretrainModule(composed)
        _trainer(parsed.trainer).fit(module, datamodule=StayDataModule(parsed.data, seed=unit.seed))
        module.save_encoder(path)
        partial = cost.with_suffix(".partial")
        partial.write_text(f"{seconds() - began:.3f}")
        partial.replace(cost)
    return float(cost.read_text())


def pretrain_config(config: BenchmarkConfig, unit: Unit) -> DictConfig:
    """What a unit's encoder is pretrained by."""
    return _composed("pretrain", config.pretraining_data(unit), unit, config.pretraining(unit))


def _finetuned(config: BenchmarkConfig, cell: Cell, path: Path | None) -> tuple[Tensor, int]:
    """Probabilities of the test stays, and how many parameters encoder and head have, of all members."""
    seeds = [cell.unit.seed + SEEDS_APART * k for k in range(config.members(cell))]
    of_members = [dataclasses.replace(cell, unit=dataclasses.replace(cell.unit, seed=seed)) for seed in seeds]
    probs, sizes = zip(*(_finetuned_once(config, member, path) for member in of_members), strict=True)
    if len(probs) == 1:
        return probs[0], sizes[0]
    assert config.task.task_type is not None
    return mean_prediction([one.double().numpy() for one in probs], config.task.task_type), sum(sizes)


def _finetuned_once(config: BenchmarkConfig, cell: Cell, path: Path | None) -> tuple[Tensor, int]:
    """One member's."""
    module, data = _to_adapt(config, cell, path)
    trainer = _trainer(module.config.trainer)
    also = tuple(module.others)  # which may have samples of their own
    trainer.fit(module, datamodule=_stays(config, cell, module, also=also) if also else data)
    batches: Any = trainer.predict(module, data.test_dataloader())
    probs = torch.cat([batch["probs"] for batch in batches])
    return probs, n_parameters(module.encoder) + n_parameters(module.head)


def _to_adapt(
    config: BenchmarkConfig, cell: Cell, path: Path | None
) -> tuple[FineTuneModule, StayDataModule]:
    """An encoder with a fresh head, and the data it is trained and tested on."""
    composed = finetune_config(config, cell, path)
    torch.manual_seed(cell.unit.seed)
    module = FineTuneModule(composed)
    return module, _stays(config, cell, module)


def _stays(
    config: BenchmarkConfig,
    cell: Cell,
    module: FineTuneModule,
    *,
    also: tuple[str, ...] = (),
    label_fraction: float | None = None,
) -> StayDataModule:
    """The cell's stays as the module takes them, with labels of further tasks or another share of labels."""
    section = module.config.data
    assert section is not None
    if label_fraction is not None:
        section = dataclasses.replace(section, label_fraction=label_fraction)
    task, seed = config.task.task_name, cell.unit.seed
    data = StayDataModule(section, task=task, per_step=False, seed=seed, also=also)
    data.setup()
    module.follow(data)
    return data


def finetune_config(config: BenchmarkConfig, cell: Cell, path: Path | None) -> DictConfig:
    """What a cell's encoder, of the file at ``path`` or from scratch, is adapted by."""
    words = [*flat({"task": plain(config.task)}), *config.adapting(cell)]
    composed = _composed("finetune", config.data_of(cell.unit), cell.unit, words)
    composed.checkpoint_path = None if path is None else str(path)
    composed.data.label_fraction, composed.data.label_seed = cell.fraction, cell.draw
    return composed


def check_pretraining(config: BenchmarkConfig, unit: Unit) -> None:
    """Builds what a unit is pretrained with, all but the data, and so raises what would stop it.

    Raises:
        ValueError, TypeError, HydraException, OmegaConfBaseException: a setting that cannot be.
    """
    if unit.objective not in (NONE, BASELINE):
        _check_module(SSLPretrainModule(pretrain_config(config, unit)))


def check_finetuning(config: BenchmarkConfig, unit: Unit) -> None:
    """The same of what its encoder is adapted with, in every way and at every fraction of labels."""
    if unit.objective != BASELINE:
        for cell in cells(config, unit):
            if cell.draw == 0:
                module = FineTuneModule(finetune_config(config, cell, None))
                _check_module(module)
                _check_probing(module, cell, config.is_probe(cell.adaptation), config.members(cell))


def _check_probing(module: FineTuneModule, cell: Cell, probing: bool, members: int) -> None:
    if probing and members > 1:
        raise ValueError(
            f"adaptation {cell.adaptation}: members={members} of a probe would all be the same: leave it out"
        )
    if not probing and module.config.training.solve_head:
        raise ValueError(f"adaptation {cell.adaptation}: solve_head=true is adaptation probe; leave it out")
    if probing and (idle := _idle_of_probes(module)):
        raise ValueError(
            f"adaptation {cell.adaptation}: a probe solves a linear head on the stay's embedding, so there "
            f"is no room for {', '.join(idle)}: leave it out, or put it under finetune"
        )
    if probing and module.encoder.config.pooling == "attention":
        raise ValueError(
            "adaptation probe: encoder.pooling=attention has weights that no probe trains: use mean, as in "
            f"finetune: {{{cell.unit.encoder}: {{encoder: {{pooling: mean}}}}}}"
        )


def _idle_of_probes(module: FineTuneModule) -> list[str]:
    task, training = module.config.task, module.config.training
    found = {
        "task.also": bool(module.others),
        "task.head_type": task.keeps_steps,
        "task.class_weight": task.class_weight is not None,
        "task.label_smoothing": task.label_smoothing != 0,
        "training.solve_head=false": not training.solve_head,
    }
    return [name for name, is_there in found.items() if is_there]


def _check_module(module: SSLPretrainModule | FineTuneModule) -> None:
    _trainer(module.config.trainer)
    if isinstance(module.config.scheduler, PlateauConfig):
        raise ValueError("scheduler=plateau: the benchmark does not validate; take another scheduler")


def _composed(app: str, data: DataConfig, unit: Unit, overrides: list[str]) -> DictConfig:
    """The config of an app, on the benchmark's data."""
    composed = compose_app(app, [f"seed={unit.seed}", *overrides])
    OmegaConf.set_struct(composed, False)
    composed.data = plain(data) | {"batch_size": composed.training.batch_size}
    return composed


def _trainer(options: dict[str, Any]) -> L.Trainer:
    """One that trains for its epochs, and leaves nothing behind but the weights."""
    silent = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return L.Trainer(**options | silent, limit_val_batches=0, num_sanity_val_steps=0)


def seconds() -> float:
    """Of this process's processor or, where there is a GPU, which it does not tell of, those that passed."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def spent(began: float, shared: float, parameters: int = 0) -> Spent:
    """Since ``began`` (in ``seconds``), and at most by this process."""
    return Spent(seconds() - began, shared, parameters, most_memory())


def training_labels(data: StayDataModule, cell: Cell) -> tuple[Tensor, Labels]:
    """The rows of the training split whose labels the cell gets to see, and these labels."""
    assert data.task is not None
    label, label_mask = data.split_labels("train")
    rows = label_subset(data.split_ids("train"), label, label_mask, data.task, cell.fraction, cell.draw)
    return torch.from_numpy(rows), _labels(data, torch.from_numpy(rows), data.task.name)


def _labels(data: StayDataModule, rows: Tensor, task: str) -> Labels:
    """Those of a task for rows of the training split."""
    label, label_mask = (torch.from_numpy(array)[rows] for array in data.split_labels("train", task))
    about = data.store.manifest.tasks[task]
    return Labels(label, label_mask, about.task_type, about.n_classes or 1)


def _patients(data: StayDataModule, split: str) -> npt.NDArray[np.int64]:
    """The patient of each sample of a split."""
    return data.store.patient_id[data.samples.stay[data.splits[split]]]


def _save(config: BenchmarkConfig, cell: Cell, data: StayDataModule, probs: Tensor, cost: Spent) -> None:
    """The test stays' labels and predictions, as metrics take them, and what they cost."""
    label, mask = data.split_labels("test")
    prediction = probs.double().numpy()
    if config.task.task_type == "binary":
        prediction = prediction[:, 1]
    elif config.task.task_type == "regression" and label.ndim == 1:
        prediction = prediction[:, 0]
    path = cell_file(config, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            row_id=data.splits["test"],
            patient_id=_patients(data, "test"),
            label=np.where(mask, label, np.nan) if config.task.task_type == "multilabel" else label,
            prediction=prediction,
            spent=np.array(cost),
        )
    partial.replace(path)


def read_cell(config: BenchmarkConfig, cell: Cell) -> tuple[Predictions, Spent]:
    """Predictions of a cell, and what it cost."""
    with np.load(cell_file(config, cell), allow_pickle=False) as saved:
        predictions = Predictions(*(saved[name] for name in Predictions._fields))
        return predictions, Spent(*saved["spent"].tolist())
