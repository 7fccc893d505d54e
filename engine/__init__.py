"""The engine: from a model to a smaller one."""

from ..adapters.masking import mask
from ..adapters.plan import Plan
from ..adapters.saving import load, save
from .analyze import analyze
from .calibrating import Measured
from .graph import DependencyGraph
from .grouping import Group, Member
from .measure import measure
from .prune import apply, cost, prune
from .prune_checkpoint import prune_checkpoint
from .result import Result
from .tracing import trace
from .training import Regularizer, Schedule, recalibrate

__all__ = [
    "DependencyGraph",
    "Group",
    "Measured",
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
    "measure",
    "prune",
    "prune_checkpoint",
    "recalibrate",
    "save",
    "trace",
]
