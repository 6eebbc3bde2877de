"""How far apart groups are: equalised odds, calibration, discrimination."""

from __future__ import annotations

import numpy as np

from slices.training.evaluation.bootstrap import percentile_interval
from slices.training.evaluation.report.parts import OVERALL, Part
from slices.training.evaluation.report.results import Draws, Estimate

ODDS = {"sensitivity": "equal_opportunity_gap", "specificity": "false_alarm_gap"}
GAPS = ODDS | {"calibration_in_the_large": "calibration_gap", "auroc": "auroc_gap"}


def gaps_of(model: str, parts: list[Part], draws: Draws, level: float) -> list[Estimate]:
    """Largest less smallest over the groups of a grouping, and the larger of the two gaps of the odds.

    Groups whose patients are not known do not count. Hardt, Price & Srebro, "Equality of opportunity in
    supervised learning" (2016) for the odds.
    """
    gaps = []
    for grouping in dict.fromkeys(part.key[0] for part in parts if part.compares):
        members = [part for part in parts if part.key[0] == grouping and part.compares]
        if len(members) < 2:
            continue
        found = {
            gap: np.ptp([draws[part.key][metric] for part in members], axis=0)
            for metric, gap in GAPS.items()
            if all(metric in draws[part.key] for part in members)
        }
        if set(ODDS.values()) <= set(found):
            found["equalised_odds_gap"] = np.maximum(*(found[gap] for gap in ODDS.values()))
        size = sum(part.n_rows for part in members), sum(part.n_patients for part in members)
        gaps += [
            Estimate(model, grouping, OVERALL[0], gap, *percentile_interval(values, level), *size)
            for gap, values in found.items()
        ]
    return gaps
