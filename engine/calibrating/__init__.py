"""What data tells, and what is corrected by it."""

from .batches import batches, calibrate, calibrate_parts
from .changes import Corrections
from .compensate import check_correction, corrections
from .inputs import first_sequence, inputs_of, named_inputs, takes
from .measured import Measured, kept_inputs, read_places
from .prepare import one_by_one, prepared, prepared_for
from .readers import Reader, readers
from .rounds import rounds
from .statistics import Statistics

__all__ = [
    "Corrections",
    "Measured",
    "Reader",
    "Statistics",
    "batches",
    "calibrate",
    "calibrate_parts",
    "check_correction",
    "corrections",
    "first_sequence",
    "inputs_of",
    "kept_inputs",
    "named_inputs",
    "one_by_one",
    "prepared",
    "prepared_for",
    "read_places",
    "readers",
    "rounds",
    "takes",
]
