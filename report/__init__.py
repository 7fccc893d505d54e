"""One self-contained page that shows what shrinks together in a model, and why."""

from .page import is_page, page, write

__all__ = ["is_page", "page", "write"]
