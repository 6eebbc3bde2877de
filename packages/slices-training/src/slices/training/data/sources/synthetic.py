"""A generator of ICU-like stays: nothing to download, seeded, made in a moment.

Six latent factors (circulation, lungs, kidneys, liver, brain, inflammation) run through each stay from
a level and with a slope that its phenotype suggests. Every variable is a noisy, patient-shifted mixture
of factors, so no single one tells much and together they tell a lot: what self-supervision can find.
Laboratory tests are taken more often while a patient is unwell. Labels come from the factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from slices.training.data.schema import EVENT_SCHEMA, LABEL_SCHEMA, Chunk, Tally, TaskInfo, Variable
from slices.training.data.sources.base import Part, Source, register_source
from slices.training.data.sources.outcomes import KNOWN, known_outcomes
from slices.training.ranges import require_seed

HOURS = 48
LOOK_AHEAD = 6  # hours: how far ahead deterioration is asked for
CHUNK = 250  # stays made at a time; they stay the same when more are asked for
PART = 100 * CHUNK
FACTORS = ("circulatory", "respiratory", "renal", "hepatic", "neurological", "inflammatory")
UNITS = ("medical", "surgical", "cardiac", "neurological")
LOS_EDGES = (4.0, 7.0, 14.0)  # days

Floats = npt.NDArray[np.floating]


@dataclass(kw_only=True)
class SyntheticConfig:
    """How many stays, from which seed, and how often a patient comes back for a second one."""

    n_stays: int = 2000
    seed: int = 0
    readmission_rate: float = 0.1

    def __post_init__(self) -> None:
        require_seed(self, "seed")
        if self.n_stays < 1:
            raise ValueError(f"n_stays={self.n_stays}: allowed is 1 or more")
        if not 0 <= self.readmission_rate <= 0.5:
            raise ValueError(f"readmission_rate={self.readmission_rate}: allowed is 0 to 0.5")


# name, unit, low, high, centre, spread, measurements an hour, what each factor adds (in spreads).
# Vital signs are centre + spread * y, laboratory values ("log") centre * exp(spread * y).
VITALS: tuple[tuple[str, str, float, float, float, float, float, tuple[float, ...]], ...] = (
    ("heart_rate", "bpm", 10, 300, 84, 15, 1.0, (0.5, 0.2, 0, 0, 0, 0.5)),
    ("sbp", "mmHg", 20, 300, 122, 18, 0.9, (-0.7, 0, 0.2, 0, 0.1, -0.2)),
    ("dbp", "mmHg", 10, 200, 62, 11, 0.9, (-0.6, 0, 0.1, 0, 0.1, -0.3)),
    ("map", "mmHg", 15, 250, 80, 12, 0.9, (-0.7, 0, 0.1, 0, 0.1, -0.3)),
    ("resp_rate", "1/min", 2, 80, 18, 4.5, 0.9, (0.1, 0.6, 0.1, 0, -0.2, 0.3)),
    ("spo2", "%", 40, 100, 97, 2.2, 0.9, (-0.2, -0.6, 0, 0, 0, -0.1)),
    ("temperature", "degC", 28, 43, 37.0, 0.6, 0.3, (0, 0, 0, -0.2, 0.1, 0.6)),
    ("gcs", "points", 3, 15, 12, 2.8, 0.25, (-0.1, -0.2, -0.1, -0.3, -0.8, -0.1)),
    ("urine_output", "mL/h", 0, 3000, 90, 40, 0.7, (-0.4, 0, -0.7, 0, 0, -0.1)),
    ("cvp", "mmHg", -5, 40, 9, 3.5, 0.2, (0.5, 0.2, 0.3, 0.1, 0, 0)),
    ("fio2", "fraction", 0.21, 1, 0.42, 0.12, 0.2, (0.1, 0.8, 0, 0, 0.1, 0.1)),
    ("peep", "cmH2O", 0, 30, 6, 2, 0.15, (0, 0.7, 0, 0, 0, 0.1)),
    ("tidal_volume", "mL", 50, 1500, 470, 80, 0.15, (0, -0.5, 0, 0, 0, 0)),
    ("icp", "mmHg", -5, 80, 9, 4, 0.03, (0, 0, 0, 0, 0.8, 0)),
    ("ph", "", 6.7, 7.8, 7.38, 0.05, 0.12, (-0.4, -0.4, -0.4, 0, 0, -0.2)),
    ("bicarbonate", "mmol/L", 3, 55, 24, 3.6, 0.07, (-0.3, 0.2, -0.5, -0.1, 0, -0.2)),
    ("sodium", "mmol/L", 100, 180, 139, 4, 0.07, (0, 0, -0.1, -0.3, 0.3, 0)),
    ("potassium", "mmol/L", 1.5, 9, 4.1, 0.5, 0.08, (0.1, 0, 0.6, 0, 0, 0)),
    ("chloride", "mmol/L", 70, 140, 104, 5, 0.07, (0.1, -0.2, 0.2, 0, 0, 0)),
    ("calcium", "mmol/L", 0.4, 3.5, 2.1, 0.18, 0.05, (-0.1, 0, -0.3, -0.2, 0, -0.2)),
    ("magnesium", "mmol/L", 0.2, 4, 0.85, 0.15, 0.05, (0, 0, 0.4, 0, 0, 0)),
    ("hematocrit", "%", 8, 65, 32, 5, 0.1, (-0.3, 0, -0.2, -0.2, 0, 0)),
    ("albumin", "g/dL", 0.8, 6, 3.1, 0.5, 0.02, (-0.1, 0, -0.1, -0.5, 0, -0.4)),
)
LABS: tuple[tuple[str, str, float, float, float, float, float, tuple[float, ...]], ...] = (
    ("lactate", "mmol/L", 0.1, 40, 1.7, 0.55, 0.06, (0.8, 0.2, 0.1, 0.4, 0, 0.3)),
    ("creatinine", "mg/dL", 0.1, 30, 1.1, 0.5, 0.07, (0.1, 0, 0.9, 0.1, 0, 0)),
    ("bun", "mg/dL", 1, 250, 21, 0.5, 0.07, (0.2, 0, 0.8, -0.1, 0, 0)),
    ("glucose", "mg/dL", 10, 1500, 130, 0.28, 0.12, (0.2, 0, 0.1, -0.1, 0.1, 0.4)),
    ("bilirubin", "mg/dL", 0.05, 70, 0.8, 0.75, 0.03, (0.1, 0, 0, 0.9, 0, 0.1)),
    ("ast", "U/L", 2, 30000, 45, 0.95, 0.03, (0.4, 0, 0, 0.8, 0, 0)),
    ("alt", "U/L", 2, 30000, 36, 0.95, 0.03, (0.3, 0, 0, 0.8, 0, 0)),
    ("alp", "U/L", 5, 5000, 85, 0.5, 0.03, (0, 0, 0, 0.7, 0, 0.1)),
    ("inr", "", 0.5, 25, 1.3, 0.3, 0.05, (0.2, 0, 0, 0.8, 0, 0.2)),
    ("platelets", "10^9/L", 1, 3000, 190, 0.5, 0.06, (-0.1, 0, -0.1, -0.6, 0, -0.3)),
    ("wbc", "10^9/L", 0.05, 500, 11, 0.45, 0.06, (0.1, 0.1, 0, -0.1, 0, 0.8)),
    ("crp", "mg/L", 0.1, 700, 45, 1.0, 0.03, (0, 0.2, 0, 0.1, 0, 0.9)),
    ("troponin", "ng/mL", 0.001, 200, 0.06, 1.2, 0.02, (0.8, 0, 0.2, 0, 0, 0)),
    ("pao2", "mmHg", 20, 700, 110, 0.35, 0.12, (0, -0.8, 0, 0, 0, -0.1)),
    ("paco2", "mmHg", 10, 150, 39, 0.18, 0.12, (-0.1, 0.5, -0.2, 0, 0.1, -0.2)),
)
DYNAMIC = VITALS + LABS
STATICS = (
    Variable(name="age", unit="years", low=16, high=110, static=True),
    Variable(name="sex", unit="1 = male", low=0, high=1, static=True),
    Variable(name="height", unit="cm", low=120, high=220, static=True),
    Variable(name="weight", unit="kg", low=30, high=250, static=True),
    *(Variable(name=f"unit_{unit}", low=0, high=1, static=True) for unit in UNITS),
)
LOW, HIGH, CENTRE, SPREAD, RATE = (np.array([row[i] for row in DYNAMIC]) for i in range(2, 7))
LOADINGS = np.array([row[7] for row in DYNAMIC]).T  # (factors, variables)

# Phenotypes: where the factors start and how far they move in 48 hours.
PHENOTYPES = np.array(
    [  # circulatory, respiratory, renal, hepatic, neurological, inflammatory
        [[0.9, 0.4, 0.4, 0.2, 0.1, 1.1], [0.3, 0.3, 0.4, 0.3, 0.1, -0.4]],  # sepsis
        [[0.8, 0.2, 0.1, -0.2, -0.3, -0.3], [-0.5, -0.2, 0.2, 0.1, 0.0, 0.2]],  # heart
        [[-0.2, 0.9, -0.3, -0.3, 0.0, 0.3], [0.1, 0.2, 0.0, 0.0, 0.1, 0.0]],  # lungs
        [[-0.4, 0.0, -0.4, -0.3, 0.9, -0.2], [0.2, 0.3, 0.0, 0.0, -0.1, 0.3]],  # head
        [[-0.3, -0.5, -0.3, -0.3, -0.2, 0.0], [-0.3, -0.4, -0.1, 0.0, -0.5, 0.3]],  # after surgery
    ]
)
PHENOTYPE_SHARE = np.array([0.2, 0.2, 0.2, 0.15, 0.25])
UNIT_SHARE = np.array(  # of each phenotype, in each unit
    [
        [0.6, 0.2, 0.1, 0.1],
        [0.2, 0.1, 0.7, 0.0],
        [0.7, 0.1, 0.1, 0.1],
        [0.2, 0.1, 0.0, 0.7],
        [0.1, 0.6, 0.3, 0.0],
    ]
)
SEVERITY = np.array([0.5, 0.4, 0.35, 0.35, 0.4, 0.25])
MORTALITY = np.array([0.7, 0.3, 0.6, 0.1, 0.8, -0.5])  # not the direction in which patients differ most


@register_source("synthetic", SyntheticConfig)
class SyntheticSource(Source):
    """Made-up stays of 48 hours with 38 dynamic variables and 8 statics."""

    variables = (
        *(Variable(name=row[0], unit=row[1], low=row[2], high=row[3]) for row in VITALS),
        *(Variable(name=row[0], unit=row[1], low=row[2], high=row[3], transform="log") for row in LABS),
        *STATICS,
    )
    tasks = (
        TaskInfo(name="in_hospital_mortality", task_type="binary", classes=("survived", "died")),
        TaskInfo(name="length_of_stay", task_type="regression"),
        TaskInfo(
            name="length_of_stay_class",
            task_type="multiclass",
            classes=("under 4 days", "4 to 7 days", "7 to 14 days", "14 days or more"),
        ),
        TaskInfo(name="organ_failure", task_type="multilabel", classes=FACTORS[:5]),
        TaskInfo(name="deterioration", task_type="binary", classes=("stable", "unwell"), per_step=True),
    )
    outcomes = KNOWN
    cut = f"after {HOURS} hours"
    config: SyntheticConfig

    def parts(self) -> Sequence[Part]:
        """``PART`` stays each, named by the first and the last."""
        total = self.config.n_stays
        return [Part(f"{start + 1}-{min(start + PART, total)}") for start in range(0, total, PART)]

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        first, last = map(int, part.name.split("-"))
        for start in range(first - 1, last, CHUNK):
            rng = np.random.default_rng([self.config.seed, start])
            stop = min(start + CHUNK, last)
            yield _first(_chunk(start, self.config.readmission_rate, rng), stop)


def _first(chunk: Chunk, stop: int) -> Chunk:
    wanted = pl.col("stay_id") <= stop
    outcomes = None if chunk.outcomes is None else chunk.outcomes.filter(wanted)
    return Chunk(
        chunk.stays.filter(wanted), chunk.events.filter(wanted), chunk.labels.filter(wanted), outcomes
    )


def _chunk(start: int, readmission_rate: float, rng: np.random.Generator) -> Chunk:
    """Stays ``start + 1`` to ``start + CHUNK``."""
    owner = np.arange(CHUNK)
    again = rng.random(CHUNK) < readmission_rate
    again[0] = False
    again[1:] &= ~again[:-1]
    owner[again] -= 1
    phenotype = rng.choice(len(PHENOTYPES), CHUNK, p=PHENOTYPE_SHARE)
    statics = _statics(phenotype, owner, rng)
    factors = _trajectories(phenotype, rng)
    stay_id = np.arange(CHUNK) + start + 1
    stays = pl.DataFrame({"stay_id": stay_id, "patient_id": owner + start + 1}).with_columns(
        set=pl.lit("synthetic"), length_hours=pl.lit(float(HOURS))
    )
    events = _events(stay_id, owner, factors, statics, rng)
    labels = _labels(stay_id, factors, statics, rng)
    return Chunk(stays, events, labels, known_outcomes(labels))


def _statics(
    phenotype: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """(stays, statics) in the order of STATICS; a patient's own are the same in both stays."""
    age = np.clip(rng.normal(64, 16, CHUNK), 18, 95).round()
    sex = (rng.random(CHUNK) < 0.56).astype(float)
    height = np.clip(rng.normal(162 + 13 * sex, 8), 135, 210).round()
    weight = np.clip((height / 100) ** 2 * rng.lognormal(np.log(27), 0.2, CHUNK), 35, 220).round(1)
    unit = (rng.random(CHUNK)[:, None] > UNIT_SHARE.cumsum(axis=1)[phenotype]).sum(axis=1)
    own = np.stack([age, sex, height, weight], axis=1)[owner]
    return np.concatenate([own, np.eye(len(UNITS))[np.minimum(unit, len(UNITS) - 1)]], axis=1)


def _trajectories(phenotype: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """The latent factors, (stays, hours, factors): level, slope and an AR(1) wander."""
    n_hours = HOURS + LOOK_AHEAD
    level = PHENOTYPES[phenotype, 0] + 0.7 * rng.standard_normal((CHUNK, len(FACTORS)))
    slope = PHENOTYPES[phenotype, 1] + 0.8 * rng.standard_normal((CHUNK, len(FACTORS)))
    wander = 0.5 * rng.standard_normal((CHUNK, n_hours, len(FACTORS)))
    for hour in range(1, n_hours):
        wander[:, hour] = 0.93 * wander[:, hour - 1] + np.sqrt(1 - 0.93**2) * wander[:, hour]
    hours = np.arange(n_hours)[:, None] / HOURS
    return np.asarray(level[:, None] + slope[:, None] * hours + wander)


def _events(
    stay_id: npt.NDArray[np.int64],
    owner: npt.NDArray[np.int64],
    factors: Floats,
    statics: Floats,
    rng: np.random.Generator,
) -> pl.DataFrame:
    n_variables = len(DYNAMIC)
    unwell = np.exp(0.45 * (factors[:, :HOURS] @ SEVERITY))[..., None]
    boost = np.where(RATE >= 0.5, 1.0, unwell)  # bedside monitoring runs anyway
    habit = rng.gamma(4, 0.25, (CHUNK, 1, n_variables))  # some are measured more often than others
    covered = rng.random((CHUNK, HOURS, 1)) > 0.04
    gap = np.abs(np.arange(HOURS) - rng.integers(0, HOURS, (CHUNK, 1))) < rng.integers(0, 4, (CHUNK, 1))
    rate = RATE * boost * habit * covered * ~gap[..., None]
    stay, hour, variable = np.nonzero(rng.random(rate.shape, dtype=np.float32) < rate)
    again = np.flatnonzero(rng.random(len(stay)) < 0.05)  # measured twice within the hour
    stay, hour, variable = (np.concatenate([part, part[again]]) for part in (stay, hour, variable))
    shift = 1.4 * rng.standard_normal((CHUNK, n_variables))[owner]
    signal = (factors[:, :HOURS].astype(np.float32) @ LOADINGS.astype(np.float32))[stay, hour, variable]
    noise = 0.8 * rng.standard_t(4, len(stay))
    y = signal + shift[stay, variable] + noise
    is_log = np.arange(n_variables) >= len(VITALS)
    scaled = SPREAD[variable] * y
    value = CENTRE[variable] * np.exp(np.where(is_log[variable], scaled, 0)) + np.where(
        is_log[variable], 0, scaled
    )
    value = np.clip(value, LOW[variable], HIGH[variable])
    value[rng.random(len(value)) < 0.0005] *= 10  # a slipped decimal point
    # A round at the bedside and a blood sample an hour: what is taken together shares its minute.
    round_or_sample = (RATE < 0.15)[variable] + 2 * (np.arange(len(stay)) >= len(stay) - len(again))
    minute = rng.integers(0, 60, (4, CHUNK, HOURS))[round_or_sample, stay, hour]
    n_stays, n_statics = statics.shape
    return pl.DataFrame(
        {
            "stay_id": np.concatenate([stay_id[stay], np.repeat(stay_id, n_statics)]),
            "time": np.concatenate([hour + minute / 60, np.zeros(n_stays * n_statics)]),
            "variable": np.concatenate([variable, np.tile(np.arange(n_statics) + n_variables, n_stays)]),
            "value": np.concatenate([value.round(3), statics.ravel()]),
        }
    ).cast(EVENT_SCHEMA)


def _labels(
    stay_id: npt.NDArray[np.int64], factors: Floats, statics: Floats, rng: np.random.Generator
) -> pl.DataFrame:
    severity = factors @ SEVERITY + 0.5 * np.maximum(factors[..., 0], 0) * np.maximum(factors[..., 1], 0)
    late = severity[:, 36:HOURS].mean(axis=1) + 0.02 * (statics[:, 0] - 64)
    risk = factors[:, 36:HOURS].mean(axis=1) @ MORTALITY + 0.3 * late + 0.02 * (statics[:, 0] - 64)
    died = risk + rng.logistic(0, 0.8, CHUNK) > 3.0
    days = np.maximum(2.0, np.exp(1.75 + 0.4 * late + 0.35 * rng.standard_normal(CHUNK))).round(1)
    second_day = factors[:, 24:HOURS, :5].mean(axis=1) + 0.3 * rng.standard_normal((CHUNK, 5))
    failure = second_day > np.array([1.2, 1.2, 1.1, 1.0, 1.2])
    ahead = np.lib.stride_tricks.sliding_window_view(severity[:, 1:], LOOK_AHEAD, axis=1).mean(axis=-1)
    unwell = ahead[:, :HOURS] + 0.4 * rng.standard_normal((CHUNK, HOURS)) > 2.2
    return pl.concat(
        [
            _label("in_hospital_mortality", stay_id, HOURS, died),
            _label("length_of_stay", stay_id, HOURS, days),
            _label("length_of_stay_class", stay_id, HOURS, np.digitize(days, LOS_EDGES)),
            *(_label("organ_failure", stay_id, 24, failure[:, column], column) for column in range(5)),
            *(_label("deterioration", stay_id, hour + 1, unwell[:, hour]) for hour in range(HOURS)),
        ]
    )


def _label(
    task: str, stay_id: npt.NDArray[np.int64], hour: float, value: npt.NDArray[np.generic], column: int = 0
) -> pl.DataFrame:
    return (
        pl.DataFrame({"stay_id": stay_id, "value": value.astype(np.float64)})
        .with_columns(task=pl.lit(task), prediction_time=pl.lit(hour), column=pl.lit(column))
        .select(LABEL_SCHEMA.keys())
        .cast(LABEL_SCHEMA)
    )
