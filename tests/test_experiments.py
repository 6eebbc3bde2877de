"""The recipe for PhysioNet 2012 as it is frozen, by one command, on sets a, b and c made up here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli import CommandLine
from physionet_raw import OUTCOMES, stay_text, write_folder

pytest.importorskip("lightgbm", reason="the experiment's baselines need the extra `baselines`")
VARIABLES = {"HR": (90.0, 20.0), "Temp": (37.0, 1.0), "GCS": (11.0, 3.0), "Urine": (80.0, 40.0)}
N_STAYS = 40


def write_set(raw: Path, name: str, first: int) -> None:
    """Stays of which the sicker ones die."""
    rng = np.random.default_rng(first)
    texts, outcomes = {}, OUTCOMES
    for number in range(first, first + N_STAYS):
        severity = rng.normal()
        lines = [
            f"{hour:02d}:00,{variable},{max(centre + spread * (severity + rng.normal()) / 2, 1):.1f}\n"
            for hour in range(48)
            for variable, (centre, spread) in VARIABLES.items()
            if rng.random() < 0.5
        ]
        texts[number] = stay_text(number, "".join(lines))
        died = severity + 0.5 * rng.normal() > 0.8 or number == first
        days, survival = int(rng.integers(3, 30)), (int(rng.integers(3, 200)) if died else -1)
        outcomes += f"{number},{rng.integers(5, 25)},{rng.integers(0, 15)},{days},{survival},{int(died)}\n"
    write_folder(raw, name, texts, outcomes)


@pytest.mark.slow
def test_the_recipe_is_one_command_for_other_sets(cli: CommandLine, tmp_path: Path) -> None:
    for name, first in (("a", 1000), ("b", 2000), ("c", 3000)):
        write_set(tmp_path / "raw", name, first)
    done = cli(
        "benchmark",
        "+experiment=physionet2012",
        "protocol=challenge",
        "data.splits.train_sets=[a,b]",
        "data.splits.test_sets=[c]",
        f"data.source.raw={tmp_path / 'raw'}",
        f"data.dataset_dir={tmp_path / 'stays'}",
        f"folder={tmp_path / 'league'}",
        "jobs=2",
        "seeds=[0,1]",
        "label_fractions=[1.0]",
        "draws=[1]",
        "pretrain.outlook.training.max_epochs=1",
        "pretrain.time_to_event.training.max_epochs=1",
    )
    assert done.status == 0, done.err
    table = pl.read_csv(tmp_path / "league" / "league.csv")
    rows = {tuple(row) for row in table.select("encoder", "objective", "adaptation").rows()}
    assert {("flowsheet", "outlook", "averaged"), ("with_trees", "blend", "blend")} <= rows
    assert table["auroc"].is_between(0, 1).all() and table["auroc_vs_lightgbm"].null_count() == 1
    splits = json.loads((tmp_path / "league" / "recipe.json").read_text())["data"]["splits"]
    assert splits["train_sets"] == ["a", "b"] and splits["test_sets"] == ["c"]
    for cell in (tmp_path / "league" / "cells").iterdir():
        with np.load(cell) as saved:
            assert len(saved["prediction"]) == N_STAYS
