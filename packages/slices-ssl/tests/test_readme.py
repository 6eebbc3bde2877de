"""The README's examples run, top to bottom, and the package stands alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import torch

from slices.ssl import CONFIG_REGISTRY, SSL_REGISTRY

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    torch.manual_seed(0)
    try:
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    finally:
        SSL_REGISTRY.pop("forecast_mean", None)
        CONFIG_REGISTRY.pop("forecast_mean", None)
    printed = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert printed[-1] < printed[0]


def test_importing_it_brings_in_no_other_part():
    code = "import sys, slices.ssl; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    others = ["slices.encoders", "slices.heads", "slices.training", "lightning", "hydra", "omegaconf"]
    shown = subprocess.run([sys.executable, "-c", code, *others], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
