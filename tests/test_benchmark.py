"""The league table: every cell once, resumed where it was left, every row on the same stays and labels."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from cli import CommandLine
from inline import Inline
from processes import children, is_running, wait_until
from slices.training import StayDataModule
from slices.training.benchmark import work
from slices.training.benchmark.blends import blend_rows
from slices.training.benchmark.cells import BenchmarkConfig, Cell, cells, kinds, units
from slices.training.benchmark.recipe import same_recipe
from slices.training.benchmark.rows import Row, Spent
from slices.training.benchmark.table import SCORES, _lines, _scratch, best_score, league
from slices.training.benchmark.work import cell_file, do_unit, read_cell, training_labels
from slices.training.compose import composed
from slices.training.evaluation.bootstrap import Predictions, bootstrap_interval, paired_interval

FREE = Spent(0.0, 0.0, 0.0, 0.0)
ENDS = ("", "_vs_scratch", "_vs_baseline")


@pytest.fixture
def arguments(on_tiny: list[str]) -> list[str]:
    own = [word for word in on_tiny if not word.startswith("training.")]
    return [
        *own,
        *("jobs=2", "folder=league", "encoders=[linear]", "data.splits.n_folds=2", "seeds=[0,1]"),
        *("baselines=[logistic_regression]", "label_fractions=[0.3,1.0]", "draws=[2,1]"),
        *("+pretrain.all.training.max_epochs=1", "+finetune.all.training.max_epochs=1"),
    ]


def config_of(arguments: list[str]) -> BenchmarkConfig:
    from hydra import compose, initialize_config_dir

    from slices.training.compose import config_dir

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return BenchmarkConfig.parse(composed(compose("benchmark", overrides=arguments), "benchmark"))


@pytest.mark.slow
def test_a_league_from_the_command_line_and_again(
    cli: CommandLine,
    arguments: list[str],
    dataset_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = cli("benchmark", *arguments)
    assert done.status == 0, done.err
    table = pl.read_csv(tmp_path / "league" / "league.csv")
    rows = table.select("labels", "encoder", "objective", "adaptation", "runs").rows()
    encoder_rows = [("linear", o, a) for o in ("mae", "none") for a in ("finetune", "probe")]
    for labels, draws in ((0.3, 2), (1.0, 1)):
        named = [row[1:4] for row in rows if row[0] == labels]
        assert sorted(named) == sorted([*encoder_rows, ("logistic_regression", "baseline", "baseline")])
        # two folds, two seeds, and a baseline that stands for both seeds
        assert {row[4] for row in rows if row[0] == labels} == {4 * draws}
    plot = ElementTree.parse(tmp_path / "league" / "label_efficiency.svg").getroot()
    words = {"".join(element.itertext()).strip() for element in plot.iter() if element.tag.endswith("text")}
    assert {"linear, mae, probe", "linear, from scratch, finetune", "logistic_regression"} <= words
    assert {"AUROC", "AUPRC", "30 %", "100 %"} <= words
    costs = ElementTree.parse(tmp_path / "league" / "quality_by_cost.svg").getroot()
    words = {"".join(element.itertext()).strip() for element in costs.iter() if element.tag.endswith("text")}
    assert {"linear, mae, probe", "AUPRC", "30 % of the labels", "processor minutes"} <= words
    text = (tmp_path / "league" / "league.md").read_text()
    assert text in done.out and "auroc_vs_scratch" in text

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
    assert "rows.linear+mae.optimizer.lr: None then, '0.1' now" in other.err
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


def test_a_fraction_needs_its_number_of_draws(cli: CommandLine, arguments: list[str]) -> None:
    done = cli("benchmark", *arguments, "draws=[1]")
    assert done.status == 2 and "one number of draws for each fraction" in done.err


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("+finetune.trasformer.training.max_epochs=3", "did you mean 'transformer'?"),
        ("+finetune.all.data.batch_size=3", "data belong to the benchmark itself"),
        ("+finetune.0.5.training.max_epochs=3", "unknown key"),
        ("+finetune.all.training.average_best=2", "average_best would do nothing"),
        ("+finetune={0.3: {encoder: {pooling: max}}}", "an encoder is the same for all fractions"),
        ("+finetune.finetune.training={solve_head: true, freeze_encoder: true}", "is adaptation probe"),
        ("+finetune.linear.encoder.pooling=attention", "has weights that no probe trains"),
    ],
)
def test_a_setting_for_nobody_is_refused(
    setting: str, answer: str, cli: CommandLine, arguments: list[str]
) -> None:
    done = cli("benchmark", *arguments, setting)
    assert done.status == 2 and answer in done.err, done.err


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("jobs=0", "jobs=0: allowed is 1 or more"),
        ("seeds=[]", "seeds is empty"),
        ("+finetune.all.training.allow_other_split=true", "name in transductive the objectives"),
        ("+finetune.all.task.also={length_of_stay: {}}", "is no room for task.also"),
        ("+finetune.probe.task.head_type=attention", "is no room for task.head_type"),
        ("+finetune.probe.training.solve_head=false", "is no room for training.solve_head=false"),
        ("n_splits=3", "n_splits=3: only random splits can be repeated"),
        ("share=3/2", "share=3/2: allowed is K/N"),
        ("transductive=[mea]", "transductive: unknown objective 'mea': did you mean 'mae'?"),
        ("encoders=[]", "encoders is empty"),
        ("seeds=[1,1]", "seeds names 1 twice"),
        ("objectives=[mae,none,mae]", "objectives names mae twice"),
        ("baselines=[logistic_regression,logistic_regression]", "baselines names logistic_regression twice"),
        ("label_fractions=[0.0,1.0]", "label_fractions: 0 is not above 0, up to 1"),
        ("label_fractions=[0.3,1.5]", "label_fractions: 1.5 is not above 0, up to 1"),
        ("draws=[0,1]", "draws: 0 is not 1 or more"),
        ("skip=[linear+jepa]", "unknown pair 'linear+jepa'"),
        ("encoders=[grue]", "unknown encoder 'grue': did you mean 'gru'?"),
        ("objectives=[mea]", "unknown SSL objective 'mea': did you mean 'mae'?"),
        ("task=deterioration", "task=deterioration has one label a step"),
        ("task.task_name=mortality", "unknown task 'mortality'"),
        ("task.task_type=regression", "is binary, not regression"),
        ("task.head_type=attention", "leave probe out of adaptations"),
        ("task.head_type=mpl", "unknown task head 'mpl'"),
        ("+pretrain.all.training.max_epoch=1", "Did you mean `training.max_epochs`?"),
        (
            "+pretrain.mae.ssl.mask_ratio=3",
            "pretrain, encoder linear, objective mae: ssl 'mae': mask_ratio=3",
        ),
        ("+pretrain.all.trainer.accelerator=gpu", "gpu"),
        ("+finetune.linear.optimizer.betas=[1]", "optimizer.betas: expected 2 values, got 1"),
        ("finetune.all.scheduler=plateau", "the benchmark does not validate"),
        ("+finetune.none.encoder.pooling=none", "encoder.pooling=none gives one embedding a step"),
    ],
)
def test_a_mistake_is_found_before_any_work(
    setting: str, answer: str, cli: CommandLine, arguments: list[str], tmp_path: Path
) -> None:
    done = cli("benchmark", *arguments, setting)
    assert done.status == 2 and answer in done.err, done.err
    assert "Traceback" not in done.err and done.err.count("error:") == 1
    assert not (tmp_path / "league").exists()


def test_nobody_to_test_on_is_refused(cli: CommandLine, arguments: list[str]) -> None:
    done = cli("benchmark", *arguments, "data.splits.n_folds=null", "data.splits.test_fraction=0")
    assert done.status == 2 and "leaves nobody to test on" in done.err, done.err


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


def test_a_fraction_written_as_a_number_counts(arguments: list[str]) -> None:
    given = {"finetune": {"all": {}, 1.0: {"training": {"max_epochs": 7}}}}
    config = BenchmarkConfig.parse(dataclasses.asdict(config_of(arguments)) | given)
    (unit, *_) = (unit for unit in units(config) if unit.objective == "mae")
    ends = {cell.fraction: config.adapting(cell)[-1] for cell in cells(config, unit)}
    assert ends[1.0] == "training.max_epochs=7" and "7" not in ends[0.3]


def test_ways_to_adapt_that_need_pretraining_are_not_asked_of_none(
    cli: CommandLine, arguments: list[str]
) -> None:
    done = cli("benchmark", *arguments, "objectives=[none]", "adaptations=[lora]")
    assert done.status == 2 and "without pretraining only probe and finetune" in done.err, done.err


def test_the_best_baseline_of_a_regression_has_the_least_error(arguments: list[str]) -> None:
    """And the best score, which the app gives to a sweep."""
    generator = np.random.default_rng(0)
    label = generator.normal(size=50)

    def row(noise: float) -> Row:
        run = Predictions(np.arange(50), np.arange(50), label, label + noise * generator.normal(size=50))
        return Row([run], FREE)

    rows = {(1.0, name, "baseline", "baseline"): row(noise) for name, noise in {"a": 0.1, "b": 2.0}.items()}
    best, other = _lines(rows, SCORES["regression"], config_of(arguments))
    assert "mae_vs_baseline" not in best and other["mae_vs_baseline"] > 0
    assert best_score(pl.DataFrame({"memory_gb": [0.0, 0.0], "mae": [3.0, 2.0]})) == 2.0
    assert best_score(pl.DataFrame({"memory_gb": [0.0, 0.0], "auroc": [0.7, 0.8]})) == 0.8


def test_a_sum_gets_its_parts(arguments: list[str]) -> None:
    parts = "+pretrain.sum.ssl.parts={mae:{mask_ratio:0.7},forecast:{},jepa:{weight:0.5}}"
    config = config_of([*arguments, "objectives=[sum]", parts])
    (unit, *_) = [unit for unit in units(config) if unit.objective == "sum"]
    given = work.pretrain_config(config, unit).ssl.parts
    assert given == {"mae": {"mask_ratio": 0.7}, "forecast": {}, "jepa": {"weight": 0.5}}


def test_variants_are_rows_of_their_own(arguments: list[str]) -> None:
    variants = "+variants={wide: linear, mild: mae, both: sum, less: sum}"
    settings = (
        "+pretrain.mae.ssl.mask_ratio=0.7",
        "+pretrain.mild.ssl.mask_ratio=0.3",
        "+pretrain.sum.ssl.parts={mae:{},forecast:{}}",
        "+pretrain.less.ssl.parts={mae:{}}",
        "+pretrain.wide.encoder.d_model=48",
    )
    rows = ("encoders=[linear,wide]", "objectives=[mae,mild,both,less]")
    config = config_of([*arguments, variants, *settings, *rows])
    found = {}
    for unit in (unit for unit in kinds(config) if unit.objective != "baseline"):
        made = work.pretrain_config(config, unit)
        cell = next(cells(config, unit))
        width = work.finetune_config(config, cell, None).encoder.d_model
        assert width == made.encoder.d_model
        seen = made.ssl.get("mask_ratio") or sorted(made.ssl.parts)
        found[unit.encoder, unit.objective] = (made.ssl.name, seen, width == 48)
    assert found == {
        (encoder, objective): (*of_objective, encoder == "wide")
        for encoder in ("linear", "wide")
        for objective, of_objective in {
            "mae": ("mae", 0.7),
            "mild": ("mae", 0.3),
            "both": ("sum", ["forecast", "mae"]),
            "less": ("sum", ["mae"]),  # parts are not merged
        }.items()
    }


@pytest.mark.parametrize(
    ("variants", "answer"),
    [
        ("{mae: jepa}", "'mae' must be a new name"),
        ("{all: mae}", "'all' must be a new name"),
        ("{a+b: mae}", "'a+b' must be a new name"),
        (
            "{mine: mea}",
            "variants.mine: unknown encoder, objective or way to adapt 'mea': did you mean 'mae'?",
        ),
    ],
)
def test_a_variant_is_new_and_of_something(variants: str, answer: str, arguments: list[str]) -> None:
    given = dataclasses.asdict(config_of(arguments)) | {"variants": yaml.safe_load(variants)}
    with pytest.raises(ValueError, match=re.escape(answer)):
        BenchmarkConfig.parse(given)


def test_the_league_is_that_of_intervals_one_by_one(arguments: list[str]) -> None:
    """All rows share their draws of patients; the numbers are those of the functions for one row or pair."""
    generator = np.random.default_rng(0)

    def row(noise: float) -> Row:
        return Row([run_of(fold, noise) for fold in (0, 1, 0)], FREE)

    def run_of(fold: int, noise: float) -> Predictions:
        ids = np.arange(80) + 80 * fold
        label = (np.arange(80) % 4 == 0).astype(float)
        return Predictions(ids, ids // 2, label, label + noise * generator.normal(size=80))

    rows = {
        (1.0, "gru", "none", "finetune"): row(1.0),
        (1.0, "gru", "mae", "finetune"): row(0.7),
        (1.0, "lightgbm", "baseline", "baseline"): row(0.9),
        (1.0, "logistic_regression", "baseline", "baseline"): row(3.0),
    }
    lines = {
        (line["encoder"], line["objective"]): line
        for line in _lines(rows, SCORES["binary"], config_of(arguments))
    }
    line, (scratch, mae, best, _) = lines["gru", "mae"], rows.values()
    for name, metric in SCORES["binary"].items():
        found = {end: [line[f"{name}{end}{side}"] for side in ("", "_low", "_high")] for end in ENDS}
        assert found[""] == pytest.approx(bootstrap_interval(metric, mae.runs))
        assert found["_vs_scratch"] == pytest.approx(paired_interval(metric, mae.runs, scratch.runs))
        assert found["_vs_baseline"] == pytest.approx(paired_interval(metric, mae.runs, best.runs))
    assert "auroc_vs_scratch" not in lines["gru", "none"]
    assert "auroc_vs_baseline" not in lines["lightgbm", "baseline"]
    with pytest.raises(ValueError, match=r"jepa.*in one of the two predictions only"):
        other = Row([run_of(1, 1.0)] * 3, FREE)
        _lines(rows | {(1.0, "gru", "jepa", "probe"): other}, SCORES["binary"], config_of(arguments))


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


def test_what_rows_must_share_is_not_theirs_to_set(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"finetune.all: task.task_name belong to the benchmark itself"):
        config_of([*arguments, "+finetune.all.task.task_name=length_of_stay"])


def test_a_blend_is_the_mean_over_members_and_seeds() -> None:
    """On the scale of log-odds; in rows of one fraction only, in one order of stays, blends of blends too."""
    generator = np.random.default_rng(0)
    label = np.array([0.0, 1.0, 0.0])

    def row(*odds: float) -> Row:
        runs = [Predictions(np.arange(3), np.arange(3), label, _sigmoid(np.full(3, z))) for z in odds]
        return Row(runs, Spent(2.0, 1.0, 10.0, 0.5))

    gru, trees = (1.0, "gru", "mae", "finetune"), (1.0, "lightgbm", "baseline", "baseline")
    other = (0.1, *gru[1:])
    rows = {gru: row(1.0, 2.0, 3.0, 4.0), trees: row(0.0, 1.0, 0.0, 1.0), other: row(-1.0, -1.0, -1.0, -1.0)}
    shuffled = rows[gru].runs[3]
    order = generator.permutation(3)
    rows[gru].runs[3] = Predictions(*(part[order] for part in shuffled))
    blends = {"seeds": ["gru+mae+finetune"], "mix": ["seeds", "lightgbm"]}
    at_all = {key: row for key, row in rows.items() if key[0] == 1.0}
    found = blend_rows(at_all, blends, n_seeds=2, task_type="binary")
    assert list(found) == [(1.0, "seeds", "blend", "blend"), (1.0, "mix", "blend", "blend")]
    seeds, mix = found.values()
    for run, expected in zip(seeds.runs, (2.0, 3.0, 2.0, 3.0), strict=True):
        assert run.prediction == pytest.approx(_sigmoid(np.full(3, expected))) and (run.label == label).all()
    assert [run.prediction[0] for run in mix.runs] == pytest.approx(_sigmoid(np.array([1.0, 2.0, 1.0, 2.0])))
    assert seeds.spent == Spent(4.0, 2.0, 20.0, 0.5)
    assert mix.spent == Spent(6.0, 3.0, 30.0, 0.5)  # the baseline is fitted once
    probe = at_all | {(1.0, "gru", "mae", "probe"): rows[gru]}
    both = blend_rows(probe, {"both": ["gru+mae+finetune", "gru+mae+probe"]}, n_seeds=2, task_type="binary")
    assert both[1.0, "both", "blend", "blend"].spent == Spent(8.0, 2.0, 40.0, 0.5)  # pretrained once a seed
    of_few = blend_rows(rows, {"seeds": ["gru+mae+finetune"]}, n_seeds=2, task_type="binary")
    assert of_few[0.1, "seeds", "blend", "blend"].runs[0].prediction == pytest.approx(
        _sigmoid(np.full(3, -1.0))
    )


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(
    ("blends", "answer"),
    [
        ("{mix: [linear+mae+finetun]}", "blends.mix: unknown row 'linear+mae+finetun': did you mean"),
        ("{logistic_regression: [linear+mae+finetune]}", "is a row or an encoder already"),
        ("{linear: [linear+mae+finetune]}", "is a row or an encoder already"),
        ("{mix: []}", "blends.mix is empty"),
        ("{a: [b], b: [linear+mae+probe]}", "blends.a: unknown row 'b'"),
    ],
)
def test_a_blend_is_of_rows_that_are_there(blends: str, answer: str, arguments: list[str]) -> None:
    given = dataclasses.asdict(config_of(arguments)) | {"blends": yaml.safe_load(blends)}
    with pytest.raises(ValueError, match=re.escape(answer)):
        BenchmarkConfig.parse(given)


def test_shares_are_all_of_the_work_once(arguments: list[str]) -> None:
    config = config_of(arguments)
    parts = [dataclasses.replace(config, share=f"{k}/3").work() for k in (1, 2, 3)]
    assert sorted(u.key for part in parts for u in part) == sorted(u.key for u in config.work())
    assert all(parts) and len(config.work()) == len(list(units(config)))
    assert len({u.objective for u in parts[0]}) > 1


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


def test_a_folder_remembers_who_was_pretrained_on(arguments: list[str], tmp_path: Path) -> None:
    own = [*arguments, f"folder={tmp_path}/league", "objectives=[mae]"]
    same_recipe(config_of([*own, "adaptations=[probe]"]))
    with pytest.raises(ValueError, match=r"rows.linear.mae.transductive: 'false' then, 'true' now"):
        same_recipe(config_of([*own, "adaptations=[finetune]", "transductive=[mae]"]))
    (tmp_path / "league" / "recipe.json").write_text('{"data": {}, "task": {}, "pretrain": {}}')
    with pytest.raises(ValueError, match="of an older version"):
        same_recipe(config_of(own))


def test_baselines_are_there_whatever_the_seeds(arguments: list[str]) -> None:
    own = [word for word in arguments if not word.startswith("seeds")]
    config = config_of([*own, "seeds=[3]", "+blends.mix=[logistic_regression,linear+mae+finetune]"])
    assert {unit.objective for unit in kinds(config)} == {"baseline", "mae", "none"}


def test_from_scratch_is_the_same_way_to_adapt(arguments: list[str]) -> None:
    own = ("+variants={long: finetune, wide: finetune}", "adaptations=[long,wide,probe]")
    config = config_of([*arguments, *own])
    rows = {(1.0, "linear", "none", way): Row([], FREE) for way in ("long", "wide")}
    assert _scratch((1.0, "linear", "mae", "wide"), rows, config) == (1.0, "linear", "none", "wide")
    assert _scratch((1.0, "linear", "mae", "probe"), rows, config) == (1.0, "linear", "none", "long")
    assert _scratch((1.0, "gru", "mae", "wide"), rows, config) is None


def test_protocols(arguments: list[str]) -> None:
    def splits(*words: str) -> list[Any]:
        config = config_of([*(word for word in arguments if "n_folds" not in word), *words])
        return [config.data_of(u).splits for u in units(config) if (u.objective, u.seed) == ("none", 0)]

    assert [(s.n_folds, s.fold) for s in splits()] == [(5, fold) for fold in range(5)]
    (challenge,) = splits("protocol=challenge", "data.splits.train_sets=[a,b]", "data.splits.test_sets=[c]")
    assert (challenge.train_sets, challenge.test_sets, challenge.n_folds) == (("a", "b"), ("c",), None)
    five = splits("protocol=random_5x", "data.splits.seed=7")
    assert [s.seed for s in five] == [7, 8, 9, 10, 11] and {s.test_fraction for s in five} == {0.1}


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
    unit = of["whole"]
    do_unit(dataclasses.replace(config, label_fractions=(1.0,), draws=(1,)), unit, threads=1)
    assert all(cell_file(config, cell).exists() for cell in cells(config, unit) if cell.fraction == 1.0)


def test_a_probe_may_have_a_prior_at_one_fraction(arguments: list[str], cli: CommandLine) -> None:
    assert cli("prepare", *[w for w in arguments if w.startswith("data.") and "splits" not in w]).status == 0
    config = config_of([*arguments, "objectives=[none]", "adaptations=[probe]", "seeds=[0]"])
    section = {"probe+0.3": {"training": {"probe_prior": "covariance"}}}
    other = dataclasses.replace(config, folder="other", finetune=section)
    unit = next(unit for unit in units(config) if unit.objective == "none")
    for one in (config, other):
        do_unit(one, unit, threads=1)
    for cell in cells(config, unit):
        first, second = (read_cell(one, cell)[0].prediction for one in (config, other))
        assert np.allclose(first, second) == (cell.fraction == 1.0)
