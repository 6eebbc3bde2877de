"""The variables of the PhysioNet/CinC Challenge 2012, their plausible ranges and usual unit mix-ups."""

from __future__ import annotations

from typing import Any

from slices.training.data.schema import Repair, Variable

ICU_TYPES = ("coronary", "cardiac_surgery", "medical", "surgical")  # ICUType 1 to 4

_IDENTITY = (
    ("Albumin", "g/dL", 0.5, 7),
    ("Cholesterol", "mg/dL", 20, 1000),
    ("DiasABP", "mmHg", 10, 200),
    ("FiO2", "fraction", 0.21, 1),
    ("GCS", "points", 3, 15),
    ("HCO3", "mmol/L", 2, 60),
    ("HCT", "%", 5, 75),
    ("HR", "bpm", 10, 300),
    ("K", "mmol/L", 1, 12),
    ("MAP", "mmHg", 15, 250),
    ("MechVent", "1 = ventilated", 1, 1),
    ("Mg", "mg/dL", 0.2, 12),
    ("Na", "mmol/L", 90, 190),
    ("NIDiasABP", "mmHg", 10, 200),
    ("NIMAP", "mmHg", 15, 250),
    ("NISysABP", "mmHg", 20, 300),
    ("PaCO2", "mmHg", 5, 200),
    ("pH", "", 6.5, 8),
    ("RespRate", "1/min", 2, 100),
    ("SaO2", "%", 20, 100),
    ("SysABP", "mmHg", 20, 300),
    ("Temp", "degC", 25, 45),
    ("Weight", "kg", 20, 300),
)
_LOG = (
    ("ALP", "U/L", 1, 10000),
    ("ALT", "U/L", 1, 30000),
    ("AST", "U/L", 1, 30000),
    ("Bilirubin", "mg/dL", 0, 100),
    ("BUN", "mg/dL", 0, 300),
    ("Creatinine", "mg/dL", 0.05, 40),
    ("Glucose", "mg/dL", 5, 2000),
    ("Lactate", "mmol/L", 0.05, 50),
    ("PaO2", "mmHg", 15, 700),
    ("Platelets", "10^9/L", 1, 3000),
    ("TroponinI", "ug/L", 0, 1000),
    ("TroponinT", "ug/L", 0, 200),
    ("WBC", "10^9/L", 0, 1000),
)
# Mix-ups of units that can be told, by variable: rule, description, low, high, factor, offset.
_REPAIRS = {
    "pH": (
        ("pH_times_100", "pH of 735 for 7.35", 650, 800, 0.01, 0),
        ("pH_times_10", "pH of 73.5 for 7.35", 65, 80, 0.1, 0),
    ),
    "Temp": (
        ("Temp_fahrenheit", "a temperature of 77 to 113, taken as Fahrenheit", 77, 113, 5 / 9, -160 / 9),
    ),
    "FiO2": (("FiO2_percent", "FiO2 of 21 to 100, taken as percent", 21, 100, 0.01, 0),),
    "SaO2": (("SaO2_fraction", "SaO2 of 0.2 to 1, taken as a fraction", 0.2, 1, 100, 0),),
    "HCT": (("HCT_fraction", "a hematocrit of 0.1 to 0.75, taken as a fraction", 0.1, 0.75, 100, 0),),
    "Height": (
        ("Height_metres", "a height of 1.2 to 2.3, taken as metres", 1.2, 2.3, 100, 0),
        ("Height_inches", "a height of 48 to 90, taken as inches", 48, 90, 2.54, 0),
        ("Height_twice", "a height of 305 to 584, 2.54 times the centimetres", 305, 584, 1 / 2.54, 0),
    ),
    "Weight": (("Weight_grams", "a weight of 20000 to 300000, taken as grams", 20000, 300000, 0.001, 0),),
}


def _repair(rule: str, description: str, low: float, high: float, factor: float, offset: float) -> Repair:
    return Repair(rule=rule, description=description, low=low, high=high, factor=factor, offset=offset)


def _variable(name: str, unit: str, low: float, high: float, **options: Any) -> Variable:
    repairs = tuple(_repair(*row) for row in _REPAIRS.get(name, ()))
    return Variable(name=name, unit=unit, low=low, high=high, repairs=repairs, **options)


DYNAMIC = (
    *(_variable(*row) for row in _IDENTITY),
    *(_variable(*row, transform="log") for row in _LOG),
    _variable("Urine", "mL", 0, 5000, transform="log", aggregate="sum"),
)
STATIC = (
    _variable("Age", "years", 0, 120, static=True),
    _variable("Gender", "1 = male", 0, 1, static=True),
    _variable("Height", "cm", 120, 230, static=True),
    *(_variable(f"ICUType_{icu}", "", 0, 1, static=True) for icu in ICU_TYPES),
)
VARIABLES = DYNAMIC + STATIC
POSITION = {variable.name: i for i, variable in enumerate(VARIABLES)}
DESCRIPTORS = ("RecordID", "Age", "Gender", "Height", "ICUType")
ALIASES = {"TropI": "TroponinI", "TropT": "TroponinT"}  # as the challenge's own description spells them
