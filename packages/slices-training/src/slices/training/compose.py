"""Where the configs lie, and how one becomes a plain dict. Loads no torch, so that ``--help`` is quick."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

PACKAGED = Path(__file__).resolve().parent / "conf"


def config_dir() -> Path:
    """Installed wheel: ``slices/training/conf``. Editable checkout: ``<repo>/configs``."""
    if PACKAGED.is_dir():
        return PACKAGED
    checkout = Path(__file__).resolve().parents[5] / "configs"
    if (checkout / "pretrain.yaml").is_file():
        return checkout
    raise FileNotFoundError(f"slices-training: no configs at {PACKAGED} or {checkout}: install it again")


def options(group: str) -> list[str]:
    """The files of a group of configs."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def command(app: str) -> str:
    """What to type for an app: its console script where it is installed, hatch's in a checkout."""
    return f"slices-{app}" if PACKAGED.is_dir() else f"hatch run train:{app}"


def composed(config: Mapping[str, Any] | DictConfig, app: str) -> dict[str, Any]:
    """The config as a plain, resolved dict of sections.

    One that was only loaded from ``configs/<app>.yaml``, and so still has its ``defaults`` list, is
    composed first: the list chooses the groups, and what was changed after loading wins.
    """
    if "defaults" in config:
        loaded = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
        config = _compose_loaded(loaded, app)
    if isinstance(config, DictConfig):
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        assert isinstance(resolved, dict)
        config = {str(key): value for key, value in resolved.items()}
    return {str(key): _plain(value) for key, value in config.items() if key != "hydra"}


def compose_app(app: str, overrides: list[str]) -> DictConfig:
    """The config of an app, composed by Hydra; also within an app that Hydra itself has started."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return compose(app, overrides=overrides)
    finally:
        GlobalHydra.instance().hydra = outer


def _plain(section: Any) -> Any:
    return OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else section


def _compose_loaded(loaded: DictConfig, app: str) -> DictConfig:
    choices = [f"{group}={_choice(loaded, group, choice)}" for group, choice in _groups(loaded)]
    base = compose_app(app, choices)
    changes = OmegaConf.masked_copy(loaded, [str(key) for key in loaded if key not in ("defaults", "hydra")])
    OmegaConf.set_struct(base, False)
    merged = OmegaConf.merge(base, changes)
    assert isinstance(merged, DictConfig)
    return merged


def _choice(loaded: DictConfig, group: str, choice: str) -> str:
    """The option whose name a section that was set after loading has; else that of the defaults list."""
    section = loaded.get(group)
    name = section.get("name") if isinstance(section, DictConfig) else None
    return name if name and (config_dir() / group / f"{name}.yaml").is_file() else choice


def _groups(loaded: DictConfig) -> list[tuple[str, str]]:
    entries = [entry for entry in loaded.defaults if isinstance(entry, DictConfig)]
    pairs = [(str(group), choice) for entry in entries for group, choice in entry.items()]
    return [(group, choice) for group, choice in pairs if choice and not group.startswith("override ")]
