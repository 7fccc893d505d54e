"""One self-contained page that shows what shrinks together in a model, and why."""

from .page import page, write

__all__ = ["page", "write"]
