"""Each wheel holds its part and no more, and works where nothing else of ours is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("isolated", Path(__file__).with_name("isolated.py"))
assert spec is not None and spec.loader is not None
isolated = importlib.util.module_from_spec(spec)
spec.loader.exec_module(isolated)

ALONE = {
    "slices-encoders": """
import torch
from slices.encoders import build_encoder, list_encoders
x = torch.randn(2, 5, 8)
for name in list_encoders():
    assert build_encoder(name, {"d_input": 8, "d_model": 16})(x).shape == (2, 16), name
""",
    "slices-ssl": """
import torch
from torch import nn
from slices.ssl import build_ssl_objective, list_objectives
class Mine(nn.Module):
    output_dim = 16
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True)
    def forward(self, x, mask):
        return self.gru(x)[0]
for name in list_objectives():
    own = {"parts": {"mae": {}, "vicreg": {}}} if name == "sum" else {}
    objective = build_ssl_objective(Mine(), {"name": name, "d_input": 8, **own})
    loss, _ = objective(torch.randn(4, 12, 8), torch.rand(4, 12, 8) > 0.3)
    loss.backward()
    assert loss.isfinite(), name
""",
    "slices-heads": """
import torch
from slices.heads import build_task_head, list_heads
for name in list_heads():
    head = build_task_head({"name": name, "task_type": "binary", "input_dim": 8})
    embedding = torch.randn(3, 5, 8) if head.pools_steps else torch.randn(3, 8)
    assert head(embedding)["probs"].shape == (3, 2), name
""",
}
OTHERS = ["lightning", "hydra", "omegaconf", "torchmetrics", "numpy", "slices.training"]


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def requirements(wheel: Path) -> dict[str, Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist", [])
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


@pytest.mark.parametrize("package", ["slices-encoders", "slices-ssl", "slices-heads", "slices-training"])
def test_a_wheel_holds_only_its_part_of_the_namespace(wheels: dict[str, Path], package: str) -> None:
    part = f"slices/{package.removeprefix('slices-')}/"
    held = {name for name in files(wheels[package]) if ".dist-info/" not in name}
    assert held and all(name.startswith(part) for name in held)  # so there is no slices/__init__.py either
    assert f"{part}py.typed" in held


def test_configs_travel_with_slices_training(wheels: dict[str, Path]) -> None:
    inside = "slices/training/conf/"
    shipped = {name.removeprefix(inside) for name in files(wheels["slices-training"]) if inside in name}
    assert shipped == {str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").rglob("*.yaml")}


@pytest.mark.parametrize("package", sorted(ALONE))
def test_a_package_works_alone(tmp_path: Path, wheels: dict[str, Path], package: str) -> None:
    needed = {name: wanted for name, wanted in requirements(wheels[package]).items() if wanted.marker is None}
    assert set(needed) <= {"torch", "jaxtyping", "safetensors", "einops"}
    python = isolated.isolated_python(tmp_path / "env", list(needed), [wheels[package]])
    siblings = [name.replace("-", ".") for name in ALONE if name != package]
    absent = f"""
import importlib.util
def there(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
assert not [module for module in {OTHERS + siblings} if there(module)]
"""
    subprocess.run([str(python), "-I", "-c", absent + ALONE[package]], check=True, cwd=tmp_path)


BAG = """
import torch
from slices.encoders import build_encoder, from_pretrained, list_encoders, save_pretrained
from slices.encoders import load_encoder, save_encoder
assert "bag" in list_encoders("b*")
bag = build_encoder("bag", {"d_input": 8, "hidden_size": 4}).eval()
x, mask = torch.randn(2, 5, 8), torch.rand(2, 5, 8) < 0.5
assert bag(x, mask).shape == (2, 64) and bag.encode(x, mask).embedding.shape == (2, 1, 64)
file, folder = save_encoder("bag.pt", bag), save_pretrained("bag", bag)
for loaded in (load_encoder(file), from_pretrained(folder)):
    assert torch.equal(loaded.encoder(x, mask), bag(x, mask))
assert "bag" in bag.describe()
"""


@pytest.mark.slow
def test_an_architecture_of_a_third_party_takes_one_class_and_one_entry_point(
    tmp_path: Path, wheels: dict[str, Path]
) -> None:
    example = tmp_path / "example"
    shutil.copytree(ROOT / "examples" / "slices-bag", example)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=example, check=True, capture_output=True)
    (bag,) = tmp_path.glob("slices_bag-*.whl")
    ours = wheels["slices-encoders"]
    python = isolated.isolated_python(tmp_path / "env", ["torch", "jaxtyping", "safetensors"], [ours, bag])
    subprocess.run([str(python), "-I", "-c", BAG], check=True, cwd=tmp_path)


@pytest.fixture
def installed(tmp_path: Path, wheels: dict[str, Path]) -> Path:
    """The pretraining command where all four wheels, and what they require, are installed."""
    needed = [wanted for wheel in wheels.values() for wanted in requirements(wheel).values()]
    third_party = {wanted.name for wanted in needed if wanted.marker is None}
    third_party -= set(wheels)
    python: Path = isolated.isolated_python(tmp_path / "env", sorted(third_party), list(wheels.values()))
    return python.with_name("slices-pretrain")


def test_the_installed_commands_work_with_no_checkout(tmp_path: Path, installed: Path) -> None:
    """One tiny pretraining, and the config of every other app."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def typed(script: str, *words: str) -> str:
        command = [str(installed.with_name(script)), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=own)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for app in ("prepare", "finetune", "benchmark"):
        assert "n_stays: 60" in typed(f"slices-{app}", "--cfg", "job", "data.source.n_stays=60")
    assert "n_stays: 60" in typed("slices", "pretrain", "--cfg", "job", "data.source.n_stays=60")
    assert "data=synthetic" in typed("slices", "list", "sources")
    tiny = ["data.source.n_stays=60", "data.resolution=4", "training.max_epochs=1"]
    printed = typed("slices-pretrain", *tiny, "ssl=jepa", "encoder=gru", "encoder.d_model=8")
    assert (tmp_path / "outputs" / "encoder.pt").is_file()
    assert "next: slices-finetune data.source.n_stays=60" in printed
