"""``slices-benchmark``: a league table of encoders, objectives and ways to adapt."""

from __future__ import annotations

import logging
import os
from concurrent.futures import as_completed
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from slices.training.apps.launch import checking_what_was_asked, explain, launch

if TYPE_CHECKING:
    from slices.training.benchmark.config import BenchmarkConfig

log = logging.getLogger(__name__)


def benchmark(config: DictConfig) -> float:
    """Does the cells that are still to do, writes the table. Returns its best first metric; of a share 0."""
    from hydra.core.hydra_config import HydraConfig

    from slices.training.apps.run import Cost
    from slices.training.benchmark.config import BenchmarkConfig
    from slices.training.benchmark.recipe import same_recipe
    from slices.training.benchmark.table import best_score, league, write_league
    from slices.training.benchmark.work import do_unit, still_to_do
    from slices.training.data.prepare import prepare_dataset
    from slices.training.report.benchmark import benchmark_page
    from slices.training.report.facts import typed
    from slices.training.report.leaving import leave_report
    from slices.training.workers import workers

    cost = Cost()
    with checking_what_was_asked():
        parsed = BenchmarkConfig.parse(config)
        folder = Path(parsed.folder)
        prepare_dataset(parsed.data.build_source(), parsed.data.dataset_dir)
        _check(parsed)
        same_recipe(parsed)
    todo = [unit for unit in parsed.work() if still_to_do(parsed, unit)]
    threads = max(1, cores() // parsed.jobs)
    log.info("%d units of work, %d at a time with %d threads each", len(todo), parsed.jobs, threads)
    with workers(parsed.jobs, tasks_each=1) as pool:  # memory is a process's
        running = [pool.submit(do_unit, parsed, unit, threads) for unit in todo]
        for done, future in enumerate(as_completed(running), start=1):
            log.info("%d/%d  %s", done, len(todo), future.result().key)
    if parsed.share is not None:
        log.info("share %s is done, after %s; a run without share makes the table", parsed.share, cost)
        return 0.0
    table = league(parsed)
    made_by = typed("benchmark", HydraConfig.get().overrides.task)
    log.info("\n%s", write_league(table, folder, made_by))
    leave_report(folder, lambda: benchmark_page(table, parsed, HydraConfig.get().overrides.task))
    log.info("tables: %s and %s, after %s", folder / "league.md", folder / "league.csv", cost)
    return best_score(table)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(config: BenchmarkConfig) -> None:
    """Raises ``ValueError`` for what would stop a unit of work, before any is begun."""
    from slices.encoders.registry import unknown
    from slices.training.benchmark.cells import kinds
    from slices.training.benchmark.work import check_finetuning, check_pretraining
    from slices.training.data.datamodule import dataset_info
    from slices.training.quiet import quiet_lightning

    task, tasks = config.task, dataset_info(config.data).tasks
    if task.task_name not in tasks:
        raise ValueError(unknown("task", task.task_name, tasks))
    if tasks[task.task_name].task_type != task.task_type:
        raise ValueError(
            f"task {task.task_name!r} is {tasks[task.task_name].task_type}, not {task.task_type}"
        )
    for name in config.baselines:
        for other in config.baseline_options(name).also:
            if other not in tasks:
                raise ValueError(f"baseline.{name}.also: {unknown('task', other, tasks)}")
            if other == task.task_name or tasks[other].task_type == "survival":
                what = (
                    "the first task"
                    if other == task.task_name
                    else "a survival task, which no baseline learns"
                )
                raise ValueError(f"baseline.{name}.also: {other} is {what}; leave it out")
    quiet_lightning()
    checks = (("pretrain", check_pretraining), ("finetune", check_finetuning))
    for unit, (app, check) in product(kinds(config), checks):
        what = f"{app}, encoder {unit.encoder}, objective {unit.objective}"
        try:
            check(config, unit)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(f"{what}: {explain(error, app)}") from error
        except (ValueError, TypeError, ImportError) as error:
            raise ValueError(f"{what}: {error}") from error


def main() -> None:
    launch("benchmark", benchmark)


if __name__ == "__main__":
    main()
