"""Heads by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .attention import AttentionHead
from .base import BaseTaskHead
from .config import TaskHeadConfig
from .heads import LinearHead, MLPHead
from .registry import Registry, make_config

HeadClass = TypeVar("HeadClass", bound=type[BaseTaskHead])

TASK_HEAD_REGISTRY: Registry[type[BaseTaskHead]] = Registry("task head", "slices.heads")
"""Head classes by name. Other packages add theirs here, or through the entry-point group ``slices.heads``."""

TASK_HEAD_REGISTRY["linear"] = LinearHead
TASK_HEAD_REGISTRY["mlp"] = MLPHead
TASK_HEAD_REGISTRY["attention"] = AttentionHead


def register_head(name: str) -> Callable[[HeadClass], HeadClass]:
    """Class decorator that registers a head under ``name``.

    >>> @register_head("demo")
    ... class DemoHead(LinearHead):
    ...     pass
    >>> TASK_HEAD_REGISTRY.pop("demo").__name__
    'DemoHead'
    """

    def add(head: HeadClass) -> HeadClass:
        TASK_HEAD_REGISTRY[name] = head
        return head

    return add


def build_task_head(config: TaskHeadConfig | Mapping[str, Any]) -> BaseTaskHead:
    """The head that ``config.name`` names, from a ``TaskHeadConfig`` or a mapping of its fields.

    Raises ``ValueError`` for an unknown head or option (with the nearest one), a bad value, or a
    missing ``input_dim`` or ``n_classes``; ``TypeError`` for a value of the wrong type.

    >>> build_task_head({"name": "linear", "input_dim": 64, "dropout": 0.0}).output_dim
    2
    """
    config = make_config(TaskHeadConfig, config, "task head")
    return TASK_HEAD_REGISTRY.find(config.name)(config)


def list_heads(pattern: str = "*") -> list[str]:
    """The sorted names of all heads that match a shell pattern.

    >>> list_heads("m*")
    ['mlp']
    """
    return TASK_HEAD_REGISTRY.names(pattern)
