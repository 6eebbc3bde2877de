"""What a benchmark may be told: settings of rows, protocols, and mistakes found before any work."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import CommandLine
from leagues import config_of
from slices.training.benchmark import work
from slices.training.benchmark.cells import cells, kinds, units
from slices.training.benchmark.config import BenchmarkConfig
from slices.training.benchmark.recipe import same_recipe


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
        ("+finetune.probe.members=2", "members=2 of a probe would all be the same"),
        ("+finetune.all.members=0", "finetune.all.members=0 is not a whole number, 1 or more"),
        ("+finetune.mae.members=2.0", "finetune.mae.members=2.0 is not a whole number"),
        ("seeds=[3,1003]", "two that differ by a multiple of 1000"),
        ("skip=[linear+none+probe,linear+none+finetune]", "skip leaves it none"),
        ("skip=[linear+none+lora]", "unknown row 'linear+none+lora'"),
        ("transductive=[mea]", "transductive: unknown objective 'mea': did you mean 'mae'?"),
        ("encoders=[]", "encoders is empty"),
        ("seeds=[1,1]", "seeds names 1 twice"),
        ("baselines=[lightgbm,forest]", "unknown baseline 'forest'"),
        ("+baseline.lightgbm.tune=true", "baseline: unknown key 'lightgbm'"),
        ("+baseline.all.tuned=true", "baseline: unknown option 'tuned': did you mean 'tune'?"),
        ("+baseline.all.also=[length_of_stey]", "unknown task 'length_of_stey': did you mean"),
        ("+baseline.all.also=[in_hospital_mortality]", "in_hospital_mortality is the first task"),
        ("objectives=[mae,none,mae]", "objectives names mae twice"),
        ("baselines=[logistic_regression,logistic_regression]", "baselines names logistic_regression twice"),
        ("label_fractions=[0.0,1.0]", "label_fractions: 0 is not above 0, up to 1"),
        ("label_fractions=[0.3,1.5]", "label_fractions: 1.5 is not above 0, up to 1"),
        ("draws=[0,1]", "draws: 0 is not 1 or more"),
        ("skip=[linear+jepa]", "unknown row 'linear+jepa'"),
        ("skip=[linear+mae+prob]", "unknown row 'linear+mae+prob': did you mean 'linear+mae+probe'?"),
        ("skip=[linear+mae+probe,linear+mae+finetune]", "skip leaves it none"),
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


def test_a_fraction_without_rows_is_refused(arguments: list[str]) -> None:
    left_out = "skip=[linear+none+probe+0.3,linear+none+finetune+0.3]"
    with pytest.raises(ValueError, match=r"skip leaves no row at 0.3: take it out"):
        config_of([*arguments, "objectives=[none]", "baselines=[]", left_out])


@pytest.mark.parametrize(
    "experiment",
    [
        path if path.stem == "physionet2012" else pytest.param(path, marks=pytest.mark.slow)
        for path in sorted((Path(__file__).parents[1] / "configs/experiment").glob("*.yaml"))
    ],
)
def test_every_experiment_may_be_run_at_any_one_of_its_fractions(experiment: Path) -> None:
    whole = config_of([f"+experiment={experiment.stem}"])
    for fraction in whole.label_fractions:
        config = config_of([f"+experiment={experiment.stem}", f"label_fractions=[{fraction}]", "draws=[1]"])
        assert {cell.fraction for unit in units(config) for cell in cells(config, unit)} == {fraction}


def test_of_an_experiment_fewer_fractions_may_be_asked_for(
    arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        config = config_of([*arguments, "+finetune={finetune+0.20: {training: {max_epochs: 3}}}"])
    assert "finetune finetune+0.2: nothing, since label_fractions has no 0.2" in caplog.text
    with pytest.raises(ValueError, match="unknown key '2'"):
        dataclasses.replace(config, finetune={"finetune+2": {}})


def test_one_way_to_adapt_a_pair_may_be_left_out(arguments: list[str]) -> None:
    config = config_of([*arguments, "skip=[linear+none+probe]"])
    rows = {cell.row[2:] for unit in units(config) for cell in cells(config, unit)}
    assert rows >= {("none", "finetune"), ("mae", "probe"), ("mae", "finetune")}
    assert ("none", "probe") not in rows
    config = config_of([*arguments, "skip=[linear+none+probe+0.30]"])
    fractions = {cell.fraction for unit in units(config) for cell in cells(config, unit)}
    of_probe = {c.fraction for u in units(config) for c in cells(config, u) if c.row[2:] == ("none", "probe")}
    assert fractions == {0.3, 1.0} and of_probe == {1.0}


def test_a_sum_gets_its_parts(arguments: list[str]) -> None:
    parts = "+pretrain.sum.ssl.parts={mae:{mask_ratio:0.7},forecast:{},jepa:{weight:0.5}}"
    config = config_of([*arguments, "objectives=[sum]", parts])
    (unit, *_) = [unit for unit in units(config) if unit.objective == "sum"]
    given = work.pretrain_config(config, unit).ssl.parts
    assert given == {"mae": {"mask_ratio": 0.7}, "forecast": {}, "jepa": {"weight": 0.5}}


@pytest.mark.slow
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
            "variants.mine: unknown encoder, objective, way to adapt or baseline 'mea': did you mean 'mae'?",
        ),
    ],
)
def test_a_variant_is_new_and_of_something(variants: str, answer: str, arguments: list[str]) -> None:
    given = dataclasses.asdict(config_of(arguments)) | {"variants": yaml.safe_load(variants)}
    with pytest.raises(ValueError, match=re.escape(answer)):
        BenchmarkConfig.parse(given)


def test_what_rows_must_share_is_not_theirs_to_set(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"finetune.all: task.task_name belong to the benchmark itself"):
        config_of([*arguments, "+finetune.all.task.task_name=length_of_stay"])


def test_baselines_are_there_whatever_the_seeds(arguments: list[str]) -> None:
    own = [word for word in arguments if not word.startswith("seeds")]
    config = config_of([*own, "seeds=[3]", "+blends.mix=[logistic_regression,linear+mae+finetune]"])
    assert {unit.objective for unit in kinds(config)} == {"baseline", "mae", "none"}


def test_protocols(arguments: list[str]) -> None:
    def splits(*words: str) -> list[Any]:
        config = config_of([*(word for word in arguments if "n_folds" not in word), *words])
        return [config.data_of(u).splits for u in units(config) if (u.objective, u.seed) == ("none", 0)]

    assert [(s.n_folds, s.fold) for s in splits()] == [(5, fold) for fold in range(5)]
    (challenge,) = splits("protocol=challenge", "data.splits.train_sets=[a,b]", "data.splits.test_sets=[c]")
    assert (challenge.train_sets, challenge.test_sets, challenge.n_folds) == (("a", "b"), ("c",), None)
    five = splits("protocol=random_5x", "data.splits.seed=7")
    assert [s.seed for s in five] == [7, 8, 9, 10, 11] and {s.test_fraction for s in five} == {0.1}


@pytest.mark.slow
def test_a_folder_remembers_who_was_pretrained_on(arguments: list[str], tmp_path: Path) -> None:
    own = [*arguments, f"folder={tmp_path}/league", "objectives=[mae]"]
    same_recipe(config_of([*own, "adaptations=[probe]"]))
    with pytest.raises(ValueError, match=r"rows.linear.mae.transductive: False then, True now"):
        same_recipe(config_of([*own, "adaptations=[finetune]", "transductive=[mae]"]))
    (tmp_path / "league" / "recipe.json").write_text('{"data": {}, "task": {}, "pretrain": {}}')
    with pytest.raises(ValueError, match="of an older version"):
        same_recipe(config_of(own))
