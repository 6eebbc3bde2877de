"""How every app starts: Hydra composes, our errors are said in one line, the exit status tells what happened.

Status 0 is success, 2 a mistake in what was asked for (nothing has been trained), 1 a failed run, 130 one
that Ctrl-C ended (SIGINT), 143 one that was asked to end (SIGTERM).
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slices.training.apps.guard import guard_hydra
from slices.training.compose import compose_app, config_dir
from slices.training.errors import FailedRun, UserError
from slices.training.memory import told_of_memory

PLUGINS = {"hydra/launcher/submitit": "slurm", "hydra/sweeper/optuna": "sweep"}  # and what brings them
INTERRUPTED = 128 + signal.SIGINT
NO_TRIAL = "Record does not exist."  # what Optuna says where it is to name the best one
NO_SLURM = 'Could not detect "srun"'  # how submitit begins where there is none


@contextmanager
def checking_what_was_asked() -> Iterator[None]:
    """Within it, an error is the user's to mend: it is shown as one message, without a traceback."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        with told_of_memory(UserError):
            yield
    except (ValueError, TypeError, OSError, ImportError, MisconfigurationException) as error:
        raise UserError("\n".join((str(error), *getattr(error, "__notes__", ())))) from error


def launch(app: str, run: Callable[[DictConfig], float | None]) -> None:
    """Runs ``run`` on the config ``<app>.yaml`` and the command line's overrides."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us whole
    os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")  # of the version that Optuna asks for
    _unused.cache_clear()
    OmegaConf.register_new_resolver("slices.run_dir", _run_dir, replace=True)
    OmegaConf.register_new_resolver("slices.folder", _folder, replace=True)

    @functools.wraps(run)
    def job(config: DictConfig) -> float | None:
        from slices.training.apps.folder import alone_in_folder
        from slices.training.apps.ranks import as_if_alone

        with as_if_alone(), alone_in_folder(), told_of_memory(FailedRun):
            return run(config)

    try:  # an error ends a sweep after the runs that were begun with it, if the sweeper does not go on
        guard_hydra()
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=app)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        _stop(explain(error, app), 2)
    except UserError as error:
        _stop(str(error), 2)
    except FailedRun as error:
        _stop(str(error), 1)
    except OSError as error:  # a full disk, a folder that is gone
        _stop(f"{error}. What was written before is kept", 1)
    except KeyboardInterrupt:
        _stop("interrupted", INTERRUPTED)
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):  # which Lightning takes for a failure
            raise
        _stop("interrupted", INTERRUPTED)
    except Exception as error:
        if (known := _known(error)) is None:
            raise
        _stop(*known)


def _known(error: Exception) -> tuple[str, int] | None:
    """What to say of an error of a library that is no mistake of its own, nor of ours, and the status."""
    if str(error) == NO_TRIAL:
        return "no trial of the sweep has ended well: see above why", 1
    if str(error).startswith(NO_SLURM):
        return (
            "hydra/launcher=submitit_slurm starts jobs of SLURM, and there is no srun here: type it where "
            "jobs are submitted, or leave it out to have one run after the other",
            2,
        )
    # as a metric to be watched that there is not; loading Lightning to name the class would take its time
    return (str(error), 1) if type(error).__name__ == "MisconfigurationException" else None


def _run_dir(resume: str | None, fresh: str) -> str:
    """The folder of the run to resume; where there is none, the error is written to a fresh one."""
    return resume if resume and Path(str(resume)).is_dir() else _unused(fresh)


@functools.cache  # the folder is there when it is asked for again
def _unused(path: str) -> str:
    """Another name where it is taken, as by a run that was started in the same second."""
    names = (f"{path}-{i}" if i > 1 else path for i in count(1))
    return next(name for name in names if not Path(name).exists())


def _folder(path: str) -> str:
    """A folder that is made where it is not there yet."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return path


def _stop(message: str, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def explain(error: Exception, app: str) -> str:
    """Hydra's message, with the nearest key where one was misspelt."""
    message = str(error).split("Config search path:")[0].strip()
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
        if str(error).strip() not in message:
            message += f"\n{str(error).strip()}"
    for plugin, extra in PLUGINS.items():
        if f"'{plugin}" in message:
            return f"{message}\nIt comes with an extra: pip install 'slices-training[{extra}]'"
    near = _nearest(message, app)
    return f"{message}\n{near}" if near else message


def _nearest(message: str, app: str) -> str | None:
    """The keys, groups or options that the message's own words may have meant."""
    if found := re.search(r"Could not find '([\w/]+)/([\w-]+)'", message):
        group, option = found.groups()
        return _suggest(f"{group}=", option, [path.stem for path in (config_dir() / group).glob("*.yaml")])
    if found := re.search(r"full_key: ([\w.]+)", message) or re.search(r"override '([\w./@]+)'", message):
        *parents, key = re.split(r"[./]", found.group(1))
        node = _keys_under(app, parents)
        return _suggest("".join(f"{parent}." for parent in parents), key, node)
    return None


def _keys_under(app: str, parents: list[str]) -> list[str]:
    """The keys that may stand where the misspelt one does, for the groups that were chosen."""
    groups = [path.name for path in config_dir().iterdir() if path.is_dir()]
    words = [word for word in sys.argv[1:] if re.split(r"[/=]", word)[0] in groups]
    chosen = [word for word in words if "," not in word or "=[" in word]  # not the choices of a sweep
    node = OmegaConf.select(compose_app(app, chosen), ".".join(parents)) if parents else compose_app(app, [])
    return [str(key) for key in node] if isinstance(node, DictConfig) else groups


def _suggest(prefix: str, word: str, allowed: list[str]) -> str | None:
    near = difflib.get_close_matches(word, allowed, n=1)
    return f"Did you mean `{prefix}{near[0]}`?" if near and near[0] != word else None
