"""The shapes written in the signatures are those that go in and come out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from jaxtyping import install_import_hook
with install_import_hook("slices.encoders", "beartype.beartype"):
    import slices.encoders as e
from conftest import make_stays

stays = make_stays()
for name in e.list_encoders():
    refused = e.ENCODER_CONFIG_REGISTRY.find(name).refused_poolings
    for pooling in {"none", "attention", "last", "max", "mean"} - refused.keys():
        config = {"d_input": 5, "d_model": 8, "static_columns": [0], "pooling": pooling}
        encoder = e.build_encoder(name, config)
        encoder(**stays)
        encoder(stays["x"])
causal = e.TransformerEncoder(e.TransformerConfig(d_input=5, pooling="none", causal=True))
cls = e.TransformerEncoder(e.TransformerConfig(d_input=5, pooling="cls"))
assert causal(**stays).ndim == 3 and cls(**stays).ndim == 2
normalizer = e.Normalizer(["log"] * 5, [0.0] * 5, [1.0] * 5)
normalizer.inverse(normalizer(stays["x"], stays["mask"]))
try:
    causal(stays["x"], stays["mask"][..., 0])
except Exception as error:
    assert "jaxtyping" in type(error).__module__, error
else:
    raise AssertionError("shapes are not checked")
"""


@pytest.mark.slow
def test_signatures_tell_the_truth() -> None:
    # In a process of its own: the checks must be there before the first import, and only there.
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
