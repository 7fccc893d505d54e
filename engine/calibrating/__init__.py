"""What data tells, and what is corrected by it."""

from .batches import batches, calibrate, inputs_of
from .compensate import corrections
from .readers import readers
from .statistics import Statistics

__all__ = ["Statistics", "batches", "calibrate", "corrections", "inputs_of", "readers"]
