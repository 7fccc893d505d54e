"""Structural pruning as type inference: smaller PyTorch models, exact and explained."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    CheckpointError,
    PlanError,
    PrunusError,
    RuleError,
    RuleSyntaxError,
    TraceError,
    VerificationError,
)
from .plug_in import plug_in

if TYPE_CHECKING:
    from . import engine

plug_in()

__version__ = "0.1.0"  # pyproject.toml reads it here

__all__ = [
    "CheckpointError",
    "PlanError",
    "PrunusError",
    "RuleError",
    "RuleSyntaxError",
    "TraceError",
    "VerificationError",
    "__version__",
    "engine",
]


def __getattr__(name: str) -> Any:
    """``prunus.engine``, which imports torch, when it is first asked for: the command line starts without."""
    if name == "engine":
        return import_module(".engine", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
