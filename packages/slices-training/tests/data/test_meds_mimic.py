"""The ready mapping for MIMIC-IV, on the demo of 100 patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slices.training.data import StayStore, build_source, prepare_dataset

MORTALITY = {"file": "tasks/ICU Mortality first 24h.parquet", "task_type": "binary"}
MEDIANS = {  # between which the median of a stay in intensive care lies
    "alb": (2, 4),
    "alp": (60, 150),
    "alt": (15, 80),
    "ast": (20, 120),
    "be": (-4, 3),
    "bicar": (20, 27),
    "bili": (0.4, 2),
    "bili_dir": (0.5, 6),
    "bnd": (0, 5),
    "bun": (15, 35),
    "ca": (7.5, 9.2),
    "cai": (1.0, 1.25),
    "ck": (60, 600),
    "ckmb": (2, 12),
    "cl": (98, 110),
    "crea": (0.7, 1.6),
    "crp": (5, 200),
    "dbp": (50, 75),
    "fgn": (180, 450),
    "fio2": (35, 55),
    "glu": (105, 160),
    "hct": (25, 36),
    "hgb": (8, 12),
    "hr": (70, 100),
    "inr_pt": (1.0, 1.7),
    "k": (3.7, 4.5),
    "lact": (1, 3),
    "lymph": (6, 25),
    "map": (65, 90),
    "mch": (27, 33),
    "mchc": (31, 35),
    "mcv": (84, 97),
    "mg": (1.8, 2.4),
    "na": (135, 142),
    "neut": (60, 85),
    "o2sat": (94, 99),
    "pco2": (34, 48),
    "ph": (7.32, 7.45),
    "phos": (2.5, 4.5),
    "plt": (120, 260),
    "po2": (70, 140),
    "ptt": (26, 45),
    "resp": (15, 24),
    "sbp": (100, 135),
    "temp": (36.3, 37.5),
    "tgcs": (8, 15),
    "tnt": (0.01, 1),
    "urine": (40, 180),
    "vent_ind": (1, 1),
    "wbc": (7, 14),
    "age": (50, 75),
    "sex": (0, 1),
    "height": (160, 180),
    "weight": (65, 95),
}
DESCRIBED = {  # a part of the description of each laboratory code of a variable
    "alb": "Albumin [Mass/volume] in Serum",
    "alp": "Alkaline phosphatase",
    "alt": "Alanine aminotransferase",
    "ast": "Aspartate aminotransferase",
    "be": "Base excess in Blood",
    "bicar": "Bicarbonate [Moles/volume] in",
    "bili": "Bilirubin.total [Mass/volume] in Serum",
    "bili_dir": "Bilirubin.direct",
    "bnd": "Band form neutrophils/100 leukocytes in Blood",
    "bun": "Urea nitrogen [Mass/volume] in Serum",
    "ca": "Calcium [Mass/volume] in Serum",
    "cai": "Calcium.ionized",
    "ck": "Creatine kinase [Enzymatic",
    "ckmb": "Creatine kinase.MB [Mass",
    "cl": "Chloride [Moles/volume] in",
    "crea": "Creatinine [Mass/volume] in",
    "crp": "C reactive protein",
    "fgn": "Fibrinogen",
    "fio2": "Inhaled oxygen concentration",
    "glu": "Glucose [Mass/volume] in",
    "hct": "Hematocrit [Volume Fraction] of Blood",
    "hgb": "Hemoglobin [Mass/volume] in Blood",
    "inr_pt": "INR in",
    "k": "Potassium [Moles/volume] in",
    "lact": "Lactate [Moles/volume] in Blood",
    "lymph": "Lymphocytes/100 leukocytes in Blood",
    "mch": "MCH ",
    "mcv": "MCV ",
    "methb": "Methemoglobin",
    "mg": "Magnesium [Mass/volume] in Serum",
    "na": "Sodium [Moles/volume] in",
    "neut": "Neutrophils/100 leukocytes in Blood",
    "pco2": "Carbon dioxide [Partial pressure] in Blood",
    "ph": "pH of Blood",
    "phos": "Phosphate [Mass/volume] in Serum",
    "plt": "Platelets",
    "po2": "Oxygen [Partial pressure] in Blood",
    "ptt": "aPTT",
    "tnt": "Troponin T",
    "wbc": "Leukocytes [#/volume] in Blood",
}


@pytest.fixture(scope="module")
def raw(shared_data: Path) -> Path:
    path = shared_data / "mimic-iv-demo-meds"
    if not path.is_dir():
        pytest.skip(f"no MIMIC-IV demo at {path}")
    return path


def source(raw: Path, **options: Any) -> Any:
    return build_source({"name": "meds", "raw": str(raw), "labels": {"icu_mortality": MORTALITY}} | options)


@pytest.fixture(scope="module")
def demo(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> StayStore:
    return prepare_dataset(source(raw), tmp_path_factory.mktemp("meds") / "demo")


def test_every_stay_and_label_of_the_demo_is_there(demo: StayStore) -> None:
    counts = demo.manifest.counts
    assert (counts["stays"], counts["patients"], counts["labels"]) == (140, 100, 74)
    assert set(demo.stays["set"]) == {"train", "tuning", "held_out"}
    labels = demo.labels("icu_mortality")
    assert set(labels["prediction_time"]) == {24.0}
    assert labels["value"].sum() == 9
    lost = demo.manifest.drops
    assert not [rule for rule in lost if "label" in rule or rule in ("start_without_end", "no_split")]
    assert lost["out_of_range"]["count"] < 0.001 * counts["events"]


def test_variables_have_plausible_medians(demo: StayStore) -> None:
    found = {}
    for position, variable in enumerate(demo.variables):
        values = demo.value[demo.variable == position]
        if len(values):
            found[variable.name] = float(np.median(values))
    assert len(found) >= 35 and found.keys() == MEDIANS.keys()
    odd = {name: value for name, value in found.items() if not MEDIANS[name][0] <= value <= MEDIANS[name][1]}
    assert not odd


def test_common_variables_are_there_in_nearly_every_stay(demo: StayStore) -> None:
    stay = np.repeat(np.arange(len(demo)), np.diff(demo.offsets))
    for name in ("hr", "sbp", "map", "resp", "o2sat", "temp", "tgcs", "crea", "na", "glu", "urine", "age"):
        position = [variable.name for variable in demo.variables].index(name)
        assert len(np.unique(stay[demo.variable == position])) >= 0.95 * len(demo), name


def test_laboratory_codes_are_described_as_what_they_are_mapped_to(raw: Path) -> None:
    codes = pl.read_parquet(raw / "metadata" / "codes.parquet", columns=["code", "description"]).drop_nulls()
    of_code = source(raw).codes
    claims = of_code.table(codes["code"]).join(codes, on="code")
    mapped = {
        (of_code.variables[row["variable"]].name, row["description"]) for row in claims.iter_rows(named=True)
    }
    assert len(mapped) >= 40
    assert not {(name, what) for name, what in mapped if DESCRIBED[name] not in what}


def test_whole_records_hold_what_lies_outside_intensive_care(
    raw: Path, demo: StayStore, tmp_path: Path
) -> None:
    whole = prepare_dataset(source(raw, stays=None, labels={}), tmp_path / "whole").manifest
    assert whole.counts["stays"] == whole.counts["patients"] == 100
    assert whole.counts["events"] > 1.2 * demo.manifest.counts["events"]
    assert "outside_stays" not in whole.drops
