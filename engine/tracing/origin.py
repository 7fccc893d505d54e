"""Where a coupling, a block or an equation comes from."""

from __future__ import annotations

from attrs import frozen

from ...grammar import ast
from .values import Call


@frozen(eq=False)
class Origin:
    """This call, read by this rule (``None`` where no rule speaks for it)."""

    call: Call
    rule: ast.Rule | None = None

    def __str__(self) -> str:
        where = self.call.module or "the model"
        return f"{self.call.name} in {where} ({self.call.source}: {self.call.source.text})"
