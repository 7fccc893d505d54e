"""What a trace is made of: values, and the calls between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import networkx as nx
import torch
from attrs import define, field, frozen

from ...torch_private import OpOverload, OpOverloadPacket
from .arguments import found_in
from .source import Source


@frozen(eq=False)
class Condition:
    """A comparison of sizes that the forward made; the recorded path is only taken if it comes out so."""

    symbol: str
    left: Any
    right: Any
    outcome: bool
    source: Source


@frozen(eq=False)
class Read:
    """The data of `value` went into a Python number, list or array: what the forward does depends on it."""

    value: Value
    source: Source


@define(eq=False)
class Value:
    """One tensor, or one version of it between two in-place changes; its data is not kept.

    ``kind`` is ``parameter``, ``buffer``, ``attribute`` (a plain tensor on a module), ``input``,
    ``call`` (a result), ``constant`` (it was there before the forward, but the model does not name it) or
    ``untracked`` (it came from nowhere that the trace can see).
    """

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    name: str | None = None
    call: Call | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        origin = self.name or (self.call.name if self.call else "?")
        return f"<{self.kind} {self.index} {origin} {list(self.shape)}>"


@define(eq=False)
class Call:
    """One recorded call of the forward.

    ``arguments`` are by the callable's own names, a module's own tensors by ``self.weight`` and the like;
    tensors in them (also inside tuples, lists, dicts and slices) are `Value`, traced integers `SizeInt`.
    ``results`` are the result's tensors in order; for an in-place call the new version of the changed tensor.
    """

    index: int
    target: Callable[..., Any]
    arguments: dict[str, Any]
    module: str
    module_class: type
    source: Source
    inplace: bool = False
    results: tuple[Value, ...] = ()
    _values: list[Value] | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """The target's dotted name: ``torch.conv2d``, ``torch.Tensor.view``, ``mypkg.layers.SwiGLU``."""
        return dotted_name(self.target)

    @property
    def values(self) -> list[Value]:
        """Every value among the arguments, in order."""
        if self._values is None:
            self._values = list(values_in(self.arguments))
        return self._values

    @property
    def code(self) -> tuple[Callable[..., Any], str, Source]:
        """What made it: the same for the calls of other runs that correspond."""
        return self.target, self.module, self.source

    def __repr__(self) -> str:
        return f"<call {self.index} {self.name} in {self.module or 'the model'}>"


def has_axes(value: Value) -> bool:
    """Whether a value has more than one slot."""
    return any(size > 1 for size in value.shape)


def values_in(item: Any) -> Iterator[Value]:
    """Every value in an argument, in order."""
    return found_in(item, Value)


@lru_cache(maxsize=4096)
def dotted_name(target: Callable[..., Any]) -> str:
    """A readable dotted name for any callable that torch dispatches."""
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        packet: Any = getattr(target, "overloadpacket", target)
        return "torch.ops." + packet._qualified_op_name.replace("::", ".")
    known = torch.overrides.resolve_name(target)
    if known:
        return known
    name = getattr(target, "__qualname__", None) or getattr(target, "__name__", None) or repr(target)
    owner = getattr(target, "__objclass__", None)
    if owner is not None:
        return f"torch.Tensor.{target.__name__}"
    module = getattr(target, "__module__", None)
    return f"{module}.{name}" if module else name


@frozen(eq=False)
class Run:
    """One forward: its calls are those of the trace from ``start`` to ``stop``.

    One ``training`` that made the same calls as in eval mode has none of its own. ``error`` is what ended it
    early; only a run as in training may end so.
    """

    start: int
    stop: int
    outputs: tuple[Value, ...]
    training: bool = False
    error: str = ""


@define(eq=False, slots=False)
class Trace:
    """The forwards that were recorded: every call, and the values between them.

    ``tensors`` are the parameters, buffers and plain tensor attributes that were used, by their first
    name, ``left`` those with axes that were not; ``aliases`` leads from other names of them to it.
    ``runs`` are first those of the example inputs, then the same as in training, where that differs.
    ``reads`` are the values of which Python code has read the data, ``stored`` those that the forward has
    left on modules, ``made`` those that no input decides, by the name of an attribute or entry that had none:
    a later run finds them there. ``attributes`` gives the integers of the modules that were traced, by
    module path, attribute name and key, ``contents`` a number that small ``untracked`` values share if they
    are equal.
    ``seeds`` are those that the forward gave to torch, each with the first call after it, ``whole`` the names
    of tensors that cannot be sliced, such as compressed sparse ones. ``handed`` are the lines on which the
    forward hands work to other threads, with how many ``untracked`` values there were before.
    """

    LEFT_BEHIND: ClassVar = {"filed": lambda: None}  # it refers to the insides of modules, and is found again

    model_name: str
    calls: list[Call] = field(factory=list, repr=False)
    inputs: list[Value] = field(factory=list)
    runs: list[Run] = field(factory=list, repr=False)
    tensors: dict[str, Value] = field(factory=dict, repr=False)
    left: dict[str, Value] = field(factory=dict, repr=False)
    aliases: dict[str, str] = field(factory=dict, repr=False)
    conditions: list[Condition] = field(factory=list, repr=False)
    attributes: dict[tuple[str, str, tuple | None], int] = field(factory=dict, repr=False)
    untracked: list[Value] = field(factory=list, repr=False)
    contents: dict[Value, int] = field(factory=dict, repr=False)
    # What an earlier run had left in dicts and attributes, and this one made again.
    filed: list[Any] = field(factory=list, repr=False)
    made: dict[str, list[Value]] = field(factory=dict, repr=False)
    reads: list[Read] = field(factory=list, repr=False)
    stored: list[Value] = field(factory=list, repr=False)
    seeds: list[tuple[Call, int]] = field(factory=list, repr=False)
    lowered: bool = False
    whole: list[str] = field(factory=list, repr=False)
    handed: list[tuple[Source, int]] = field(factory=list, repr=False)

    @property
    def outputs(self) -> list[Value]:
        """The model's output tensors, call by call."""
        return [value for run in self.runs if not run.training for value in run.outputs]

    @property
    def training_outputs(self) -> list[Value]:
        """Those that it gives in training."""
        return [value for run in self.runs if run.training for value in run.outputs]

    @property
    def ends(self) -> set[Value]:
        """What somebody looks at: the outputs, what Python code reads, and what is left on modules."""
        return {*self.given, *(read.value for read in self.reads)}

    @property
    def given(self) -> set[Value]:
        """What the model gives as a tensor: the outputs, and what is left on modules."""
        return {*self.outputs, *self.training_outputs, *self.stored}

    @property
    def forward(self) -> list[Call]:
        """The calls of the forwards themselves, without those of runs as in training."""
        return self.calls[: next((run.start for run in self.runs if run.training), None)]

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the model's output tensors, in order."""
        return tuple(value.shape for value in self.outputs)

    @cached_property
    def network(self) -> nx.DiGraph:
        """Values and calls as one graph: value -> call -> value."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.inputs)
        graph.add_nodes_from(self.tensors.values())
        for call in self.calls:
            graph.add_node(call)
            graph.add_edges_from((value, call) for value in call.values)
            graph.add_edges_from((call, value) for value in call.results)
        return graph
