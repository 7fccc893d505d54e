"""Folders of transformers: a pruned model as everything loads it."""

from .beside import is_ours
from .folder import Saved, is_folder_for, save_folder
from .load import load_folder
from .same import outputs_of

__all__ = ["Saved", "is_folder_for", "is_ours", "load_folder", "outputs_of", "save_folder"]
