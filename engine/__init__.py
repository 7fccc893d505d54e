"""The engine: from a model to a smaller one."""

from .graph import DependencyGraph, Group, Member
from .plan import Plan
from .prune import Result, analyze, apply, prune
from .trace import trace

__all__ = ["DependencyGraph", "Group", "Member", "Plan", "Result", "analyze", "apply", "prune", "trace"]
