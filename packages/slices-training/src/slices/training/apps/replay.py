"""``slices-replay``: a finished run once more, and whether it ends the same."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, read_write

from slices.training.apps.baseline import baseline
from slices.training.apps.finetune import finetune
from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.apps.pretrain import pretrain
from slices.training.compose import command
from slices.training.errors import FailedRun, UserError
from slices.training.yaml_files import read_config

if TYPE_CHECKING:
    from slices.training.config import ReplayConfig

log = logging.getLogger(__name__)
APPS = {"pretrain": pretrain, "finetune": finetune, "baseline": baseline}


def replay(config: DictConfig) -> None:
    """Does in a new folder what was done in a run's, and raises ``FailedRun`` where it ends otherwise."""
    import torch
    from hydra.core.hydra_config import HydraConfig

    from slices.training.apps.comparing import as_table, differences, other_ends
    from slices.training.apps.ranks import is_rank_zero, only_rank_zero_speaks
    from slices.training.apps.record import read_record
    from slices.training.config import ReplayConfig
    from slices.training.environment import environment

    with checking_what_was_asked():
        only_rank_zero_speaks()
        parsed = ReplayConfig.parse(config)
        if parsed.run is None:
            raise UserError(
                f"run is missing: give its folder, as in `{command('replay')} outputs/pretrain/mine`"
            )
        run, folder = Path(parsed.run), Path(HydraConfig.get().runtime.output_dir)
        then = _finished(run)
        torch.set_num_threads(then["hardware"]["threads"])  # a sum depends on how many share it
        if differing := differences(then, environment()):
            log.warning("other than in %s:\n%s", run, as_table(differing))
        again = _config_of(run, then, parsed)
        _as_if_typed(then)
    APPS[then["app"]](again)
    if is_rank_zero():
        if differing := other_ends(run, folder):
            raise FailedRun(f"{folder} ended otherwise than {run}:\n{as_table(differing)}")
        n_metrics = len(then["metrics"].keys() & read_record(folder)["metrics"].keys())
        log.info("the same as %s, bit for bit: %d metrics and what was learnt", run, n_metrics)


def _finished(run: Path) -> dict[str, Any]:
    from slices.training.apps.record import read_record

    then = read_record(run)
    if then["app"] not in APPS:
        raise UserError(f"{run} is a run of {then['app']}: replayed are those of {', '.join(APPS)}")
    if then["outcome"] != "complete":
        raise UserError(
            f"the run in {run} is {then['outcome']}, not complete: end it first, as with "
            f"`{command(then['app'])} resume={run}`"
        )
    return then


def _config_of(run: Path, then: Mapping[str, Any], parsed: ReplayConfig) -> DictConfig:
    """The run's own, but that nothing is written, or gone on with, outside the folder of the replay."""
    again = read_config(run / "config.yaml")
    for name, nothing in (("resume", None), ("encoder_path", None), ("loggers", [])):
        if name in again:
            again[name] = nothing
    _refuse_other_data(again, then["data"]["dataset"], parsed.allow_other_data)
    if then["starts_from"] is not None:
        again.checkpoint_path = parsed.checkpoint_path or again.checkpoint_path
        _refuse_other_start(again.checkpoint_path, then["starts_from"])
    elif parsed.checkpoint_path is not None:
        raise UserError(f"checkpoint_path: the run in {run} started from no encoder; leave it out")
    return again


def _refuse_other_data(config: DictConfig, then: str, allowed: bool) -> None:
    from slices.training.data.store import Manifest

    place = Path(str(config.data.dataset_dir))
    now = Manifest.read(place).fingerprint  # nothing is prepared, or fetched, for it
    if now == then:
        return
    message = f"{place} holds other data than the run had (fingerprint {then} then, {now} now)"
    if not allowed:
        raise UserError(f"{message}: prepare that of then, or use allow_other_data=true")
    log.warning("%s", message)


def _refuse_other_start(path: str, then: str) -> None:
    from slices.training.apps.record import digest_of_encoder

    if digest_of_encoder(path) != then:
        raise UserError(
            f"{path} is not the encoder that the run started from: give checkpoint_path=..., where that "
            "one lies (pretraining leaves it in its own folder, too)"
        )


def _as_if_typed(then: Mapping[str, Any]) -> None:
    """What the app is told of its command line is that of then."""
    from hydra.core.hydra_config import HydraConfig

    hydra = cast(DictConfig, HydraConfig.get())
    with read_write(hydra):
        hydra.job.config_name, hydra.overrides.task = then["app"], then["overrides"]


def named(words: Sequence[str]) -> list[str]:
    """The folder of the run may come first, and alone.

    >>> named(["outputs/pretrain/mine", "allow_other_data=true"])
    ['run=outputs/pretrain/mine', 'allow_other_data=true']
    """
    first, *others = words or [""]
    return [first if "=" in first or first[:1] in ("-", "") else f"run={first}", *others] if first else []


def main() -> None:
    sys.argv[1:] = named(sys.argv[1:])
    launch("replay", replay)


if __name__ == "__main__":
    main()
