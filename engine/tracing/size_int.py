"""Integers that remember where they came from, while the model is traced."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable
from threading import get_ident
from types import CodeType
from typing import Any, ClassVar

import numpy as np
import torch

from .expressions import Const, Expr, Op
from .source import locate
from .values import Condition

_LAYERS = os.path.join(os.path.dirname(torch.nn.__file__), "modules", "")


class Ledger:
    """What the sizes of one trace share: whether it is open, and the comparisons made while it was."""

    __slots__ = ("_seen", "_thread", "conditions", "open", "root")
    LEFT_BEHIND: ClassVar = {"_seen": set, "conditions": list, "open": bool, "root": lambda: None}

    def __init__(self, root: CodeType | None = None) -> None:
        self.open = True
        self.root = root  # the frame that runs this code is where the user's frames end
        self.conditions: list[Condition] = []
        self._seen: set[tuple[Any, ...]] = set()
        self._thread = get_ident()

    @property
    def hears(self) -> bool:
        """Whether what is computed now is the forward's: other threads may share a config with the model."""
        return self.open and get_ident() == self._thread

    def compare(self, symbol: str, left: Expr, right: Expr, outcome: bool) -> None:
        """Remember a comparison, once for each pair of expressions (a constant counts by its number)."""
        if isinstance(left, Const) and isinstance(right, Const):
            return
        # torch's layers compare to complain, or to choose one of two ways to compute the same.
        if sys._getframe(2).f_code.co_filename.startswith(_LAYERS):
            return
        pair = [side.value if isinstance(side, Const) else side for side in (left, right)]
        key = (symbol, *pair)
        if key not in self._seen:
            self._seen.add(key)
            self.conditions.append(Condition(symbol, left, right, outcome, locate(self.root, 3)))


class SizeInt(int):
    """An ``int`` with the expression that it was computed by; outside its open trace a plain number."""

    expr: Expr
    ledger: Ledger

    def __new__(cls, value: Any = 0, expr: Any = None, ledger: Any = None) -> Any:
        if ledger is None:  # ``type(n)(n / 2)``
            return int(value) if expr is None else int(value, expr)
        self = int.__new__(cls, value)
        self.expr = expr
        self.ledger = ledger
        return self

    __hash__ = int.__hash__

    def __reduce__(self) -> Any:
        return int, (int(self),)

    def __bool__(self) -> bool:
        truth = int.__bool__(self)
        if self.ledger.hears:
            self.ledger.compare("!=", self.expr, Const(0), truth)
        return truth

    def __neg__(self) -> int:
        return 0 - self


class NumpySizeInt(SizeInt):
    """One in the place of a numpy integer, which has methods of its own."""

    def item(self) -> SizeInt:
        """The same as a Python number."""
        return SizeInt(int(self), self.expr, self.ledger)

    def __getattr__(self, name: str) -> Any:
        return getattr(np.int64(int(self)), name)


def expr_of(number: int) -> Expr:
    """The expression of a number; a constant if it is a plain one."""
    return number.expr if isinstance(number, SizeInt) else Const(int(number))


def _arithmetic(symbol: str, plain: Callable[[int, int], int], reflected: bool) -> Callable[..., int]:
    def method(self: SizeInt, other: int) -> int:
        if isinstance(other, np.integer):
            other = int(other)
        result = plain(self, other)
        ledger = self.ledger
        if not ledger.hears or result is NotImplemented:
            return result
        if not isinstance(other, SizeInt):
            second: Expr = Const(int(other))
        elif other.ledger is ledger:
            second = other.expr
        else:
            return result
        left, right = (second, self.expr) if reflected else (self.expr, second)
        return SizeInt(result, Op(symbol, left, right, locate(ledger.root, 2)), ledger)

    return method


def _comparison(symbol: str, plain: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def method(self: SizeInt, other: Any) -> bool:
        if not isinstance(other, (int, float, np.integer)):
            return NotImplemented
        number = other if isinstance(other, float) and not other.is_integer() else int(other)
        outcome = plain(int(self), number)
        ledger = self.ledger
        if ledger.hears:
            own = isinstance(other, SizeInt) and other.ledger is ledger
            ledger.compare(symbol, self.expr, other.expr if own else Const(number), outcome)  # type: ignore[union-attr]  # one, if it is own
        return outcome

    return method


for _symbol, _name in {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod"}.items():
    for _prefix in ("", "r"):
        _method = f"__{_prefix}{_name}__"
        setattr(SizeInt, _method, _arithmetic(_symbol, getattr(int, _method), bool(_prefix)))

for _symbol, _name in {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}.items():
    setattr(SizeInt, f"__{_name}__", _comparison(_symbol, getattr(operator, _name)))
