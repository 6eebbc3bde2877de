"""The record of a run, in its folder: what it depends on, how it ended, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch
from hydra.core.hydra_config import HydraConfig
from torch import Tensor
from yaml import safe_dump  # type: ignore[import-untyped]

from slices.encoders.files import brief
from slices.encoders.plain import leaves
from slices.encoders.registry import checked
from slices.training.apps.ranks import is_rank_zero
from slices.training.checkpoint_io import read_checkpoint
from slices.training.environment import environment
from slices.training.past_runs import RECORD, load_record
from slices.training.pretrained import read_pretrained

PLAIN = dict[str, Any]
BEGUN = {
    "app": str,
    "overrides": list[str],
    "outcome": str,
    "starts_from": str | None,
    "earlier": list[PLAIN],
    "hardware.threads": int,
    "data.dataset": str,
}
COMPLETE = {"metrics": dict[str, float], "result.file": str, "result.sha256": str}
MOST_THREADS = 1024


@dataclass
class Outcome:
    """What came of a run, as its app says: its last metrics, and the file that holds what it learnt."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None


@contextmanager
def recording(
    folder: Path, *, starts_from: str | None = None, resumed: bool = False, **facts: Any
) -> Iterator[Outcome]:
    """Within it a run is done; rank 0 writes ``record.yaml``, at its beginning and at its end.

    One that is killed stays "running".

    Args:
        folder: the run's.
        starts_from: the file of the encoder that it trains further.
        resumed: what was recorded in the folder before is kept, under ``earlier``.
        facts: what else is known at the beginning, as plain values.
    """
    outcome = Outcome()
    if not is_rank_zero():
        yield outcome
        return
    record = _begun(folder, starts_from, resumed) | facts
    _write(folder, record)
    try:
        yield outcome
        record["outcome"] = "complete"
    except (KeyboardInterrupt, SystemExit):
        record["outcome"] = "interrupted"
        raise
    except BaseException:
        record["outcome"] = "failed"
        raise
    finally:
        record |= {"ended": _now()} | _came_of(outcome, folder)
        _write(folder, record)


def _begun(folder: Path, starts_from: str | None, resumed: bool) -> dict[str, Any]:
    earlier: list[dict[str, Any]] = []
    digest = None
    if resumed and (folder / RECORD).is_file():
        before = read_record(folder)
        earlier = [*before.pop("earlier"), before]
        digest = before["starts_from"]  # the file may have changed since
    elif starts_from is not None and not resumed:
        digest = digest_of_encoder(starts_from)
    hydra = HydraConfig.get()
    return {
        "app": hydra.job.config_name,
        "overrides": list(hydra.overrides.task),
        "started": _now(),
        "ended": None,
        "outcome": "running",
        "starts_from": digest,
        "earlier": earlier,
        **environment(),
    }


def _came_of(outcome: Outcome, folder: Path) -> dict[str, Any]:
    metrics = {name: float(value) for name, value in sorted(outcome.metrics.items())}
    if outcome.file is None:
        return {"metrics": metrics, "result": None}
    file = outcome.file.resolve().relative_to(folder.resolve())
    return {"metrics": metrics, "result": {"file": str(file), "sha256": digest_of(learnt(outcome.file))}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    partial = folder / f".{RECORD}.partial"
    partial.write_text(safe_dump(dict(record), sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(folder / RECORD)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in a folder, its entries of the kinds that a run writes.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    record = load_record(folder)
    try:
        for _ in leaves(record):  # no aliases without end
            pass
        _check(record, BEGUN)
        if record["outcome"] == "complete":
            _check(record, COMPLETE)
        if not 0 < record["hardware"]["threads"] <= MOST_THREADS:
            raise ValueError(f"hardware.threads={record['hardware']['threads']}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / RECORD} is damaged: {brief(error)}") from error
    return record


def _check(record: Any, kinds: Mapping[str, Any]) -> None:
    for name, kind in kinds.items():
        checked(_at(record, name), kind, name)


def _at(record: Any, name: str) -> Any:
    """
    >>> _at({"data": {"dataset": "1c0f"}}, "data.dataset")
    '1c0f'
    """
    for key in name.split("."):
        if not isinstance(record, dict) or key not in record:
            raise ValueError(f"it has no {name}")
        record = record[key]
    return record


def learnt(path: Path) -> dict[str, Tensor]:
    """The weights in a Lightning checkpoint, or what a table of predictions predicts."""
    if path.suffix == ".parquet":
        return {"prediction": pl.read_parquet(path)["prediction"].to_torch()}
    state: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    return state


def digest_of_encoder(path: str | Path) -> str:
    """Of the weights and the normaliser in a file of an encoder, or in a checkpoint of pretraining.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged or something else; it is named.
    """
    loaded = read_pretrained(path)
    assert loaded is not None
    scale = {} if loaded.normalizer is None else loaded.normalizer.state_dict(prefix="normalizer.")
    return digest_of(loaded.encoder.state_dict() | scale)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values; files of equal weights need not be equal, byte by byte.

    >>> one = {"a": torch.ones(2), "b": torch.zeros(())}
    >>> digest_of(one) == digest_of(dict(reversed(one.items()))) != digest_of(one | {"a": -torch.ones(2)})
    True
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
