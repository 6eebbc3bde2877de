"""A prepared dataset on disk: events in compressed sparse form, memory-mapped, and its tables."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from slices.encoders.plain import parse_json
from slices.encoders.registry import checked, make_config
from slices.training.data.schema import LABEL_SCHEMA, STAY_SCHEMA, TaskInfo, Variable
from slices.training.memory import physical_memory

FORMAT = "slices-dataset"
FORMAT_VERSION = 2  # 2: statics at 0, before all other events of their stay
MANIFEST = "manifest.json"
ARRAYS = {"offsets.npy": np.int64, "time.npy": np.float32, "variable.npy": np.int16, "value.npy": np.float32}
TABLES = {"stays.parquet": STAY_SCHEMA, "labels.parquet": LABEL_SCHEMA}
A_ROW = 40  # bytes of a row of a table, in memory
SHOWN = 12  # digits of a digest that tell two apart
FLOAT32 = float(np.finfo(np.float32).max)
REMEDY = "prepare it again with overwrite=true, or name another data.dataset_dir"


class DatasetError(ValueError):
    """A directory that is not a whole dataset of this version, or not the one asked for."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a dataset says about itself."""

    source: dict[str, Any]
    variables: tuple[Variable, ...]
    tasks: dict[str, TaskInfo]
    counts: dict[str, int]
    drops: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    fingerprint: str
    created: str
    versions: dict[str, str]
    raw: dict[str, str] = dataclasses.field(default_factory=dict)
    contents: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["variables"] = [variable.to_dict() for variable in self.variables]
        plain["tasks"] = {name: dataclasses.asdict(task) for name, task in self.tasks.items()}
        return json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION} | plain, indent=1)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """The manifest of a dataset.

        Raises ``FileNotFoundError`` where the directory is absent and ``DatasetError`` where it holds
        something else, only part of a dataset, or one of another version.
        """
        if directory.is_file():
            raise DatasetError(f"{directory} is a file, no dataset: name another data.dataset_dir")
        if not directory.is_dir():
            raise FileNotFoundError(f"no dataset at {directory}: prepare it first (slices-prepare)")
        path = directory / MANIFEST
        if not path.is_file():
            raise DatasetError(f"{directory} is not a whole dataset ({MANIFEST} is missing): {REMEDY}")
        try:
            plain = parse_json(path.read_bytes())
        except ValueError as error:
            raise DatasetError(f"{path} cannot be read ({error}): {REMEDY}") from error
        if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
            raise DatasetError(
                f"{path} is not the manifest of a SLICES dataset: name another data.dataset_dir"
            )
        if (version := plain.pop("format_version", None)) != FORMAT_VERSION:
            raise DatasetError(
                f"{directory} has format {version}, this version reads {FORMAT_VERSION}: {REMEDY}"
            )
        try:
            plain["variables"] = tuple(Variable.from_dict(variable) for variable in plain["variables"])
            manifest = make_config(cls, plain, "manifest")
            manifest._check()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DatasetError(f"{path} lacks or misstates something ({error}): {REMEDY}") from error
        return manifest

    def _check(self) -> None:
        """Raise ``KeyError``, ``TypeError`` or ``ValueError`` for what the types of the fields do not say."""
        names = [variable.name for variable in self.variables]
        if len(set(names)) < len(names):
            raise ValueError(f"a variable is there twice: {', '.join(names)}")
        for name, task in self.tasks.items():
            if name != task.name:
                raise ValueError(f"the task {task.name!r} is there as {name!r}")
        checked(self.source["options"], dict, "source.options")
        for found, keys in (
            *((self.files[name], ("bytes", "sha256")) for name in (*ARRAYS, *TABLES)),
            (self.source, ("name", "version")),
            (self.counts, ("stays", "patients", "events", "labels")),
            *((raw, ("files", "bytes", "newest")) for raw in self.contents.values()),
            *((drop, ("description", "count", "by_set")) for drop in self.drops.values()),
        ):
            if lacking := set(keys) - found.keys():
                raise ValueError(f"{', '.join(sorted(lacking))} is missing")


def check_sizes(directory: Path, manifest: Manifest) -> None:
    """Raise ``DatasetError`` naming a file that is missing, or is not as large as the manifest says."""
    for name in (*ARRAYS, *TABLES):
        path = directory / name
        recorded = manifest.files[name]["bytes"]
        if not path.is_file():
            raise DatasetError(f"{directory} is half written or damaged ({name} is missing): {REMEDY}")
        if (size := path.stat().st_size) != recorded:
            raise DatasetError(f"{path} has {size} bytes, its manifest says {recorded}: {REMEDY}")


def check_digest(directory: Path, manifest: Manifest, name: str) -> None:
    """Raise ``DatasetError`` for a file whose sha256 is not the manifest's; it is read in small blocks."""
    path, recorded = directory / name, str(manifest.files[name]["sha256"])
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}): {REMEDY}") from error
    if found != recorded:
        raise DatasetError(
            f"{path} is damaged (its sha256 is {found[:SHOWN]}…, its manifest says "
            f"{recorded[:SHOWN]}…): {REMEDY}"
        )


class StayStore:
    """A prepared dataset, opened for reading.

    ``stays`` is the table of stays; the events of stay ``i`` are
    ``time[offsets[i]:offsets[i + 1]]`` (hours, ascending), and likewise ``variable`` and ``value``
    (raw units). The three arrays are mapped, so that processes share one copy.
    """

    def __init__(self, directory: str | Path) -> None:
        """Raises ``FileNotFoundError`` or ``DatasetError``, each with the remedy."""
        self.directory = Path(directory)
        self.manifest = Manifest.read(self.directory)
        check_sizes(self.directory, self.manifest)
        self.offsets = np.asarray(self._array("offsets.npy")[:])
        self.time = self._array("time.npy")
        self.variable = self._array("variable.npy")
        self.value = self._array("value.npy")
        self.stays = self._table("stays.parquet")
        self._check()
        self.stay_id = self.stays["stay_id"].to_numpy()
        self.patient_id = self.stays["patient_id"].to_numpy()
        self.length_hours = self.stays["length_hours"].to_numpy()
        self._refuse_replaced()

    def __len__(self) -> int:
        return len(self.stays)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return self.manifest.variables

    def events_at(self, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``time``, ``variable`` and ``value`` of these events.

        Raises ``DatasetError`` where one of them cannot be an event: a file that was damaged since.
        """
        time, variable, value = (array.index_select(0, position) for array in self._events)
        if len(position):
            self._refuse_beyond("time.npy", time, 0.0, FLOAT32)
            self._refuse_beyond("variable.npy", variable, 0, len(self.variables) - 1)
            self._refuse_beyond("value.npy", value, -FLOAT32, FLOAT32)
        return time, variable, value

    @cached_property
    def _events(self) -> tuple[Tensor, Tensor, Tensor]:
        """On the same memory."""
        return torch.from_numpy(self.time), torch.from_numpy(self.variable), torch.from_numpy(self.value)

    def _refuse_beyond(self, name: str, found: Tensor, low: float, high: float) -> None:
        least, most = (end.item() for end in found.aminmax())
        if not low <= least <= most <= high:  # nor where it is not a number; it is not said, as a patient's
            what = f"it holds something that is no number from {low:g} to {high:g}"
            raise DatasetError(f"{self.directory / name} is damaged ({what}): {REMEDY}")

    def labels(self, task: str) -> pl.DataFrame:
        """The rows of the label table that belong to a task."""
        table = self._table("labels.parquet", pl.col("task") == task)
        strays = table.filter(~pl.col("stay_id").is_in(self.stays["stay_id"].implode()).fill_null(False))
        if len(strays):
            path = self.directory / "labels.parquet"
            raise DatasetError(f"{path} has labels of {len(strays)} stays that are not there: {REMEDY}")
        self._refuse_replaced()
        return table

    def _refuse_replaced(self) -> None:
        """A dataset that is made again takes the place of the old one: nobody reads half of each."""
        if not (self.directory / MANIFEST).exists() or Manifest.read(self.directory) != self.manifest:
            raise DatasetError(f"{self.directory} was made again while it was read: start again")

    def _array(self, name: str) -> npt.NDArray[Any]:
        path = self.directory / name
        try:
            # copy on write: shared by all who read it, and torch takes no other kind
            array = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
        except Exception as error:  # of a damaged header, the reader raises whatever it stumbles over
            raise DatasetError(f"{path} cannot be read ({error}): {REMEDY}") from error
        if array.dtype != ARRAYS[name] or array.ndim != 1:
            raise DatasetError(f"{path} holds {array.dtype} {array.shape}, not 1-d {ARRAYS[name]}: {REMEDY}")
        return array

    def _table(self, name: str, rows: pl.Expr | None = None) -> pl.DataFrame:
        self._check_digest(name)  # of a damaged file, the reader may take any memory
        path, count = self.directory / name, self.manifest.counts[Path(name).stem]
        if not 0 <= count * A_ROW <= physical_memory():
            raise DatasetError(f"{path} has {count:,} rows by its manifest, which no memory holds: {REMEDY}")
        try:
            lazy = pl.scan_parquet(path, n_rows=count + 1)  # no more, whatever the file says
            if (schema := lazy.collect_schema()) != TABLES[name]:
                raise DatasetError(f"{path} has columns {dict(schema)}, not {dict(TABLES[name])}: {REMEDY}")
            if lazy.select(pl.len()).collect().item() != count:
                raise DatasetError(f"{path} has not the {count:,} rows that its manifest says: {REMEDY}")
            return (lazy if rows is None else lazy.filter(rows)).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            reason = str(error).strip().splitlines()[0]  # older releases of polars go on about the context
            raise DatasetError(f"{path} cannot be read ({reason}): {REMEDY}") from error

    def _check_digest(self, name: str) -> None:
        try:
            check_digest(self.directory, self.manifest, name)
        except DatasetError:
            self._refuse_replaced()
            raise

    def _check(self) -> None:
        """Raise ``DatasetError`` for what cannot be a dataset, as far as its stays, not its events, tell."""
        stays, length = self.directory / "stays.parquet", self.stays["length_hours"]
        if any(self.stays.drop("set").null_count().row(0)) or self.stays["stay_id"].is_duplicated().any():
            raise DatasetError(
                f"{stays} is damaged (a stay is there twice, or nothing in its place): {REMEDY}"
            )
        if not (length.is_finite() & (length >= 0)).all():
            raise DatasetError(f"{stays} is damaged (length_hours is no number of hours): {REMEDY}")
        n_events = {len(self.time), len(self.variable), len(self.value), *self.offsets[-1:].tolist()}
        begins = len(self.offsets) == len(self) + 1 and self.offsets[0] == 0
        if not begins or (np.diff(self.offsets) < 0).any() or len(n_events) != 1:
            raise DatasetError(f"the arrays of {self.directory} do not fit together: {REMEDY}")
