"""How far apart groups are: equalised odds, calibration, discrimination."""

from __future__ import annotations

import numpy as np

from slices.training.evaluation.bootstrap import percentile_interval
from slices.training.evaluation.report.parts import OVERALL, Part
from slices.training.evaluation.report.results import Draws, Estimate

ODDS = {"sensitivity": "equal_opportunity_gap", "specificity": "false_alarm_gap"}
GAPS = ODDS | {"calibration_in_the_large": "calibration_gap", "auroc": "auroc_gap"}


def gaps_of(model: str, parts: list[Part], draws: Draws, level: float) -> tuple[list[Estimate], list[str]]:
    """Largest less smallest over the groups of a grouping, and the larger of the two gaps of the odds.

    Groups whose patients are not known do not count, nor for a metric those that do not define it, as without
    a positive row; these are noted. Hardt, Price & Srebro, "Equality of opportunity in supervised learning"
    (2016) for the odds.
    """
    gaps, left_out = [], []
    for grouping in dict.fromkeys(part.key[0] for part in parts if part.compares):
        members = [part for part in parts if part.key[0] == grouping and part.compares]
        found = {}
        for metric, gap in GAPS.items():
            values = {part.key: draws[part.key][metric] for part in members if metric in draws[part.key]}
            defined = [of_group for of_group in values.values() if np.isfinite(of_group[0])]
            left_out += [key for key, of_group in values.items() if not np.isfinite(of_group[0])]
            if len(defined) > 1:
                found[gap] = np.ptp(defined, axis=0)
        if set(ODDS.values()) <= set(found):
            found["equalised_odds_gap"] = np.maximum(*(found[gap] for gap in ODDS.values()))
        size = sum(part.n_rows for part in members), sum(part.n_patients for part in members)
        gaps += [
            Estimate(model, grouping, OVERALL[0], gap, *percentile_interval(values, level), *size)
            for gap, values in found.items()
        ]
    notes = [f"{' '.join(key)}: rows of one class, not in every gap" for key in dict.fromkeys(left_out)]
    return gaps, notes
