"""What data tells, and what is corrected by it."""

from .batches import batches, calibrate, inputs_of
from .compensate import Corrections, corrections
from .readers import readers
from .statistics import Statistics

__all__ = ["Corrections", "Statistics", "batches", "calibrate", "corrections", "inputs_of", "readers"]
