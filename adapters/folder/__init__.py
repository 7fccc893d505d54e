"""Folders of transformers: a pruned model as everything loads it."""

from .folder import Saved, is_folder_for, load_folder, outputs_of, save_folder

__all__ = ["Saved", "is_folder_for", "load_folder", "outputs_of", "save_folder"]
