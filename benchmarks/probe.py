"""How fast a linear probe is solved, beside training it through the frozen encoder for 50 epochs.

``hatch run bench:probe [key=value ...]``, keys of the fine-tuning app

The same encoder (``checkpoint_path=...``; null: random weights), training stays and test stays for both, in
one process: seconds from the data in memory to the head, and AUROC on the test stays. Neither validates.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning.pytorch as L
import torch
from torchmetrics.functional import auroc

from slices.training import FineTuneModule, StayDataModule
from slices.training.adaptation.solved_probe import embedded, solve_head
from slices.training.compose import compose_app
from slices.training.config import FineTuneConfig
from slices.training.quiet import quiet_lightning

EPOCHS = 50


def made(overrides: list[str], *own: str) -> tuple[FineTuneModule, StayDataModule]:
    config = compose_app("finetune", [*overrides, *own])
    parsed = FineTuneConfig.parse(config)
    assert parsed.data is not None
    torch.manual_seed(parsed.seed)
    module = FineTuneModule(config)
    data = StayDataModule(
        parsed.data, task=parsed.task.task_name, per_step=parsed.task.per_step, seed=parsed.seed
    )
    data.prepare_data()
    data.setup()
    module.follow(data)
    return module, data


def solved(module: FineTuneModule, data: StayDataModule) -> None:
    solve_head(module, data)


def trained(module: FineTuneModule, data: StayDataModule) -> None:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = L.Trainer(**quiet, max_epochs=EPOCHS, limit_val_batches=0, accelerator="cpu")
    trainer.fit(module, datamodule=data)


def main(overrides: list[str]) -> None:
    quiet_lightning()
    logging.basicConfig(level=logging.WARNING)
    ways = {
        "solved": (solved, ["adaptation=probe"]),
        "trained": (trained, ["adaptation=head", "task.head_type=linear"]),
    }
    seconds = {}
    for name, (way, own) in ways.items():
        module, data = made(overrides, *own)
        if name == "solved":
            print(data.sizes)
        data.cut(data.splits["train"][:64])  # what is kept in memory, is
        began = time.perf_counter()
        way(module, data)
        seconds[name] = time.perf_counter() - began
        rows = embedded(module.eval(), data, "test")
        probs = module.head(rows.features)["probs"]
        score = auroc(probs[:, 1], rows.label.long(), "binary")
        print(f"{name}: {seconds[name]:.2f} s, test AUROC {float(score):.4f}")
    print(f"trained over solved: {seconds['trained'] / seconds['solved']:.1f} x")


if __name__ == "__main__":
    main(sys.argv[1:])
