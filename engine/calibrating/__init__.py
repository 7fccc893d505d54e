"""What data tells, and what is corrected by it."""

from .batches import batches, calibrate
from .compensate import Corrections, corrections
from .inputs import first_sequence, inputs_of, named_inputs, takes
from .prepare import one_by_one, prepared
from .readers import readers
from .statistics import Statistics

__all__ = [
    "Corrections",
    "Statistics",
    "batches",
    "calibrate",
    "corrections",
    "first_sequence",
    "inputs_of",
    "named_inputs",
    "one_by_one",
    "prepared",
    "readers",
    "takes",
]
