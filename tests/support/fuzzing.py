"""What fuzz tests share: how many examples, and whether an error is one of ours."""

from __future__ import annotations

import traceback

from hypothesis import HealthCheck, Phase, settings
from omegaconf.errors import OmegaConfBaseException


def examples(number: int) -> settings:
    """So many, the same in every run, however long each takes; the first that fails is shown as it is."""
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def first_cause(error: BaseException) -> BaseException:
    """What an error was raised from in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_ours(error: BaseException) -> bool:
    """Was it raised by a line of ours, on purpose, or does the library that resolves configs name a key?"""
    if isinstance(error, OmegaConfBaseException):
        return "full_key" in str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "/slices/" in frame.filename and (frame.line or "").startswith("raise")
