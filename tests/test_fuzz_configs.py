"""Whatever is asked for, a run is done or refused by an error of ours, before anything is lost."""

from __future__ import annotations

import copy
import importlib
import math
import resource
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hypothesis import given, note
from hypothesis import strategies as st
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fuzzing import examples, is_ours
from slices.training.baseline.config import BaselineConfig, BlendConfig
from slices.training.benchmark.config import BenchmarkConfig
from slices.training.compose import compose_app, config_dir, options
from slices.training.config import DescribeConfig, PrepareConfig
from slices.training.errors import FailedRun, UserError
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.serving.config import EmbedConfig, ExportConfig, PredictConfig

SHORT = ["data.source.n_stays=60", "data.dataset_dir=ds", "data.resolution=8", "training.batch_size=16"]
# an epoch of one batch, however many epochs are asked for
ENDS = {"limit_train_batches": 1, "limit_val_batches": 1, "max_time": {"seconds": 2}, "accelerator": "cpu"}
SPAWNS = ("devices", "num_nodes", "strategy")  # of the trainer: other processes would run this file
PARSED: dict[str, Any] = {
    "prepare": PrepareConfig,
    "describe": DescribeConfig,
    "baseline": BaselineConfig,
    "blend": BlendConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "embed": EmbedConfig,
    "export": ExportConfig,
    "benchmark": BenchmarkConfig,
}
WRITTEN = {"pretrain": "encoder.pt", "finetune": "model.safetensors"}
COMPILES = "compile"
SMALL = {"encoder": "linear", "ssl": "mae", "optimizer": "adamw", "scheduler": "warmup_cosine"}
HUGE = [10**9, 10**12, 2**62, 10**30]
WHOLE = [-1, 0, 1, 2, 3, 7, *HUGE]
REAL = [-1.0, 0.0, 1e-12, 0.3, 0.999, 1.0, 1.5, 100.0, 1e30, 1e300, math.inf, -math.inf, math.nan]
WORDS = ["", " ", "x", "null", "ü☃", "../x", "a/b", "mean", "none", "last", "attention", "block", "variable"]
WORDS += ["timestamps", "observations", "huber", "focal", "regression", "survival", "mortality", "train/loss"]
LISTS: list[Any] = [[], [0], [1, 2, 3], [-1], [0.5], [math.nan], ["x"], [None], [[1]], [0, 0]]
OTHERS: list[Any] = [None, True, False, "${seed}", "${nowhere}", "???", {}, {"x": 1}, {"name": "x"}, {1: 2}]
ANYTHING = st.sampled_from([*WHOLE, *REAL, *WORDS, *LISTS, *OTHERS]) | st.integers() | st.floats() | st.text()


def like(value: Any) -> st.SearchStrategy[Any]:
    """Values of about the kind of this one, to get further than one of another kind would."""
    kinds: dict[type, list[Any]] = {
        bool: [True, False, None],
        int: WHOLE,
        float: [*REAL, *WHOLE],
        list: LISTS,
    }
    kinds |= {str: WORDS, type(None): [*WHOLE, *REAL, *WORDS, *LISTS]}
    return st.sampled_from(kinds.get(type(value), OTHERS))


@st.composite
def asked(draw: st.DrawFn, app: str, *, varied: bool) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Options of groups as typed, and the composed config with up to three changes."""
    groups = dict(SMALL)
    if app == "finetune":
        groups |= {"task": draw(st.sampled_from([t for t in options("task") if t != "from_data"]))}
        groups["encoder"] = "checkpoint"
        del groups["ssl"]
    if varied:
        for group in sorted(groups.keys() - {"task"}):
            groups[group] = draw(st.sampled_from([o for o in options(group) if not o.endswith("_large")]))
        if app == "pretrain" and groups["encoder"] == "checkpoint":
            groups["encoder"] = "gru"
    typed = tuple(f"{group}={option}" for group, option in groups.items())
    config = copy.deepcopy(composed(app, typed))
    for _ in range(draw(st.integers(1, 3))):
        draw(changes(config))
    return typed, config


@cache
def composed(app: str, typed: tuple[str, ...]) -> Any:
    own = [*SHORT, "training.max_epochs=1"] if app in WRITTEN else []
    if app == "finetune":
        scratch = ["checkpoint_path=null", "training.freeze_encoder=false"]
        own += ["checkpoint_path=encoder.pt"] if "encoder=checkpoint" in typed else scratch
    return OmegaConf.to_container(compose_app(app, [*typed, *own]), resolve=False)


@st.composite
def changes(draw: st.DrawFn, config: dict[str, Any]) -> None:
    """One of a config, made in place: a value replaced, a key dropped, misspelt or added."""
    places = list(walk(config))
    leaves = [(inside, key) for inside, key in places if not isinstance(inside[key], dict)]
    inside, key = draw(st.sampled_from(places if draw(st.integers(0, 4)) == 0 else leaves))
    kind = draw(st.sampled_from(["replace"] * 7 + ["drop", "misspell", "add"]))
    if kind == "replace":
        inside[key] = copy.deepcopy(draw(st.one_of(like(inside[key]), like(inside[key]), ANYTHING)))
    elif kind == "add":
        inside["new"] = copy.deepcopy(draw(ANYTHING))
    else:
        was = inside.pop(key)
        if kind == "misspell":
            inside[f"{key}x"] = was


def walk(config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each mapping with each of its keys, but those that start other processes."""
    for key, value in config.items():
        if key not in (*SPAWNS, COMPILES):
            yield config, key
        if isinstance(value, dict):
            yield from walk(value)


@pytest.fixture(scope="module", autouse=True)
def bounded() -> Iterator[None]:
    """What would take more memory than this is refused by the system, and not by ending this process."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if (statm := Path("/proc/self/statm")).exists():
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 4 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run in, with a dataset and a pretrained encoder."""
    folder = tmp_path_factory.mktemp("asked")
    before = HydraConfig.instance().cfg
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("pretrain", OmegaConf.create(composed("pretrain", ("encoder=gru", "encoder.d_model=8"))))
        shutil.copy("run/encoder.pt", "encoder.pt")
        yield folder
    HydraConfig.instance().cfg = before


def run(app: str, config: Any) -> float:
    """The app itself, called as Hydra would call it, in the folder ``run``."""
    shutil.rmtree("run", ignore_errors=True)
    Path("run").mkdir()
    HydraConfig.instance().set_config(of_hydra(app))
    result: float = getattr(importlib.import_module(f"slices.training.apps.{app}"), app)(config)
    return result


@cache
def of_hydra(app: str) -> Any:
    """What Hydra tells an app of the run."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        full = compose(app, return_hydra_config=True)
    OmegaConf.set_readonly(full.hydra, False)
    with open_dict(full):
        full.hydra.runtime.output_dir = "run"
    return full


def done_or_refused(app: str, typed: tuple[str, ...], config: dict[str, Any]) -> None:
    note(f"{app} {' '.join(typed)}")
    if isinstance(trainer := config.get("trainer"), dict):
        trainer |= ENDS | {"devices": 1}
    try:
        score = run(app, OmegaConf.create(config))
    except (UserError, FailedRun) as error:
        translated = str(error).startswith(("trainer: ", "there is not enough memory"))
        assert translated or is_ours(error), error
    except (OmegaConfBaseException, MisconfigurationException) as error:  # said in one line by ``launch``
        assert is_ours(error) or "not available" in str(error)
    else:
        assert (
            isinstance(score, float)
            and Path("run/encoder.pt" if app == "pretrain" else "run/model.safetensors").is_file()
        )


@pytest.mark.parametrize("app", ["pretrain", "finetune"])
def test_a_run_is_done_or_refused(app: str, workplace: Path) -> None:
    @examples(10)
    @given(asked(app, varied=False))
    def some(what: Any) -> None:
        done_or_refused(app, *what)

    some()


@pytest.mark.parametrize("app", PARSED)
def test_the_config_of_an_app_is_taken_or_refused(app: str, workplace: Path) -> None:
    @examples(15)
    @given(st.data())
    def some(data: Any) -> None:
        config = copy.deepcopy(composed(app, ()))
        for _ in range(data.draw(st.integers(1, 3))):
            data.draw(changes(config))
        try:
            PARSED[app].parse(OmegaConf.create(config))
        except (ValueError, TypeError, OSError, OmegaConfBaseException) as error:
            assert is_ours(error), error

    some()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("app", ["pretrain", "finetune"])
def test_many_runs_are_done_or_refused(app: str, workplace: Path) -> None:
    @examples(1000)
    @given(asked(app, varied=True))
    def many(what: Any) -> None:
        done_or_refused(app, *what)

    many()
