"""Losses that jump: far above what they were."""

from __future__ import annotations

import statistics
from collections import deque

WINDOW = 100  # losses that a new one is compared with, and steps without a second report
FEWEST = 20  # of them, before anything is said
DEVIATIONS = 6.0  # above the median, in robust standard deviations
LEAST = 0.01  # of the median: what a deviation is at least


class Spikes:
    """Compares each loss with the last ones: with their median, in units of their median absolute deviation.

    >>> spikes = Spikes()
    >>> [spikes.median_below(1 + 0.1 * (i % 3)) for i in range(50)] == [None] * 50
    True
    >>> spikes.median_below(5.0)
    1.1
    """

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.silent = 0
        """Steps until a spike is reported again, if above 0."""

    def median_below(self, loss: float) -> float | None:
        """The median of the last losses, where this one is a spike above it, and none was just reported."""
        self.silent -= 1
        found = self._median_far_below(loss) if self.silent <= 0 else None
        self.recent.append(loss)
        if found is not None:
            self.silent = WINDOW
        return found

    def _median_far_below(self, loss: float) -> float | None:
        if len(self.recent) < FEWEST or loss <= max(self.recent):
            return None
        median = statistics.median(self.recent)
        deviation = 1.4826 * statistics.median(abs(value - median) for value in self.recent)
        far = DEVIATIONS * max(deviation, LEAST * abs(median))
        return median if loss > median + far else None
