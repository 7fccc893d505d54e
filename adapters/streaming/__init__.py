"""Checkpoints that are larger than memory: read, and written, one tensor at a time."""

from .distributed import stored_at
from .model import Values, model_of
from .save import Progress, save_streamed

__all__ = ["Progress", "Values", "model_of", "save_streamed", "stored_at"]
