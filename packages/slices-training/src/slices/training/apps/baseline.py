"""``slices-baseline``: LightGBM or logistic regression on summary features, over the splits of a network."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.compose import command

log = logging.getLogger(__name__)


def baseline(config: DictConfig) -> float:
    """Fits on the training split, writes what it predicts of val and test. Returns the test split's size."""
    import torch
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from slices.training.apps.predictions import show_predictions, write_predictions
    from slices.training.apps.record import recording
    from slices.training.apps.run import Cost
    from slices.training.baseline.config import BaselineConfig
    from slices.training.baseline.fitting import fit_and_predict, labelled_data

    cost = Cost()
    with checking_what_was_asked():
        parsed = BaselineConfig.parse(config)
        data, task = labelled_data(parsed)
        folder = Path(HydraConfig.get().runtime.output_dir)
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
    samples = ", ".join(f"{size:,} {split}" for split, size in data.sizes.items())
    log.info("%s, threads %d, samples: %s", parsed.model, torch.get_num_threads(), samples)
    learns = {"model": parsed.model, "task": task.task_name}
    with recording(folder, learns=learns, seed=parsed.seed, data=data.fingerprint()) as outcome:
        model, batches = fit_and_predict(parsed, data, task)
        head = task.head(1)
        file = write_predictions(folder / "predictions.parquet", batches, head, model=parsed.model)
        (folder / "baseline.json").write_text(json.dumps(model.chosen, indent=2), encoding="utf-8")
        outcome.file = file
    for chosen in model.chosen:
        log.info("settings: %s", ", ".join(f"{name} {value}" for name, value in chosen.items()))
    log.info("%s", show_predictions(file, data.task))
    log.info("predictions of the validation and test stays: %s, after %s", file, cost)
    log.info("next: %s", command("evaluate") + f" predictions=[{file},...]")
    return float(data.sizes["test"])


def main() -> None:
    launch("baseline", baseline)


if __name__ == "__main__":
    main()
