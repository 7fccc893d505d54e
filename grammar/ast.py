"""What a ``.rules`` file means, as frozen values. Every node knows where it was written.

One subject, however long: the nodes of the language in the order of its grammar, each with what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar, final

from attrs import field, frozen

from ..errors import Span

T = TypeVar("T")


def _span() -> Span:
    """A node's position: never part of its meaning, so two spellings of one rule are equal."""
    return field(eq=False, repr=False, kw_only=True)


@final
@frozen
class Factor:
    """``out``: stands for one layout; wherever it occurs in the rule, the layout is the same."""

    name: str


@final
@frozen
class Star:
    """``*x``: any number of axes, each with a layout of its own."""

    name: str


@final
@frozen
class Fixed:
    """``4``: a part of that size which is never pruned."""

    size: int


@final
@frozen
class Anything:
    """``_``: an axis about which nothing is said."""


@final
@frozen
class Product:
    """``(g in)``: row-major, outermost first."""

    parts: tuple[Dim, ...]


@final
@frozen
class Sum:
    """``(a + b)``: segments one after the other."""

    parts: tuple[Dim, ...]


Dim = Factor | Star | Fixed | Anything | Product | Sum


@frozen
class Operand:
    """One tensor of a signature: ``weight[(g out) in *k]``, ``bias[out]?``, ``tensors...[n c]``.

    ``name`` is the operation's argument (``self.w1.weight`` for a parameter of a module target) or
    ``None``: a result, or in ``in <-> out`` the first tensor argument.
    """

    name: str | None
    dims: tuple[Dim, ...]
    optional: bool = False
    many: bool = False
    span: Span = _span()


@frozen
class Signature:
    """``inputs -> outputs``; ``short`` if it was written ``in <-> out``."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    short: bool = False
    span: Span = _span()


@frozen
class Relation:
    """``split(out) by input sizes``: a verb, the factors it is given, and the words after ``by``."""

    verb: str
    factors: tuple[str, ...] = ()
    by: str | None = None
    span: Span = _span()


@frozen
class Flow:
    """``out -> next.in``: the slots of ``out`` are produced here, and flow into what reads the result."""

    factor: str
    into: str
    span: Span = _span()


@frozen
class Where:
    """``where g = groups``: the size of ``factor`` is that argument; ``star`` for ``where *c = ...``.

    ``where *x = *k`` says only that both stars stand for equally many axes.
    """

    factor: str
    argument: str
    star: bool = False
    span: Span = _span()


@frozen
class At:
    """``at c = dim``: the position of ``factor`` is that argument."""

    factor: str
    argument: str
    span: Span = _span()


@frozen
class Hold:
    """``hold f``: never pruned here."""

    factors: tuple[str, ...]
    span: Span = _span()


@frozen
class Block:
    """``block f "why"``: never pruned, and the text is what an explanation prints."""

    factors: tuple[str, ...]
    reason: str
    span: Span = _span()


@frozen
class Mixes:
    """``mixes f``: a statistic is taken over ``f``; removing a slot is not zeroing it."""

    factors: tuple[str, ...]
    span: Span = _span()


@frozen
class Positions:
    """``positions c``: results tell where among ``c`` a value was found; only the values are a statistic.

    The slots are held where somebody looks at the positions, and mixed where nobody does.
    """

    factors: tuple[str, ...]
    span: Span = _span()


@frozen
class Slides:
    """``slides *x -> *y by stride``: every slot is made with those beside it; removing one is not zeroing it.

    In steps of one and to as many slots, ``y`` is ``x``; otherwise both are held. Without ``y`` the result
    has ``x`` itself.
    """

    factors: tuple[str, ...]
    step: str | None = None
    span: Span = _span()


@frozen
class Sums:
    """``sums f``: a sum is taken over ``f``, although it stays; a slot of zeros adds nothing to it."""

    factors: tuple[str, ...]
    span: Span = _span()


@frozen
class Scales:
    """``scales query by qk ** -0.5 unless scale``: the operation multiplies an operand by a power of a size.

    With other sizes it is another number, for which the weights that make the operand can make up. Where
    the argument ``unless`` is given and not ``None``, the number is that argument instead.
    """

    operand: str
    factor: str
    power: float
    unless: str | None = None
    span: Span = _span()


@frozen
class Zero:
    """``zero input weight + bias``: where the results are zero, as a sum of products of operands.

    A slot of the results is zero if every term is; a term is if one of its operands is. Without any term
    the results are zero everywhere.
    """

    terms: tuple[tuple[str, ...], ...]
    span: Span = _span()


@frozen
class Multilinear:
    """``multilinear input weight + bias``: the results are a sum of products of these operands.

    They are multiplied if one operand of each product is, and zero where one of each is. An operand that is
    left out drops out of its product, one that is alone with its term; without the first term, nothing is
    said.
    """

    terms: tuple[tuple[str, ...], ...]
    span: Span = _span()


@frozen
class Constant:
    """``constant``: the results are one number everywhere; of the first tensor only the shape counts."""

    span: Span = _span()


@frozen
class Tie:
    """``tie a, b``: these shrink by the same proportion."""

    factors: tuple[str, ...]
    span: Span = _span()


@frozen
class Multiple:
    """``multiple k of 16 bytes``: the slots that stay are multiples of so many, or of as many as fill so
    many bytes, which is fewer of wider numbers."""

    factors: tuple[str, ...]
    of: int
    bytes: bool = False
    span: Span = _span()


@frozen
class Macs:
    """``macs n out in *k + n out``: multiply-accumulates as a sum of products of dims."""

    terms: tuple[tuple[Dim, ...], ...]
    span: Span = _span()


Clause = (
    Flow | Where | At | Hold | Block | Mixes | Positions | Slides | Sums | Scales | Zero | Multilinear
    | Constant | Tie | Multiple | Macs
)  # fmt: skip


@frozen
class Rule:
    """``name: body; clauses``. Without a body it refines the rule of that name in a lower layer.

    ``comment`` is the block of comment lines directly above it, without the hashes; ``examples`` are
    the texts of its ``#: example ...`` lines.
    """

    name: str
    body: Signature | Relation | None
    clauses: tuple[Clause, ...] = ()
    comment: str = ""
    examples: tuple[str, ...] = ()
    span: Span = _span()

    def of(self, kind: type[T]) -> Sequence[T]:
        """The clauses of a kind, in order."""
        return self._by_kind.get(kind, ())

    @cached_property
    def _by_kind(self) -> dict[type, list]:
        found: dict[type, list] = {}
        for clause in self.clauses:
            found.setdefault(type(clause), []).append(clause)
        return found


@frozen
class Target:
    """One dotted callable for which a rule speaks."""

    name: str
    span: Span = _span()


@frozen
class Targets:
    """``conv = torch.conv1d, torch.conv2d``."""

    rule: str
    targets: tuple[Target, ...]
    span: Span = _span()


@frozen
class Bookkeeping:
    """``in_channels = weight[1] * groups``: this attribute repeats that size, times another attribute."""

    attribute: str
    parameter: str
    axis: int
    times: str | None = None
    span: Span = _span()


@frozen
class ModuleRule:
    """``module torch.nn.Linear: in_features = weight[1], ...``."""

    target: str
    attributes: tuple[Bookkeeping, ...]
    span: Span = _span()


@frozen
class Use:
    """``use default``: this file builds on another rule set."""

    name: str
    span: Span = _span()


Statement = Targets | Rule | ModuleRule | Use


@frozen
class RuleFile:
    """One parsed file: its statements in order."""

    path: str
    statements: tuple[Statement, ...]
