"""``slices inspect``: what a file or folder of ours is, and what to type next. Never a value of a patient."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slices.training.cli.text import explained
from slices.training.compose import command
from slices.training.past_runs import RECORD, load_record, seconds_of

if TYPE_CHECKING:
    from slices.encoders import BaseEncoder, EncoderCard, LoadedEncoder, Normalizer
    from slices.heads import TaskHeadConfig

Rows = dict[str, object]
NOT_OURS = (
    "it is none of a checkpoint (.pt, .safetensors, .ckpt), a prepared dataset (manifest.json), a run "
    f"({RECORD}) and the folder of an encoder (config.json)"
)


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "inspect", description="what a checkpoint, a dataset or the folder of a run is"
    )
    parser.add_argument("path", type=Path, metavar="FILE", help="or a folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    rows = what_is(arguments.path)
    print(explained((name, str(value)) for name, value in rows.items() if value not in (None, "")))
    return 0


def what_is(path: Path) -> Rows:
    """What a path holds, by name.

    Raises:
        ValueError: it is damaged, or nothing of ours.
        FileNotFoundError: there is nothing.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    if path.is_file():
        if path.suffix not in OF_FILES:
            raise ValueError(f"{path}: {NOT_OURS}")
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        size = f"{path.stat().st_size / 1e6:,.1f} MB, written {written}"
        return OF_FILES[path.suffix](path) | {"file": f"{path}, {size}"}
    for name, read in OF_FOLDERS.items():
        if (path / name).is_file():
            return read(path)
    raise ValueError(f"{path}: {NOT_OURS}")


def _weights(path: Path) -> Rows:
    from slices.encoders import load_encoder
    from slices.encoders.files import ENCODER, is_of_kind

    if is_of_kind(path, ENCODER):
        return _pretrained(load_encoder(path), path)
    return _model(path)


def _model(path: Path) -> Rows:
    from slices.training.serving import load_model

    model = load_model(path)
    return {
        "what": f"a fine-tuned model, {model.info.name}",
        **_task(model.task, model.info.task.classes),
        "sees": str(model.info.view),
        **_encoder(model.encoder, model.normalizer, model.card),
        "next": f"{command('predict')} model={path} data=...",
    }


def _pretrained(loaded: LoadedEncoder, path: Path) -> Rows:
    return {
        "what": f"a pretrained encoder, of the objective {loaded.card.objective or '(not said)'}",
        **_encoder(*loaded),
        "next": f"{command('finetune')} checkpoint_path={path} data=...",
    }


def _hub_folder(path: Path) -> Rows:
    from slices.encoders import from_pretrained

    following = f'slices.encoders.from_pretrained("{path}") loads it, save_encoder makes one file of it'
    return _pretrained(from_pretrained(path), path) | {"next": following}


def _checkpoint(path: Path) -> Rows:
    from slices.training import FineTuneModule, SSLPretrainModule
    from slices.training.checkpoint_io import read_checkpoint
    from slices.training.module_checkpoint import load_module, module_config

    held = read_checkpoint(path)
    try:
        config = module_config(held)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    at = f"at epoch {held.get('epoch')}, step {held.get('global_step')}"
    if "ssl" in config:
        pretraining = load_module(SSLPretrainModule, path)
        return {
            "what": f"a checkpoint of pretraining with {config['ssl']['name']}, {at}",
            **_encoder(pretraining.get_encoder(), pretraining.normalizer, pretraining.card),
            "next": f"{command('finetune')} checkpoint_path={path} data=...",
        }
    tuning = load_module(FineTuneModule, path)
    return {
        "what": f"a checkpoint of fine-tuning, {at}",
        **_task(tuning.head.config, ()),
        **_encoder(tuning.encoder, tuning.normalizer, tuning.card),
        "next": f"{command('predict')} model={path.parent.parent} data=...",
    }


def _dataset(path: Path) -> Rows:
    from slices.training.data.store import Manifest, check_sizes

    manifest = Manifest.read(path)
    check_sizes(path, manifest)
    typed = f"data={manifest.source['name']} data.dataset_dir={path}"
    return {
        "what": f"a prepared dataset, of {manifest.source['name']}",
        "holds": ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items()),
        "tasks": ", ".join(f"{name} ({task.task_type})" for name, task in manifest.tasks.items()),
        "variables": _with_units((variable.name, variable.unit) for variable in manifest.variables),
        "scales": _counted(variable.transform for variable in manifest.variables),
        "fingerprint": manifest.fingerprint,
        "made": f"{manifest.created}, with {_versions(manifest.versions)}",
        "next": f"{command('pretrain')} {typed}, or {command('describe')} {typed}",
    }


def _run(path: Path) -> Rows:
    record = load_record(path)
    try:
        return _recorded(path, record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # of a record that no run wrote
        raise ValueError(f"{path / RECORD} is damaged ({type(error).__name__}: {error})") from error


def _recorded(path: Path, record: dict[str, Any]) -> Rows:
    app, outcome = record["app"], record["outcome"]
    following = {
        "pretrain": f"{command('finetune')} checkpoint_path={path / 'encoder.pt'} data=...",
        "finetune": f"{command('predict')} model={path} data=...",
        "baseline": f"{command('evaluate')} predictions=[{path}]",
    }
    return {
        "what": f"a run of {app}, {outcome}",
        "learns": ", ".join(f"{what} {name}" for what, name in (record.get("learns") or {}).items()),
        "began": record["started"],
        "seconds": seconds_of(record),
        "typed": " ".join(record["overrides"]),
        "metrics": ", ".join(f"{name} {value:.4f}" for name, value in (record.get("metrics") or {}).items()),
        "on": f"{record.get('device', 'cpu')}, {record['platform']}",
        "made with": _versions(record["versions"]),
        "files": ", ".join(sorted(file.name for file in path.iterdir() if not file.name.startswith("."))),
        "next": following[app] if outcome == "complete" else f"{command(app)} resume={path}",
    }


def _task(head: TaskHeadConfig, classes: Iterable[str]) -> Rows:
    said = f"{head.task_name} ({head.task_type}), head {head.name}"
    return {"task": said, "classes": ", ".join(classes)}


def _encoder(encoder: BaseEncoder, normalizer: Normalizer | None, card: EncoderCard | None) -> Rows:
    from slices.encoders import ENCODER_REGISTRY

    n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    options = ", ".join(f"{name}={value}" for name, value in asdict(encoder.config).items())
    variables = card.variables if card else ()
    units = (card.units if card else ()) or ("",) * len(variables)
    return {
        "encoder": f"{ENCODER_REGISTRY.name_of(type(encoder))}, {n_parameters:,} parameters",
        "options": options,
        "variables": _with_units(zip(variables, units, strict=True)) or f"{encoder.d_input}, not named",
        "scales": f"of its training stays, {_counted(normalizer.transforms)}" if normalizer else "none",
        "trained on": ", ".join(f"{name} {value}" for name, value in _data_of(card).items()),
        "made with": _versions(card.versions) if card else "",
    }


def _data_of(card: EncoderCard | None) -> dict[str, Any]:
    shown = ("source", "dataset", "resolution", "horizon")
    return {name: card.data[name] for name in shown if name in card.data} if card else {}


def _with_units(variables: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} [{unit}]" if unit else name for name, unit in variables)


def _counted(transforms: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(transforms).items())


def _versions(versions: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


OF_FILES: dict[str, Callable[[Path], Rows]] = {
    ".pt": _weights,
    ".safetensors": _weights,
    ".ckpt": _checkpoint,
}
OF_FOLDERS: dict[str, Callable[[Path], Rows]] = {
    RECORD: _run,
    "manifest.json": _dataset,
    "config.json": _hub_folder,
}
