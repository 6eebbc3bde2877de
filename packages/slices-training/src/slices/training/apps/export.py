"""``slices-export``: a fine-tuned model as a graph that runs without SLICES."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.compose import command

log = logging.getLogger(__name__)


def export(config: DictConfig) -> None:
    """Writes the graph, once it gives what the model gives."""
    from slices.training.errors import UserError
    from slices.training.serving.config import ExportConfig
    from slices.training.serving.ensemble import model_files
    from slices.training.serving.exporting import save_exported, steps_of
    from slices.training.serving.file import load_model

    with checking_what_was_asked():
        parsed = ExportConfig.parse(config)
        if parsed.model is None:
            raise UserError(
                f"model is missing: give model=outputs/finetune/<time>, which `{command('finetune')}` wrote"
            )
        path, *others = model_files(Path(parsed.model))
        if others:
            raise UserError(
                f"{parsed.model} holds {1 + len(others)} models: give the file of one, e.g. {path}"
            )
        model = load_model(path)
        n_steps = steps_of(model, parsed.n_steps)
        file = save_exported(Path(parsed.file or path.with_suffix(".pt2")), model, n_steps)
    log.info("%d steps, %d variables, any number of stays: %s", n_steps, len(model.info.columns), file)


def main() -> None:
    launch("export", export)


if __name__ == "__main__":
    main()
