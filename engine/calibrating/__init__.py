"""What data tells, and what is corrected by it."""

from .compensate import corrections
from .readers import readers
from .statistics import Statistics, batches, calibrate, inputs_of

__all__ = ["Statistics", "batches", "calibrate", "corrections", "inputs_of", "readers"]
