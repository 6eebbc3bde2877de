"""Is what was left out so much that the raw data cannot be what it is taken for?"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

log = logging.getLogger(__name__)


def warn_of_losses(n_events: int, drops: Mapping[str, Mapping[str, Any]], unlabelled: Iterable[str]) -> None:
    """Warn of each rule that left out more than there are events, and of tasks left without a label.

    ``drops``: what was left out, as the manifest has it.
    """
    for rule in sorted(drops.values(), key=lambda rule: -rule["count"]):
        if rule["count"] > n_events:
            log.warning(
                "more was left out than the %s events that are there: %s x %s. See whether columns, ids, "
                "times and units are what they are taken for",
                f"{n_events:,}",
                f"{rule['count']:,}",
                rule["description"],
            )
    for task in unlabelled:
        log.warning("no stay has a label of the task %r", task)
