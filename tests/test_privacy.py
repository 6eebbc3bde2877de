"""What leaves a run: no value of a patient, no patient's id, and nothing over the network."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cli import CommandLine

N_STAYS = 60
STAY, PATIENT = 876_543_000, 987_654_000  # ids begin here
VALUE = 1234.5678  # of one stay
WORD = "zebrafish keeper"  # the occupation of one
RAW = ["data=table", "data.source.raw=raw/rows.csv", "data.source.stays=raw/stays.csv"]
RAW += ["data.source.statics=[age,ward,occupation]", "data.source.labels=raw/labels.csv"]
RAW += ["+data.source.tasks.died.task_type=binary", "data.dataset_dir=datasets/own"]
SHORT = ["data.resolution=4", "training.max_epochs=1", "training.batch_size=16", "encoder.d_model=8"]
BEGINNINGS = {str(STAY)[:6], str(PATIENT)[:6]}
OF_PATIENTS = ("predictions.parquet", "embeddings.parquet")


def write_raw(folder: Path) -> None:
    """Stays whose ids, and one of whose values, are found again wherever they go."""
    folder.mkdir()
    random, stays = np.random.default_rng(0), np.arange(N_STAYS)
    rows = [
        (STAY + stay, hour, name, round(float(value), 2))
        for stay in stays
        for name, centre in (("hr", 80), ("lact", 2))
        for hour, value in enumerate(random.normal(centre, centre / 10, 12))
    ]
    rows[40] = (*rows[40][:3], VALUE)
    columns = ["stay_id", "time", "variable", "value"]
    pl.DataFrame(rows, columns, orient="row").write_csv(folder / "rows.csv")
    about = {"stay_id": STAY + stays, "patient_id": PATIENT + stays, "age": 60 + stays % 30}
    words = {
        "ward": ["medical" if stay % 2 else "surgical" for stay in stays],
        "occupation": [WORD if stay == 7 else "other" for stay in stays],
    }
    pl.DataFrame({**about, **words}).with_columns(length_hours=48.0).write_csv(folder / "stays.csv")
    died = {"task": "died", "stay_id": STAY + stays, "prediction_time": 24.0, "value": stays % 3 == 0}
    pl.DataFrame(died).with_columns(pl.col("value").cast(pl.Float64)).write_csv(folder / "labels.csv")


def forms(number: float) -> list[bytes]:
    """How a number may be written down."""
    kinds = ("<f4", "<f8") if isinstance(number, float) else ("<i8", "<f8")
    return [
        str(number).encode(),
        f"{number:,}".encode(),
        *(np.array(number, kind).tobytes() for kind in kinds),
    ]


CANARIES = [form for number in (STAY + 7, PATIENT + 7, VALUE) for form in forms(number)] + [WORD.encode()]


def leaks(name: str, content: bytes) -> Iterator[str]:
    for canary in CANARIES:
        if canary in content:
            yield f"{name}: {canary!r}"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What anybody tried to reach over the network; nobody gets through."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> Any:
        tried.append(arguments)
        raise OSError("there is no network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    return tried


@pytest.mark.parametrize(
    "commands", ["cli", pytest.param("cli_with_reports", marks=pytest.mark.slow)]
)  # figures take their time
def test_nothing_of_a_patient_leaves_a_run_and_nobody_is_called(
    commands: str, request: pytest.FixtureRequest, tmp_path: Path, calls: list[Any]
) -> None:
    cli: CommandLine = request.getfixturevalue(commands)
    write_raw(tmp_path / "raw")
    model, predictions = "model=run/finetune", "predictions=[run/finetune/predictions.parquet]"
    apps = [
        ("prepare", *RAW),
        ("describe", *RAW, "folder=run/describe"),
        (
            "pretrain",
            *RAW,
            *SHORT,
            "hydra.run.dir=run/pretrain",
            "encoder_path=run/encoder.pt",
            "watch.task=died",
        ),
        (
            "finetune",
            *RAW,
            *SHORT[:3],
            "task=from_data",
            "task.task_name=died",
            "checkpoint_path=run/encoder.pt",
            "hydra.run.dir=run/finetune",
        ),
        ("evaluate", predictions, "folder=run/evaluate", "groups=datasets/own", "n_resamples=20"),
        ("predict", *RAW, model, "hydra.run.dir=run/predict"),
        ("embed", *RAW, "model=run/encoder.pt", "hydra.run.dir=run/embed"),
        ("export", model),
    ]
    found = []
    for app, *typed in apps:
        done = cli(app, *typed)
        assert done.status == 0, (app, done.err)
        found += leaks(f"{app} says", (done.out + done.err).encode())
        assert not BEGINNINGS & set(re.findall(r"\d{6}", (done.out + done.err).replace(",", ""))), app
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"encoder.pt", "last.ckpt", "report.html", "report.txt", "model.safetensors"} <= {
        p.name for p in written
    }
    pages = {path.parent.name for path in written if path.name == "report.html"}
    assert pages == ({"describe"} if commands == "cli" else {"describe", "pretrain", "finetune", "evaluate"})
    for path in written:
        if path.name not in OF_PATIENTS:
            found += leaks(str(path.relative_to(tmp_path)), path.read_bytes())
    assert not found, "\n".join(found)
    assert not calls
