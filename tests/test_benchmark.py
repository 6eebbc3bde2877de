"""The benchmark at work: every cell once, resumed where it was left, on the same stays and labels."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import torch

from cli import CommandLine
from inline import Inline
from leagues import config_of
from processes import children, is_running, wait_until
from slices.training import StayDataModule
from slices.training.benchmark import work
from slices.training.benchmark.cells import Cell, cells, units
from slices.training.benchmark.recipe import recipe_of
from slices.training.benchmark.table import league
from slices.training.benchmark.work import cell_file, do_unit, read_cell, training_labels


@pytest.mark.slow
def test_a_league_from_the_command_line_and_again(
    cli_with_reports: CommandLine,
    arguments: list[str],
    dataset_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cli = cli_with_reports
    done = cli("benchmark", *arguments)
    assert done.status == 0 and "report: " in done.out, done.err
    table = pl.read_csv(tmp_path / "league" / "league.csv")
    rows = table.select("labels", "encoder", "objective", "adaptation", "runs").rows()
    encoder_rows = [("linear", o, a) for o in ("mae", "none") for a in ("finetune", "probe")]
    for labels, draws in ((0.3, 2), (1.0, 1)):
        named = [row[1:4] for row in rows if row[0] == labels]
        assert sorted(named) == sorted([*encoder_rows, ("logistic_regression", "baseline", "baseline")])
        # two folds, two seeds, and a baseline that stands for both seeds
        assert {row[4] for row in rows if row[0] == labels} == {4 * draws}
    plot = ElementTree.parse(tmp_path / "league" / "figures" / "label_efficiency.svg").getroot()
    words = {"".join(element.itertext()).strip() for element in plot.iter() if element.tag.endswith("text")}
    assert {"linear, mae, probe", "linear, from scratch, finetune", "logistic_regression"} <= words
    assert {"AUROC", "AUPRC", "30 %", "100 %"} <= words
    costs = ElementTree.parse(tmp_path / "league" / "figures" / "quality_by_cost_30.svg").getroot()
    words = {"".join(element.itertext()).strip() for element in costs.iter() if element.tag.endswith("text")}
    assert {"linear, mae, probe", "AUPRC", "minutes"} <= words
    text = (tmp_path / "league" / "league.md").read_text()
    table_text, _, about = text.partition("\n\n")
    assert table_text in done.out and "auroc_vs_scratch" in table_text
    assert "benchmark" in about and "draws=[2,1]" in about

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "league" / "cells").iterdir()}
    victim = sorted(kept)[0]
    victim.unlink()
    monkeypatch.setattr("slices.training.workers.ProcessPoolExecutor", Inline)  # quicker
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)
    assert cli("benchmark", *arguments).status == 0
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "league" / "cells").iterdir()}
    assert again.keys() == kept.keys()
    assert {path for path in kept if again[path] != kept[path]} == {victim}  # only what was missing

    other = cli("benchmark", *arguments, "+pretrain.all.optimizer.lr=0.1")
    assert other.status == 2 and "another recipe" in other.err
    assert "rows.linear+mae.optimizer.lr: 0.001 then, 0.1 now" in other.err
    more = cli(
        "benchmark", *arguments, "encoders=[linear,gru]", "+pretrain.gru.optimizer.lr=0.1", "skip=[gru+mae]"
    )
    assert more.status == 0, more.err  # a row more, whose settings are no other's


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="children are found in /proc")
def test_killed_it_leaves_no_process(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slices.training.apps.benchmark", *arguments]
    endless = "+pretrain.all.training.max_epochs=100000"
    killed = subprocess.Popen([*command[:-2], endless, command[-1]], cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(children(killed.pid)) >= 3)  # two that work, one that watches what they share
    started = children(killed.pid)
    killed.kill()  # SIGKILL: it cannot tidy up
    killed.wait()
    wait_until(lambda: not any(map(is_running, started)), seconds=20)


@pytest.mark.slow
def test_a_unit_that_fails_ends_the_others(
    cli: CommandLine, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a unit that fails")

    ended = []
    monkeypatch.setattr("slices.training.workers.ProcessPoolExecutor", Inline)
    monkeypatch.setattr(Inline, "shutdown", lambda self, **kwargs: ended.append(kwargs))
    monkeypatch.setattr(work, "do_unit", fail)
    with pytest.raises(ValueError, match="a unit that fails"):
        cli("benchmark", *arguments)
    assert ended == [{"cancel_futures": True}]


def test_rows_are_paired_and_draws_are_nested(cli: CommandLine, arguments: list[str], tmp_path: Path) -> None:
    config = config_of([*arguments, "objectives=[none]", "seeds=[0]", "baselines=[logistic_regression]"])
    assert (
        cli(
            "prepare", *[word for word in arguments if word.startswith("data.") and "splits" not in word]
        ).status
        == 0
    )
    for unit in units(config):
        do_unit(config, unit, threads=1)
    by_fold: dict[int, list[np.ndarray]] = {}
    for unit in units(config):
        for cell in cells(config, unit):
            predictions, spent = read_cell(config, cell)
            assert spent.seconds > 0 and spent.memory > 0.05
            assert (spent.parameters > 0) == (unit.objective != "baseline")
            assert np.isfinite(predictions.prediction).all()
            by_fold.setdefault(unit.fold, []).append(np.sort(predictions.row_id))
    for ids in by_fold.values():
        assert all(np.array_equal(ids[0], other) for other in ids)  # the same test stays for every row
    assert not set(by_fold[0][0]) & set(by_fold[1][0])
    data = StayDataModule(config.data, task=config.task.task_name)
    data.setup()
    unit = next(units(config))
    few, all_ = (set(training_labels(data, Cell(unit, "probe", f, 0))[0].tolist()) for f in (0.3, 1.0))
    other = set(training_labels(data, Cell(unit, "probe", 0.3, 1))[0].tolist())
    assert few < all_ and few != other
    blends = {"mix": ("linear+none+finetune", "logistic_regression")}
    table = league(dataclasses.replace(config, blends=blends))
    assert table.filter(encoder="mix")["auroc_vs_baseline"].is_not_null().all()
    scratch = table.filter(adaptation="finetune", labels=1.0)
    assert scratch["auroc_vs_baseline"].is_not_null().all()


def test_the_cells_of_a_table_have_files_of_their_own(arguments: list[str]) -> None:
    config = config_of(arguments)
    files = [cell_file(config, cell) for unit in units(config) for cell in cells(config, unit)]
    assert len(set(files)) == len(files) == 2 * 3 + 2 * 2 * 2 * (2 * 3)


def test_cells_are_trained_on_the_stays_of_their_draw_and_no_others(
    arguments: list[str], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("prepare", *[w for w in arguments if w.startswith("data.") and "splits" not in w]).status == 0
    config = config_of([*arguments, "objectives=[none]", "adaptations=[finetune]", "seeds=[0]"])
    trained: list[list[int]] = []

    class Noting:
        """A trainer that only looks at what it was to train on."""

        def fit(self, module: Any, datamodule: StayDataModule) -> None:
            self.data = datamodule
            batches = [batch["stay_id"] for batch in datamodule.train_dataloader()]
            trained.append(sorted(torch.cat(batches).tolist()))

        def predict(self, module: Any, loader: Any) -> list[dict[str, torch.Tensor]]:
            return [{"probs": torch.full((self.data.sizes["test"], 2), 0.5)}]

    monkeypatch.setattr(work, "_trainer", lambda options: Noting())
    unit = next(unit for unit in units(config) if unit.objective == "none")
    todo = list(cells(config, unit))
    do_unit(config, unit, threads=1)
    assert len(trained) == len(todo) == 3
    for cell, stays in zip(todo, trained, strict=True):
        own = dataclasses.replace(config.data_of(unit), label_fraction=cell.fraction, label_seed=cell.draw)
        data = StayDataModule(own, task=config.task.task_name)
        data.setup()
        assert stays == sorted(data.split_ids("train").tolist())
    assert len(trained[0]) < len(trained[2]) and trained[0] != trained[1]


@pytest.mark.slow
def test_ways_to_adapt_differ_by_their_head_and_by_what_is_learnt_beside(
    arguments: list[str], cli: CommandLine
) -> None:
    assert cli("prepare", *[w for w in arguments if w.startswith("data.") and "splits" not in w]).status == 0
    config = config_of(
        [
            *(*arguments, "objectives=[none]", "+variants={outcomes: finetune}", "task.dropout=0.2"),
            *(
                "adaptations=[finetune,outcomes]",
                "+finetune.outcomes.task={also: {organ_failure: {}}, dropout: 0.3}",
            ),
        ]
    )
    unit = next(unit for unit in units(config) if unit.objective == "none")
    plain, outcomes = (cell for cell in cells(config, unit) if (cell.fraction, cell.draw) == (1.0, 0))
    made = [work._to_adapt(config, cell, None) for cell in (plain, outcomes)]
    assert [module.config.task.dropout for module, _ in made] == [0.2, 0.3]
    assert [list(module.others) for module, _ in made] == [[], ["organ_failure"]]
    do_unit(config, unit, threads=1)
    one, other = (read_cell(config, cell)[0] for cell in (plain, outcomes))
    assert (one.row_id == other.row_id).all() and one.prediction.shape == other.prediction.shape
    assert (one.prediction != other.prediction).any()


def test_shares_are_all_of_the_work_once(arguments: list[str]) -> None:
    config = config_of(arguments)
    parts = [dataclasses.replace(config, share=f"{k}/3").work() for k in (1, 2, 3)]
    assert sorted(u.key for part in parts for u in part) == sorted(u.key for u in config.work())
    assert all(parts) and len(config.work()) == len(list(units(config)))
    assert len({u.objective for u in parts[0]}) > 1


def test_one_share_has_all_folds_of_a_shared_encoder(arguments: list[str]) -> None:
    config = config_of([*arguments, "transductive=[mae]", "objectives=[mae]"])
    parts = [dataclasses.replace(config, share=f"{k}/2").work() for k in (1, 2)]
    encoders = [{config.pretraining_unit(u) for u in part if u.objective == "mae"} for part in parts]
    assert not encoders[0] & encoders[1] and len(encoders[0] | encoders[1]) == len(config.seeds)


@pytest.mark.slow
def test_a_share_makes_no_table_and_the_rest_is_done_without(
    arguments: list[str], cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slices.training.workers.ProcessPoolExecutor", Inline)
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)
    own = (*arguments, "objectives=[none]", "adaptations=[probe]", "seeds=[0]")
    done = cli("benchmark", *own, "share=1/2")
    assert done.status == 0 and "a run without share makes the table" in done.out, done.err
    first = set((tmp_path / "league" / "cells").iterdir())
    assert first and not (tmp_path / "league" / "league.md").exists()
    assert cli("benchmark", *own, "share=2/2").status == 0
    done = cli("benchmark", *own)
    assert done.status == 0 and (tmp_path / "league" / "league.md").exists()
    assert "0 units of work" in done.out
    assert first < set((tmp_path / "league" / "cells").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("splits", [{"n_folds": 2}, {"test_fraction": 0.3}])
def test_transductive_pretraining_reads_the_test_stays_and_no_other_does(
    splits: dict[str, Any], arguments: list[str], cli: CommandLine
) -> None:
    assert cli("prepare", *[w for w in arguments if w.startswith("data.") and "splits" not in w]).status == 0
    own = [word for word in arguments if "splits" not in word]
    own += ["protocol=random_5x", *(f"data.splits.{name}={value}" for name, value in splits.items())]
    own += [
        "n_splits=1",
        "seeds=[0]",
        "+variants={whole: mae}",
        "objectives=[mae,whole]",
        "transductive=[whole]",
    ]
    config = config_of(own)
    of = {unit.objective: unit for unit in units(config) if unit.fold == 0}
    test = StayDataModule(config.data_of(of["mae"]), task=config.task.task_name)
    test.setup()
    for objective, reads in (("mae", False), ("whole", True)):
        data = StayDataModule(config.pretraining_data(of[objective]))
        data.setup()
        assert set(test.split_ids("test")).isdisjoint(data.split_ids("train")) != reads
        assert (len(data.splits["train"]) == len(data.store)) == reads  # validation stays as well
    few = dataclasses.replace(
        config, label_fractions=(1.0,), draws=(1,), n_splits=1 if "n_folds" in splits else 2
    )
    of_whole = [unit for unit in units(few) if unit.objective == "whole"]
    for unit in of_whole:
        do_unit(few, unit, threads=1)
        assert all(cell_file(few, cell).exists() for cell in cells(few, unit))
    assert len(of_whole) == 2  # folds or splits, and one encoder for both
    assert [path.stem for path in (Path(few.folder) / "encoders").glob("*.pt")] == [of_whole[0].key]


@pytest.mark.slow
def test_a_row_may_be_the_mean_of_fine_tunings(arguments: list[str], cli: CommandLine) -> None:
    assert cli("prepare", *[w for w in arguments if w.startswith("data.") and "splits" not in w]).status == 0
    own = ["objectives=[mae]", "adaptations=[finetune]", "seeds=[0]", "label_fractions=[1.0]", "draws=[1]"]
    config = config_of([*arguments, *own])
    unit = next(unit for unit in units(config) if unit.objective == "mae")
    (cell,) = cells(config, unit)
    encoder, _ = work.pretrained(config, unit)
    others = [dataclasses.replace(cell, unit=dataclasses.replace(unit, seed=seed)) for seed in (0, 1000)]
    alone = [work._finetuned_once(config, other, encoder)[0] for other in others]
    assert not torch.allclose(*alone)
    averaged = dataclasses.replace(config, finetune=config.finetune | {"finetune": {"members": 2}})
    do_unit(averaged, unit, threads=1)
    mean, spent = read_cell(config, cell)
    logits = torch.stack([probs[:, 1].double().logit() for probs in alone])
    assert np.allclose(mean.prediction, logits.mean(0).sigmoid().numpy())
    one, size = work._finetuned(config, cell, encoder)
    assert torch.equal(one, alone[0]) and spent.parameters == 2 * size
    assert recipe_of(averaged)["rows"]["linear+mae+finetune+1"]["members"] == 2


@pytest.mark.slow
def test_a_baseline_may_learn_further_tasks(arguments: list[str], cli: CommandLine) -> None:
    assert cli("prepare", *[w for w in arguments if w.startswith("data.") and "splits" not in w]).status == 0
    own = ["baselines=[logistic_regression,line_and_more]", "+variants.line_and_more=logistic_regression"]
    further = "+baseline.line_and_more.also=[length_of_stay_class]"
    config = config_of([*arguments, *own, further, "objectives=[none]", "draws=[1,1]"])
    rows: dict[str, list[Any]] = {}
    for unit in units(config):
        if unit.objective == "baseline" and unit.fold == 0:
            do_unit(config, unit, threads=1)
            rows[unit.encoder] = [read_cell(config, cell)[0] for cell in cells(config, unit)]
    for alone, more in zip(*rows.values(), strict=True):
        assert np.array_equal(alone.row_id, more.row_id) and np.array_equal(alone.label, more.label)
    assert not np.allclose(alone.prediction, more.prediction)
    assert recipe_of(config)["rows"]["line_and_more"]["also"] == ["length_of_stay_class"]


@pytest.mark.slow
@pytest.mark.parametrize("option", [{"probe_prior": "covariance"}, {"probe_strength": 3e3}])
def test_a_probe_may_have_a_prior_and_a_penalty_at_one_fraction(
    option: dict[str, Any], arguments: list[str], cli: CommandLine
) -> None:
    assert cli("prepare", *[w for w in arguments if w.startswith("data.") and "splits" not in w]).status == 0
    config = config_of([*arguments, "objectives=[none]", "adaptations=[probe]", "seeds=[0]"])
    section = {"probe+0.3": {"training": option}}
    other = dataclasses.replace(config, folder="other", finetune=section)
    unit = next(unit for unit in units(config) if unit.objective == "none")
    for one in (config, other):
        do_unit(one, unit, threads=1)
    for cell in cells(config, unit):
        first, second = (read_cell(one, cell)[0].prediction for one in (config, other))
        assert np.allclose(first, second) == (cell.fraction == 1.0)
