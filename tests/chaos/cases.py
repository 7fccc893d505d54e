"""One operation on a fresh model, and what it could change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define

from .photograph import Photograph
from .process import files_in, process_state


@define
class Case:
    """One operation, ready to be run on a fresh model; `run` may be called again."""

    run: Callable[[], Any]
    watched: dict[str, Any]
    folder: Path | None = None
    shown: Callable[[], Any] = str  # what else a user sees

    def photograph(self) -> Photograph:
        """Everything that the operation could change."""
        return Photograph({**process_state(), **files_in(self.folder), "shown": self.shown()}, **self.watched)
