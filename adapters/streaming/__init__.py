"""Checkpoints that are larger than memory: read, and written, one tensor at a time."""

from .model import Values, model_of
from .save import Progress, save_streamed
from .stored import Stored

__all__ = ["Progress", "Stored", "Values", "model_of", "save_streamed"]
