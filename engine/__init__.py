"""The engine: from a model to a smaller one."""

from ..adapters.masking import mask
from ..adapters.plan import Plan
from ..adapters.saving import load, save
from .analyze import analyze
from .graph import DependencyGraph
from .grouping import Group, Member
from .prune import apply, cost, prune
from .prune_checkpoint import prune_checkpoint
from .result import Result
from .tracing import trace
from .training import Regularizer, Schedule, recalibrate

__all__ = [
    "DependencyGraph",
    "Group",
    "Member",
    "Plan",
    "Regularizer",
    "Result",
    "Schedule",
    "analyze",
    "apply",
    "cost",
    "load",
    "mask",
    "prune",
    "prune_checkpoint",
    "recalibrate",
    "save",
    "trace",
]
