"""Criteria: which slots matter."""

from .criteria import CALIBRATED, Criterion, check_needs_no_data, criterion_of, default_criterion
from .own_loss import own_loss
from .ranks import check_alike, check_statistics_alike
from .sensitivity import sensitivity
from .slot_tensors import Loss, Tensors
from .unlike import unlike_notes

__all__ = [
    "CALIBRATED",
    "Criterion",
    "Loss",
    "Tensors",
    "check_alike",
    "check_needs_no_data",
    "check_statistics_alike",
    "criterion_of",
    "default_criterion",
    "own_loss",
    "sensitivity",
    "unlike_notes",
]
