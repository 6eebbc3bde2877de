"""Tasks as configuration: what is predicted, when, and from what its labels are made."""

from slices.training.data.definitions.base import (
    DEFINITION_REGISTRY,
    OUTCOME_SCHEMA,
    Candidates,
    Definition,
    Records,
    register_definition,
)
from slices.training.data.definitions.build import (
    build_definitions,
    check_definitions,
    define,
    define_labels,
)
from slices.training.data.definitions.kdigo_aki import KdigoAKI
from slices.training.data.definitions.length_of_stay import LengthOfStay
from slices.training.data.definitions.mortality import Mortality
from slices.training.data.definitions.remaining_length_of_stay import RemainingLengthOfStay
from slices.training.data.definitions.time_to_death import TimeToDeath

__all__ = [
    "DEFINITION_REGISTRY",
    "OUTCOME_SCHEMA",
    "Candidates",
    "Definition",
    "KdigoAKI",
    "LengthOfStay",
    "Mortality",
    "Records",
    "RemainingLengthOfStay",
    "TimeToDeath",
    "build_definitions",
    "check_definitions",
    "define",
    "define_labels",
    "register_definition",
]
