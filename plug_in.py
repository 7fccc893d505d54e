"""Tells transformers of prunus as soon as both are imported, whichever comes first, and imports neither."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_WAITED_FOR = "transformers.quantizers.auto"  # the module that knows all plug-ins


def plug_in() -> None:
    """Register now, or when transformers gets there."""
    if _WAITED_FOR in sys.modules:
        _register()
    elif not any(isinstance(one, _Waiting) for one in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Finds nothing itself, but sees the module being imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _WAITED_FOR:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader)
        return spec


def _call_after(loader: Any) -> None:
    """Register once the loader has executed the module."""
    execute = loader.exec_module

    def execute_and_register(module: ModuleType) -> None:
        execute(module)
        _register()

    loader.exec_module = execute_and_register


def _register() -> None:
    from .adapters.folder.plugin import register

    register()
