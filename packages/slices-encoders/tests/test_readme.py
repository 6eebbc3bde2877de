"""The README's examples run from top to bottom, and the package brings in nothing it should not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slices.encoders import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY, build_encoder, list_encoders

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}
    try:
        exec(compile("\n".join(blocks), str(README), "exec", dont_inherit=True), names)
    finally:
        ENCODER_REGISTRY.pop("bag", None)
        ENCODER_CONFIG_REGISTRY.pop("bag", None)
    assert names["embeddings"].shape == (8, 48, 64)
    assert names["embedding"].shape == (1, 64) and names["embedding"].isfinite().all()
    assert names["tokens"].variable.tolist() == [[-2]] * 8


def test_the_parameters_are_those_stated() -> None:
    """Of every encoder, for 35 variables."""
    stated: dict[str, int] = {}
    for line in README.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `") and re.search(r"\d,\d{3}", line):
            _, names, _, counts, *_ = line.split("|")
            numbers = [int(number.replace(",", "")) for number in counts.split(", ")]
            stated |= dict(zip(re.findall(r"`(\w+)`", names), numbers, strict=True))
    built = {name: build_encoder(name, {"d_input": 35}) for name in list_encoders()}
    assert stated == {name: sum(p.numel() for p in encoder.parameters()) for name, encoder in built.items()}


def test_it_needs_no_more_than_it_says() -> None:
    # What torch itself may bring in (numpy, for one) is blocked, so that a hidden need shows.
    others = ["slices.ssl", "slices.heads", "slices.training", "lightning", "hydra", "omegaconf", "numpy"]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({others}))
import tempfile
from slices.encoders import Normalizer, build_encoder, load_encoder, save_encoder
for ending in ("pt", "safetensors"):
    with tempfile.TemporaryDirectory() as folder:
        encoder = build_encoder("gru", {{"d_input": 1}})
        load_encoder(save_encoder(f"{{folder}}/e.{{ending}}", encoder, Normalizer(["log"], [0.0], [1.0])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
