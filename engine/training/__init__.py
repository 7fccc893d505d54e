"""Pruning beside training: schedules, regularizers, running statistics."""

from .recalibrate import recalibrate
from .regularizer import Regularizer
from .schedule import Schedule

__all__ = ["Regularizer", "Schedule", "recalibrate"]
