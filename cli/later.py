"""Commands whose modules are imported when they run: some need torch, which takes seconds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import PrunusError
from . import output


def later(function: str) -> Callable[[argparse.Namespace], Any]:
    """A function of a module of this package, which is imported when it is called: ``models.run_why``."""
    module, _, name = function.partition(".")

    def run(options: argparse.Namespace) -> Any:
        try:
            with output.ended_by_interrupts():
                found = getattr(import_module(f".{module}", __package__), name)
        except ImportError as error:
            raise PrunusError(f"prunus cannot start: {type(error).__name__}: {error}") from error
        return found(options)

    return run
