"""What data tells, and what is corrected by it."""

from .batches import batches, calibrate
from .changes import Corrections
from .compensate import check_correction, corrections
from .inputs import first_sequence, inputs_of, named_inputs, takes
from .prepare import one_by_one, prepared
from .readers import Reader, readers
from .rounds import rounds
from .statistics import Statistics

__all__ = [
    "Corrections",
    "Reader",
    "Statistics",
    "batches",
    "calibrate",
    "check_correction",
    "corrections",
    "first_sequence",
    "inputs_of",
    "named_inputs",
    "one_by_one",
    "prepared",
    "readers",
    "rounds",
    "takes",
]
