"""The README's examples run, top to bottom, and the package stands alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from slices.heads import TASK_HEAD_REGISTRY

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    finally:
        TASK_HEAD_REGISTRY.pop("normed", None)
    assert names["loss"].isfinite() and names["total"].isfinite()
    assert names["head"](names["embedding"])["probs"].shape == (8, 4)


def test_importing_it_brings_in_no_other_part():
    code = "import sys, slices.heads; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    others = [
        "slices.encoders",
        "slices.ssl",
        "slices.training",
        "lightning",
        "hydra",
        "omegaconf",
        "torchmetrics",
    ]
    shown = subprocess.run([sys.executable, "-c", code, *others], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
