"""The verbs of the rule language: how operations rearrange axes."""

from .table import MOVES, VERBS

__all__ = ["MOVES", "VERBS"]
