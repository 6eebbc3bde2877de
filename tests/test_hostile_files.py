"""Models, checkpoints, runs and YAML from a stranger are refused by name; Hydra calls no code."""

from __future__ import annotations

import copy
import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cli import CommandLine
from models import made
from slices.encoders.files import write_file
from slices.training import FineTuneModule
from slices.training.checkpoint_io import AtomicCheckpointIO
from slices.training.data.sources.physionet2012 import files
from slices.training.data.vocabulary import read_yaml
from slices.training.module_checkpoint import load_module
from slices.training.pretrained import read_pretrained
from slices.training.serving.file import load_model, save_model


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def put(held: Any, where: str, value: Any) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in where.split("/")]
    for parent in parents:
        held = held[parent]
    held[last] = value


CHECKPOINTS: dict[str, tuple[str, Any, str]] = {
    "code by an instantiator": ("hyper_parameters/_instantiator", "os.system", "config is not that of a"),
    "another file to load": ("hyper_parameters/checkpoint_path", "/etc/passwd", "config is not that of a"),
    "data to prepare": ("hyper_parameters/config/data", {"source": {"name": "table"}}, "config is not that"),
    "a config to compose": ("hyper_parameters/config/defaults", [{"hydra": "x"}], "config is not that of a"),
    "a target": ("hyper_parameters/config/encoder/_target_", "os.system", "unknown option '_target_'"),
    "an import path": ("hyper_parameters/config/ssl/name", "os.system", "'os.system'"),
    "a giant encoder": ("hyper_parameters/config/encoder/d_model", 10**9, "size above"),
    "a deep encoder": ("hyper_parameters/config/encoder/n_layers", 900, "far more than"),
    "a giant objective": ("hyper_parameters/config/ssl/decoder_layers", 10**9, "size above|unknown option"),
    "no config": ("hyper_parameters", None, "config is not that of a"),
    "a card that is none": ("slices", {"card": {"variables": 3}}, "variables"),
    "a normaliser that is none": ("slices", {"normalizer": {"transforms": ["os.system"]}}, "is not a check"),
    "states that are none": ("state_dict", [1], "its state_dict is not what Lightning writes"),
    "loops that are none": ("loops", "os.system", "its loops is not what Lightning writes"),
    "a step that is none": ("global_step", "ten", "its global_step is not what Lightning writes"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_that_no_run_wrote_are_refused(kind: str, checkpoint: Path) -> None:
    read_pretrained(checkpoint)  # as it was written, it is read
    where, value, reason = CHECKPOINTS[kind]
    held = torch.load(checkpoint, weights_only=True)
    put(held, where, value)
    torch.save(held, checkpoint)
    with pytest.raises(ValueError, match=reason) as error:
        read_pretrained(checkpoint)
    assert str(checkpoint) in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_checkpoints_whose_weights_are_no_numbers_are_refused(value: float, checkpoint: Path) -> None:
    held = torch.load(checkpoint, weights_only=True)
    next(tensor for tensor in held["state_dict"].values()).view(-1)[0] = value
    torch.save(held, checkpoint)
    with pytest.raises(ValueError, match=rf"{checkpoint}.*not finite, 1 of them"):
        read_pretrained(checkpoint)


READERS: dict[str, Callable[[Path], Any]] = {
    "pretrained": read_pretrained,
    "resumed": AtomicCheckpointIO().load_checkpoint,
    "module": lambda path: load_module(FineTuneModule, path),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_code_in_a_checkpoint_is_run(reader: str, checkpoint: Path, tmp_path: Path) -> None:
    held = torch.load(checkpoint, weights_only=True)
    torch.save(held | {"loops": {"fit_loop": Touch(tmp_path / "canary")}}, checkpoint)
    with pytest.raises(ValueError, match=rf"{checkpoint}.*names posix.mkdir"):
        READERS[reader](checkpoint)
    assert not (tmp_path / "canary").exists()


def test_a_module_of_another_kind_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=rf"cannot load {checkpoint}"):
        load_module(FineTuneModule, checkpoint)


def test_a_checkpoint_does_not_say_what_else_is_removed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a.txt").write_text("a")
    (tmp_path / "old.ckpt").write_text("old")
    for name in ("kept", "kept/a.txt", "old.ckpt", "gone.ckpt"):
        AtomicCheckpointIO().remove_checkpoint(tmp_path / name)
    assert (tmp_path / "kept" / "a.txt").exists() and not (tmp_path / "old.ckpt").exists()


MODELS: dict[str, tuple[str, Any, str]] = {
    "a target": ("head/_target_", "os.system", "unknown option '_target_'"),
    "a giant head": ("head/hidden_dims", [10**9], "size above"),
    "a deep head": ("head/hidden_dims", [1] * 9_000, "far more than"),
    "a deep encoder": ("encoder/config/n_layers", 900, "far more than"),
    "a type of task that is none": ("head/task_type", "os.system", "os.system"),
    "NaN as its temperature": ("model/temperature", float("nan"), "holds nan"),
    "infinity in a note": ("model/data", {"x": float("inf")}, "holds inf"),
    "an encoder that is none": ("encoder", "os.system", "cannot load"),
    "no width": ("model/variables", {}, "variables"),
}


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_models_that_nobody_saved_are_refused(
    ending: str, tiny: dict[str, Any], tmp_path: Path, cli: CommandLine
) -> None:
    path = save_model(tmp_path / "good.pt", made(tiny, tmp_path).model)
    for where, value, reason in MODELS.values():
        held = torch.load(path, weights_only=True)
        put(held["header"], where, value)
        hostile = tmp_path / f"hostile.{ending}"
        write_file(hostile, held["header"], held["weights"])
        with pytest.raises(ValueError, match=reason) as error:
            load_model(hostile)
        assert str(hostile) in str(error.value)
    refused(cli("export", f"model={hostile}"), str(hostile))


def test_a_model_with_weights_that_are_no_numbers_is_not_saved(tiny: dict[str, Any], tmp_path: Path) -> None:
    model = made(tiny, tmp_path).model
    next(model.head.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"m\.pt is not written.*not finite"):
        save_model(tmp_path / "m.pt", model)
    assert not (tmp_path / "m.pt").exists()


def laughs(first: str = "[ha, ha]", of_ten: str = "[{}]") -> str:
    """Each line is ten times the one before."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} " + of_ten.format(", ".join([f"*a{i - 1}"] * 10)) for i in range(1, 12)]
    return "\n".join(lines)


YAML = {
    "code": ("hr: !!python/object/apply:os.mkdir [canary]", "cannot be read as YAML"),
    "aliases of aliases": (laughs(), "holds more than 1,000,000 values"),
    "merges of merges": (laughs("{ha: 1}", "{{<<: [{}]}}"), "holds more than 1,000,000 values"),
    "depth": ("a: " + "[" * 50_000, "cannot be read as YAML"),
    "depth of a list": ("- " * 50_000, "nested deeper than 100 levels"),
    "depth of mappings": ("{a: " * 101, "nested deeper than 100 levels"),
    "itself": ("a: &a [*a]", "cannot be read as YAML"),
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml_that_grows_or_calls_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, reason = YAML[kind]
    (tmp_path / "v.yaml").write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        read_yaml("vocabulary", "v.yaml")
    assert "v.yaml" in str(error.value) and not (tmp_path / "canary").exists()


def test_archives_of_stays_are_not_unpacked_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_UNPACKED", 3_000_000)
    with gzip.open(tmp_path / "set-a.tar.gz", "wb") as bomb:
        bomb.write(bytes(10_000_000))
    with zipfile.ZipFile(tmp_path / "set-b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"../{i}.txt", bytes(1_000_000))
    for name in ("set-a.tar.gz", "set-b.zip"):
        with pytest.raises(ValueError, match=rf"{name} unpacks to more than 3,000,000 bytes"):
            files.read_stays(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 2


def test_links_and_paths_in_an_archive_of_stays_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with tarfile.open(tmp_path / "set-a.tar.gz", "w:gz") as tar:
        secret = str(tmp_path / "secret.txt")
        kinds = ((tarfile.SYMTYPE, secret), (tarfile.LNKTYPE, "./1.txt"), (tarfile.FIFOTYPE, ""))
        for number, (kind, target) in enumerate(kinds):
            member = tarfile.TarInfo(f"./{number}.txt")
            member.type, member.linkname = kind, target
            tar.addfile(member)
        stay = tarfile.TarInfo("../../9.txt")
        stay.size = 4
        tar.addfile(stay, io.BytesIO(b"stay"))
    assert files.read_stays(tmp_path / "set-a.tar.gz")[0] == {9: b"stay"}
    assert {path.name for path in tmp_path.iterdir()} == {"secret.txt", "set-a.tar.gz"}


CALL = '{"()": os.mkdir, path: canary}'
HYDRA: dict[str, tuple[list[str], str]] = {
    "a callback": (["+hydra.callbacks.x={_target_: os.mkdir, path: canary}"], "hydra.callbacks.x._target_"),
    "a callback by another name": (
        ["+y={_target_: os.mkdir, path: canary}", "+hydra.callbacks.x=${y}"],
        "hydra.callbacks.x._target_=os.mkdir",
    ),
    "a launcher": (["--multirun", "hydra.launcher._target_=os.mkdir"], "hydra.launcher._target_=os.mkdir"),
    "a sweeper": (["--multirun", "hydra.sweeper._target_=os.mkdir"], "hydra.sweeper._target_=os.mkdir"),
    "a sampler": (
        ["--multirun", "hydra/sweeper=optuna", "hydra.sweeper.sampler._target_=os.mkdir"],
        "hydra.sweeper.sampler._target_=os.mkdir",
    ),
    "a module that a plugin imports": (
        ["--multirun", "hydra/sweeper=optuna", "hydra.sweeper.sampler._target_=optuna.samplers.os.mkdir"],
        "optuna.samplers.os.mkdir names code",
    ),
    "a space to search": (
        ["--multirun", "hydra/sweeper=optuna", "hydra.sweeper.custom_search_space=os.mkdir"],
        "hydra.sweeper.custom_search_space=os.mkdir",
    ),
    "a class of a log": (["hydra.job_logging.handlers.console.class=os.mkdir"], "console.class=os.mkdir"),
    "a queue of a log": (
        ["hydra.job_logging.handlers.console.class=logging.handlers.QueueHandler"],
        "QueueHandler names code",
    ),
    "a stream of a log": (["hydra.job_logging.handlers.console.stream=ext://this"], "stream=ext://this"),
    "a stream by another name": (
        ["+y=this", "hydra.job_logging.handlers.console.stream=ext://${y}"],
        "stream=ext://this",
    ),
    "a package": (["hydra.searchpath=[pkg://this]"], "pkg://this"),
    "a package, escaped": ([r"hydra.searchpath=[pkg\://this]"], "pkg://this"),
    "a package for its path": (["--config-path=pkg://this"], "pkg://this"),
    "a pickle": (["--experimental-rerun=job.pickle"], "--experimental-rerun reads a pickle"),
    "a YAML of one's own": (["--config-dir=conf", "+experiment=call"], r"x.()=os.mkdir"),
    "a YAML that a sweep chooses": (
        ["--config-dir=conf", "--multirun", "+experiment=call,none", "hydra.sweep.dir=sweep"],
        "x.()=os.mkdir",
    ),
    "a package in the jobs of a sweep": (
        ["--config-dir=conf", "+experiment=jobs", "hydra.sweep.dir=sweep"],
        "pkg://this",
    ),
    "a main config of one's own": (["--config-path={folder}/conf", "--config-name=main"], "pkg://this"),
}


@pytest.mark.parametrize("kind", HYDRA)
def test_hydra_calls_no_code_that_is_named(kind: str, tmp_path: Path, cli: CommandLine) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    handlers = f"# @package _global_\nhydra: {{job_logging: {{handlers: {{x: {CALL}}}}}}}\n"
    (tmp_path / "conf" / "experiment" / "call.yaml").write_text(handlers)
    (tmp_path / "conf" / "experiment" / "none.yaml").write_text("# @package _global_\n")
    jobs = "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {hydra.searchpath: '[pkg://this]'}}}\n"
    (tmp_path / "conf" / "experiment" / "jobs.yaml").write_text(jobs)
    (tmp_path / "conf" / "main.yaml").write_text("hydra: {searchpath: ['pkg://this']}\n")
    words, reason = HYDRA[kind]
    done = cli("pretrain", *(word.replace("{folder}", str(tmp_path)) for word in words))
    assert done.status == 2 and reason in done.err and "Traceback" not in done.err, done.err
    assert not (tmp_path / "canary").exists() and not (tmp_path / "outputs").exists()


def test_what_hydra_is_used_for_still_works(on_tiny: list[str], tmp_path: Path, cli: CommandLine) -> None:
    for words in (["hydra/job_logging=default"], ["hydra/job_logging=stdout"], ["hydra.job.chdir=false"]):
        done = cli("prepare", on_tiny[0], on_tiny[1], "hydra.run.dir=run", *words)
        assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("labels: ${oc.env:HOME}", "no run writes ${oc.env:HOME}"),
        ("x: !!python/object/apply:os.mkdir [canary]", "is no YAML of a run"),
        (laughs(), "is no YAML of a run"),
        ("[labels]", "it holds no dict"),
    ],
)
def test_a_config_that_no_run_wrote_is_not_resumed(
    text: str, reason: str, tmp_path: Path, cli: CommandLine
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(text)
    (tmp_path / "run" / "overrides.yaml").write_text("[]")
    refused(cli("pretrain", "resume=run"), "run/config.yaml", reason)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{a: b}", "it holds no list"),
        ("- {a: b}", "{'a': 'b'} is nothing that was typed"),
        ("- ${slices.folder:canary}", "checkpoints"),  # taken as it is
        (laughs(), "is no YAML of a run"),
    ],
)
def test_words_that_nobody_typed_are_not_resumed(
    text: str, reason: str, tmp_path: Path, cli: CommandLine
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("{}")
    (tmp_path / "run" / "overrides.yaml").write_text(text)
    refused(cli("pretrain", "resume=run"), "run/", reason)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{app: pretrain, outcome: complete, earlier: []}", "it has no overrides"),
        ("{app: [pretrain], outcome: complete, earlier: []}", "app: expected str"),
        (laughs(), "is damaged"),
        ("&a [*a]", "is damaged"),
        ("- " * 50_000, "nested deeper than 100 levels"),
    ],
)
def test_a_record_that_no_run_wrote_is_not_replayed(
    text: str, reason: str, tmp_path: Path, cli: CommandLine
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.yaml").write_text(text)
    refused(cli("replay", "run"), "run/record.yaml", reason)


@pytest.mark.slow
def test_states_that_no_run_wrote_are_not_resumed(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    assert cli("pretrain", *on_tiny, "encoder=gru", "encoder.d_model=8", "hydra.run.dir=run").status == 0
    config, last = tmp_path / "run" / "config.yaml", tmp_path / "run" / "checkpoints" / "last.ckpt"
    config.write_text(config.read_text().replace("max_epochs: 1", "max_epochs: 2"))
    held = torch.load(last, weights_only=True)
    for where, value in (
        ("loops/fit_loop/epoch_progress", "ten"),
        ("loops/fit_loop/epoch_progress", {"total": {"ready": "ten"}}),
        ("loops/fit_loop/epoch_loop.batch_progress", "os.system"),
        ("slices/means", {"names": [["train/loss"]], "sums": [["ten"]]}),
        ("optimizer_states/0/state/0/exp_avg", torch.zeros(2)),
    ):
        hostile = copy.deepcopy(held)
        put(hostile, where, value)
        torch.save(hostile, last)
        refused(cli("pretrain", "resume=run"), "run/checkpoints/last.ckpt", "cannot resume from")


def refused(done: Any, *said: str) -> None:
    assert done.status == 2 and "Traceback" not in done.err, done.err
    assert all(words in done.err for words in said), done.err
