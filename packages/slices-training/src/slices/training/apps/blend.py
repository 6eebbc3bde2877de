"""``slices-blend``: one prediction of several models', e.g. of a network and LightGBM."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.compose import command

log = logging.getLogger(__name__)


def blend(config: DictConfig) -> float:
    """Weighs models, writes what they predict together. Returns the largest weight."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from slices.training.baseline.blend import blend as together
    from slices.training.baseline.config import BlendConfig

    with checking_what_was_asked():
        parsed = BlendConfig.parse(config)
        weights, table = together(parsed)
    folder = Path(HydraConfig.get().runtime.output_dir)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    file = folder / "predictions.parquet"
    table.write_parquet(file)
    (folder / "blend.json").write_text(json.dumps(weights, indent=2), encoding="utf-8")
    log.info("weights (%s): %s", parsed.weights, ", ".join(f"{n} {w:.3f}" for n, w in weights.items()))
    log.info("predictions: %s", file)
    log.info("next: %s", command("evaluate") + f" predictions=[{file},...]")
    return max(weights.values())


def main() -> None:
    launch("blend", blend)


if __name__ == "__main__":
    main()
