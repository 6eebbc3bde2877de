"""A benchmark's config, from what would be typed."""

from __future__ import annotations

from hydra import compose, initialize_config_dir

from slices.training.benchmark.config import BenchmarkConfig
from slices.training.compose import composed, config_dir


def config_of(arguments: list[str]) -> BenchmarkConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return BenchmarkConfig.parse(composed(compose("benchmark", overrides=arguments), "benchmark"))
