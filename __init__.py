"""Structural pruning as type inference: smaller PyTorch models, exact and explained."""

from . import engine
from .errors import (
    CheckpointError,
    PlanError,
    PrunusError,
    RuleError,
    RuleSyntaxError,
    TraceError,
    VerificationError,
)

__all__ = [
    "CheckpointError",
    "PlanError",
    "PrunusError",
    "RuleError",
    "RuleSyntaxError",
    "TraceError",
    "VerificationError",
    "engine",
]
