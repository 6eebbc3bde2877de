"""Hydra without its ways to run code: nothing that is typed, or in a YAML file, is called by its import path.

Hydra calls what ``hydra.*`` names (plugins, callbacks, whatever handles logs), but for what it knows to be
dangerous. Here it is the other way round: what is not listed is refused, before anything is called.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from hydra._internal import hydra as hydra_app
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slices.training.errors import UserError

PLUGIN = r"hydra(_plugins|\._internal\.core_plugins)\.[\w.]+"  # of which Hydra takes those that are installed
LOGGING = r"hydra\.(job|hydra)_logging\."
CALLED = {
    r"hydra\.(launcher|sweeper)\._target_": PLUGIN,
    r"hydra\.sweeper\.sampler\._target_": r"optuna\.samplers\.[A-Z]\w*",
    LOGGING + r"(handlers|formatters)\.\w+\.class": r"logging\.([A-Z]\w*|handlers\.\w*FileHandler)",
    LOGGING + r"formatters\.\w+\.\(\)": r"colorlog\.ColoredFormatter",
}
CALLS = ("_target_", "()", "class", "custom_search_space")  # keys of which the value is called
DEEPEST = 12
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


def guard_hydra() -> None:
    """From here on, Hydra composes no config that names code which is not ``CALLED``, whoever asks it to."""
    if getattr(get_args_parser().parse_known_args()[0], "experimental_rerun", None) is not None:
        raise UserError("--experimental-rerun reads a pickle, which can run code: type the overrides again")
    _refuse_packages(sys.argv[1:])
    hydra_app.ConfigLoaderImpl = GuardedLoader  # type: ignore[attr-defined]


class GuardedLoader(ConfigLoaderImpl):
    """Composes as Hydra does, also each job of a sweep; ``UserError`` where that names code."""

    def load_configuration(self, config_name: str | None, *args: Any, **kwargs: Any) -> DictConfig:
        main = self.repository.load_config(config_name) if config_name else None
        if main is not None:
            _refuse_packages(OmegaConf.select(main.config, "hydra.searchpath") or ())
        config = super().load_configuration(config_name, *args, **kwargs)
        refuse_calls(config)
        return config

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: Any, repo: Any) -> None:
        """Each job of a sweep comes here with its own overrides, as they are understood."""
        for override in parsed_overrides:
            if override.get_key_element() == "hydra.searchpath":
                _refuse_packages(override.value() or ())
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


def refuse_calls(config: DictConfig) -> None:
    """Raises ``UserError``, naming key and value, where the ``hydra`` section names code to call."""
    for key, value in _entries(config.hydra, "hydra"):
        last = key.rpartition(".")[2]
        if last in CALLS and value is not None and not _is_listed(key, str(value)):
            raise UserError(f"{key}={value} names code to run: leave it out. SLICES calls only what it knows")
        if isinstance(value, str) and re.match(r"(ext|cfg)://", value) and value not in STREAMS:
            raise UserError(f"{key}={value} names an object to import: allowed are {', '.join(STREAMS)}")


def _is_listed(key: str, value: str) -> bool:
    return any(re.fullmatch(at, key) and re.fullmatch(named, value) for at, named in CALLED.items())


def _refuse_packages(words: Any) -> None:
    for word in words:
        if "pkg://" in str(word):
            raise UserError(f"{word} imports a package for its configs: give a folder (--config-dir=...)")


def _entries(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of all that is in a config; what cannot be resolved yet is as it is written."""
    if path.count(".") > DEEPEST:
        raise UserError(f"{path} is nested too deep")
    written: Any = OmegaConf.to_container(node, resolve=False)
    for key, value in written.items() if isinstance(written, dict) else enumerate(written):
        where = f"{path}.{key}"
        if isinstance(value, dict | list) or _refers(value, where):
            try:
                value = node[key]
            except OmegaConfBaseException:
                value = str(value)
        if OmegaConf.is_config(value):
            yield from _entries(value, where)
        else:
            yield where, value


def _refers(value: Any, where: str) -> bool:
    """Could this stand for a whole section, or for what a log's handler takes?"""
    return isinstance(value, str) and "${" in value and (value.startswith("${") or "_logging." in where)
