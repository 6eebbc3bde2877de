"""Training on several ranks gives what one process gives from the same global batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from of_ranks import of_ranks
from slices.ssl import list_objectives

ENCODER = {"name": "transformer", "d_input": 5, "d_model": 8, "n_heads": 2, "n_layers": 2, "dropout": 0.0}
SGD = {"name": "sgd", "lr": 0.01}  # a gradient of twice the size is the same to Adam
SLOWER = {"barlow_twins": {"lr": 0.001}}  # its gradients are large: what is rounded differently soon shows
QUICK = ("mae", "contrastive", "jepa")  # one plain, one that gathers, one with a teacher
OTHERS = sorted(set(list_objectives()) - {*QUICK})
PARTS = {"sum": {"parts": {"mae": {}, "vicreg": {"weight": 0.1}, "contrastive": {}, "dino": {}}}}


def configs(names: tuple[str, ...] | list[str]) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for name in names:
        optimizer, ssl = SGD | SLOWER.get(name, {}), {"name": name, **PARTS.get(name, {})}
        made[name] = {"encoder": ENCODER, "optimizer": optimizer, "ssl": ssl}
    return made | {f"{name}, clipped": made[name] | {"clip": 0.1} for name in names if name == "mae"}


def assert_same(
    strategy: str, ranks: int, names: tuple[str, ...] | list[str], folder: Path, mode: str | None = None
) -> None:
    plain = configs(names)
    expected = of_ranks("auto", 1, folder, plain)
    training = {"training": {"compile": mode}}
    found = of_ranks(strategy, ranks, folder, {name: config | training for name, config in plain.items()})
    for name in expected:
        graphs = expected[name].pop("graphs"), found[name].pop("graphs")
        assert [bool(number) for number in graphs] == [False, mode is not None]
        assert expected[name].keys() == found[name].keys()
        assert len(expected[name]["losses"].unique()) > 1  # it does train
        for key, value in expected[name].items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-3, atol=1e-5, msg=f"{name}: {key}")


def test_two_ranks_train_as_one_process(tmp_path: Path) -> None:
    assert_same("ddp", 2, QUICK, tmp_path)


@pytest.mark.slow
def test_two_ranks_train_every_objective_as_one_process(tmp_path: Path) -> None:
    assert_same("ddp", 2, OTHERS, tmp_path)


@pytest.mark.slow
def test_four_ranks_train_as_one_process(tmp_path: Path) -> None:
    assert_same("ddp", 4, [*QUICK, *OTHERS], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_sharded_ranks_train_as_one_process(ranks: int, tmp_path: Path) -> None:
    assert_same("fsdp2", ranks, [*QUICK, *OTHERS], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_ranks_that_compile_train_as_one_process_that_does_not(strategy: str, tmp_path: Path) -> None:
    assert_same(strategy, 2, QUICK, tmp_path, mode="default")
