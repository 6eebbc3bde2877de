"""The YAML presets say what the dataclasses say."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from slices.encoders.registry import make_config
from slices.training.data import DataConfig
from slices.training.data.sources import SOURCE_CONFIG_REGISTRY

CONFIGS = Path(__file__).resolve().parents[4] / "configs" / "data"


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="not in a checkout")
@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_a_preset_states_every_default(name: str) -> None:
    preset = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"), resolve=True)
    assert isinstance(preset, dict) and preset["source"]["name"] == name
    given = make_config(DataConfig, preset, "data")
    assert given == DataConfig(source=preset["source"], dataset_dir=preset["dataset_dir"])
    assert set(preset) == set(DataConfig.__dataclass_fields__)
    assert set(preset["splits"]) == set(type(given.splits).__dataclass_fields__)
    assert given.build_source().config == SOURCE_CONFIG_REGISTRY.find(name)()
    assert set(preset["source"]) - {"name"} == set(SOURCE_CONFIG_REGISTRY.find(name).__dataclass_fields__)
