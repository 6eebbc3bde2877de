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


def is_ours(error: BaseException) -> bool:
    """Was it, or what it only passes on, raised by a line of ours, on purpose and in our words?

    Of configs their own library may say which key it could not resolve.
    """
    if isinstance(error, OmegaConfBaseException):
        return True
    frame = traceback.extract_tb(error.__traceback__)[-1]
    raised_here = "/slices/" in frame.filename and (frame.line or "").startswith("raise")
    cause = error.__cause__
    if cause is None:
        return raised_here
    says_more = str(cause) not in str(error) or f"({cause})" in str(error)  # it may quote, not just pass on
    return (raised_here and says_more) or is_ours(cause)
