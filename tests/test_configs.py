"""``configs/`` says what the dataclasses say, and nothing that nobody reads."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from cli import CommandLine
from inline import Inline
from slices.encoders import ENCODER_CONFIG_REGISTRY, GRUDConfig, LinearConfig, build_encoder
from slices.ssl import build_ssl_objective
from slices.ssl.factory import CONFIG_REGISTRY
from slices.training import optim
from slices.training.baseline.config import BaselineConfig, BlendConfig
from slices.training.benchmark.config import BenchmarkConfig
from slices.training.compose import compose_app, composed
from slices.training.config import (
    DescribeConfig,
    FineTuneConfig,
    FineTuningConfig,
    PrepareConfig,
    PretrainConfig,
    PretrainingConfig,
    ReplayConfig,
    TaskConfig,
    plain,
)
from slices.training.data.config import DataConfig
from slices.training.data.sources.base import SOURCE_CONFIG_REGISTRY
from slices.training.evaluation.report import EvaluateConfig
from slices.training.looking.config import LookConfig
from slices.training.optim import OPTIMIZER_REGISTRY, SCHEDULER_REGISTRY
from slices.training.serving.config import EmbedConfig, ExportConfig, PredictConfig

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
APPS: dict[str, Any] = {
    "prepare": PrepareConfig,
    "describe": DescribeConfig,
    "pretrain": PretrainConfig,
    "finetune": FineTuneConfig,
    "replay": ReplayConfig,
    "baseline": BaselineConfig,
    "blend": BlendConfig,
    "benchmark": BenchmarkConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "embed": EmbedConfig,
    "export": ExportConfig,
    "look": LookConfig,
}
EMPTY = {"checkpoint", "none"}  # files that stand for "nothing chosen"
FROM_THE_RUN = {"batch_size", "dataset_dir", "encoder_path", "checkpoint_path"}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if path.stem not in EMPTY)


def read(group: str, name: str) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{name}.yaml"), resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


COMPONENTS: list[tuple[str, Any]] = [
    ("encoder", ENCODER_CONFIG_REGISTRY),
    ("ssl", CONFIG_REGISTRY),
    ("optimizer", OPTIMIZER_REGISTRY),
    ("scheduler", SCHEDULER_REGISTRY),
]


SIZES = [name for name in options("encoder") if name.endswith("_large")]


@pytest.mark.parametrize("name", SIZES)
def test_a_size_states_every_option_and_its_parameters(name: str) -> None:
    written = read("encoder", name)
    encoder = build_encoder(written["name"], written | {"d_input": 35})
    assert name == f"{written['name']}_large"
    assert written.keys() - {"name"} == plain(encoder.config).keys()
    millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    first, *_ = (CONFIGS / "encoder" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert first == f"# {millions:.1f} million parameters with 35 variables"


@pytest.mark.parametrize(
    ("group", "registry", "name"),
    [
        (group, registry, name)
        for group, registry in COMPONENTS
        for name in options(group)
        if name not in SIZES
    ],
)
def test_a_component_file_states_the_dataclass(group: str, registry: Any, name: str) -> None:
    written = read(group, name)
    assert written.pop("name") == name
    stated = plain(registry.find(name)())
    stated.pop("name", None)
    assert written == stated


@pytest.mark.parametrize("group", ["encoder", "ssl", "optimizer", "scheduler"])
def test_every_component_has_a_file(group: str) -> None:
    assert set(options(group)) >= set(dict(COMPONENTS)[group])


@pytest.mark.parametrize("name", options("data"))
def test_a_data_file_states_the_dataclass(name: str) -> None:
    written = read("data", name)
    assert written["source"] == {"name": name, **plain(SOURCE_CONFIG_REGISTRY.find(name)())}
    stated = plain(DataConfig(source={"name": name}, dataset_dir="anywhere"))
    for key in set(stated) - FROM_THE_RUN - {"source"}:
        assert written[key] == stated[key], key
    assert written.keys() == stated.keys()


@pytest.mark.parametrize("name", options("task"))
def test_a_task_file_states_every_option(name: str) -> None:
    written = read("task", name)
    assert written["task_name"] == (name if name != "from_data" else "???")
    assert written.keys() == {part.name for part in dataclasses.fields(TaskConfig)}
    own = {"task_name", "task_type", "per_step"}
    stated = plain(TaskConfig())
    assert {key: written[key] for key in written if key not in own} == {
        key: stated[key] for key in stated if key not in own
    }


@pytest.mark.parametrize("app", sorted(APPS))
def test_an_app_file_states_every_section(app: str) -> None:
    config = composed(OmegaConf.load(CONFIGS / f"{app}.yaml"), app)  # type: ignore[arg-type]
    assert config.keys() == {part.name for part in dataclasses.fields(APPS[app])}
    APPS[app].parse(config)


def config_classes() -> list[type]:
    components = [config for _, registry in COMPONENTS for config in registry.values()]
    sections = [part for app in APPS.values() for part in _nested(app)]
    return sorted({*components, *sections}, key=lambda cls: cls.__name__)


def _nested(cls: Any) -> set[type]:
    import typing

    found = {cls}
    for hint in typing.get_type_hints(cls).values():
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                found |= _nested(part)
    return found


# what the composed config hands on by interpolation, or the app takes before the config is parsed
ELSEWHERE = {
    PretrainingConfig: {"max_epochs", "batch_size"},
    FineTuningConfig: {"max_epochs", "batch_size", "lora_alpha", "lora_layers"},  # test_adaptation.py
    PretrainConfig: {"resume"},
    FineTuneConfig: {"resume"},
    TaskConfig: {"interval_ends"},  # of survival tasks: test_survival_task.py
    LinearConfig: {"n_layers"},  # shared with all encoders; only checked to be 1
    GRUDConfig: {"n_layers"},
}
# who reads options without doing anything by them: checks, copies, comparisons
IDLE = {"__post_init__", "plain", "_differences", "__eq__", "__repr__", "data_of"}


def idle(frame: Any) -> bool:
    """Is an option read there for its own sake only?"""
    for _ in range(4):
        if frame is None or frame.f_globals.get("__name__") == "dataclasses" or frame.f_code.co_name in IDLE:
            return frame is not None
        frame = frame.f_back
    return False


@pytest.fixture
def options_read(monkeypatch: pytest.MonkeyPatch) -> dict[type, set[str]]:
    """Which options of each class of configs are read, from here on."""
    found: dict[type, set[str]] = {cls: set() for cls in config_classes()}

    def noting(self: Any, name: str) -> Any:
        if not name.startswith("_") and not idle(sys._getframe(1)):
            for cls in type(self).__mro__:
                found.get(cls, set()).add(name)
        return object.__getattribute__(self, name)

    for cls in found:
        monkeypatch.setattr(cls, "__getattribute__", noting)
    return found


def use_encoders() -> None:
    x, mask = torch.randn(2, 4, 5), torch.ones(2, 4, 5, dtype=torch.bool)
    for name, config in ENCODER_CONFIG_REGISTRY.items():
        build_encoder(name, config(d_input=5, d_model=8)).encode(x, mask)


def use_objectives() -> None:
    x, mask = torch.randn(4, 8, 5), torch.ones(4, 8, 5, dtype=torch.bool)
    modes: list[dict[str, Any]] = [{"name": name} for name in CONFIG_REGISTRY if name != "sum"]
    modes += [{"name": "sum", "parts": {"mae": {}, "vicreg": {"weight": 0.1}}}]
    modes += [{"name": "mae", "mask_mode": "block"}, {"name": "mae", "presence_weight": 0.1}]
    modes += [{"name": "contrastive", "mode": "temporal"}]
    for mode in modes:
        encoder = build_encoder("linear", {"d_input": 5, "d_model": 8})
        objective = build_ssl_objective(encoder, CONFIG_REGISTRY.find(mode["name"])(**mode))
        objective(x, mask, draw=objective.draw(x, mask))
        objective.on_optimizer_step(1, 2)


def use_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    class Length:
        epochs, steps_per_epoch, validates = 4, 2, True

        def __init__(self, module: Any) -> None: ...

    monkeypatch.setattr(optim, "Length", Length)
    module: Any = torch.nn.Linear(1, 1)
    for optimizer in OPTIMIZER_REGISTRY.values():
        optim.optimizer_and_schedule(module, optimizer(), None)  # type: ignore[call-arg]
    for scheduler in SCHEDULER_REGISTRY.values():
        optim.optimizer_and_schedule(module, optim.AdamWConfig(), scheduler())  # type: ignore[call-arg]
    monkeypatch.undo()


@pytest.mark.slow
def test_every_option_has_an_effect(
    options_read: dict[type, set[str]], cli: CommandLine, on_tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read by somebody while components are built and used and apps run; a check is not a use."""
    use_encoders()
    use_objectives()
    with pytest.MonkeyPatch.context() as patch:
        use_schedules(patch)
    monkeypatch.setattr("slices.training.workers.ProcessPoolExecutor", Inline)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # the worker is this process
    data = [word for word in on_tiny if not word.startswith("training.")]
    folds = ["data.splits.n_folds=3"]
    windows = ["+data.window.length=24", "+data.window.stride=12", "+data.window.random=true"]
    watched = ["watch.task=length_of_stay_class"]
    small = [
        "encoders=[linear]",
        "objectives=[mae]",
        "baselines=[logistic_regression]",
        "label_fractions=[1.0]",
        "draws=[1]",
        "data.splits.n_folds=null",
    ]
    once = ["+pretrain.all.training.max_epochs=1", "+finetune.all.training.max_epochs=1"]
    stays = [word for word in data if word.startswith(("data.dataset_dir", "data.source"))]
    pretrained, finetuned, dataset = "pretrained", "finetuned", data[0].removeprefix("data.dataset_dir=")
    for app, typed in (
        ("prepare", data),
        ("describe", data),
        (
            "pretrain",
            [
                *on_tiny,
                *folds,
                *windows,
                *watched,
                "encoder=linear",
                "encoder.d_model=8",
                f"hydra.run.dir={pretrained}",
            ],
        ),
        ("finetune", [*on_tiny, *folds, "data.label_fraction=0.5", f"hydra.run.dir={finetuned}"]),
        ("benchmark", [*data, *small, *once]),
        ("baseline", [*data, "tune=false", "hydra.run.dir=baseline"]),
        ("blend", [f"predictions=[{finetuned},baseline]", "hydra.run.dir=blend"]),
        ("evaluate", [f"predictions=[{finetuned}]", f"groups={dataset}", "n_resamples=20"]),
        ("predict", [f"model={finetuned}", *stays]),
        ("embed", [f"model={finetuned}", *stays]),
        ("export", [f"model={finetuned}"]),
        ("replay", [f"run={finetuned}"]),
        ("look", [f"run={pretrained}", "n_stays=1"]),
    ):
        done = cli(app, *typed)
        assert done.status == 0, done.err
    unread = {
        cls.__name__: left
        for cls, found in options_read.items()
        if (
            left := {part.name for part in dataclasses.fields(cls)}
            - found
            - ELSEWHERE.get(cls, set())
            - {"name"}
        )
    }
    assert not unread


@pytest.mark.parametrize("app", ["pretrain", "finetune"])
def test_what_is_handed_on_arrives(app: str) -> None:
    config = composed(compose_app(app, ["training.max_epochs=7", "training.batch_size=9"]), app)
    assert config["trainer"]["max_epochs"] == 7 and config["data"]["batch_size"] == 9
