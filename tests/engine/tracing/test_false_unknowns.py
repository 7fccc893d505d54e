"""Tensors that were there before the forward are no results of unseen kernels.

A model that has run before and one that has not have the same graph.
"""

from __future__ import annotations

import functools

import oracle
import pytest
import torch
from prunus import engine
from torch import nn
from trap_nets import Net

X = torch.randn(2, 7, 6)


class Positions(nn.Module):
    """Adds something that depends on the shape of its argument alone."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, h):
        return self.table(self, h.shape[1], h.shape[2])


def net(positions):
    def forward(self, x):
        h = self.a(x)
        return self.head((h + self.positions(h)).relu())

    return Net(forward, a=nn.Linear(6, 8), positions=positions, head=nn.Linear(8, 3)).eval()


def made(length, width):
    return torch.outer(torch.arange(length) / length, torch.ones(width)).cos()


@functools.lru_cache
def cached(length, width):
    return made(length, width)


@functools.cache
def cached_pair(length):
    return torch.arange(length)[:, None] / length, torch.ones(length, 1)


def cached_unless(condition):
    """A decorator as packages have them: the cached function is captured by the wrapper."""

    def decorate(function):
        known = functools.lru_cache(function)

        @functools.wraps(function)
        def wrapper(*args):
            return function(*args) if condition() else known(*args)

        return wrapper

    return decorate


@cached_unless(torch.compiler.is_compiling)
def cached_behind_a_wrapper(length, width):
    return made(length, width)


@cached_unless(torch.compiler.is_exporting)
@cached_unless(torch.compiler.is_compiling)
def cached_behind_two(length):
    return torch.arange(length)[:, None] / length


FILED, FILED_TUPLES = {}, {}


def filed(module, length, width):
    if (length, width) not in FILED:
        FILED[length, width] = made(length, width)
    return FILED[length, width]


def filed_in_tuples(module, length, width):
    if length not in FILED_TUPLES:
        FILED_TUPLES[length] = (torch.arange(length)[:, None] / length, None)
    return FILED_TUPLES[length][0]


def in_a_closure():
    known = {}

    def table(module, length, width):
        if (length, width) not in known:
            known[length, width] = made(length, width)
        return known[length, width]

    return Positions(table)


class ByClass(nn.Module):
    """A cache of the class, one that is a cached method, and a parameter that no forward uses."""

    known = {}  # noqa: RUF012

    def __init__(self, method):
        super().__init__()
        self.method, self.unused = method, nn.Parameter(torch.randn(8))

    @functools.lru_cache  # noqa: B019
    def cached(self, length):
        return torch.arange(length)[:, None] / length

    @staticmethod
    @functools.lru_cache
    def cached_static(length):
        return torch.arange(length)[:, None] / length

    @cached_unless(torch.compiler.is_compiling)
    def cached_behind_a_wrapper(self, length):
        return torch.arange(length)[:, None] / length

    @property
    @functools.lru_cache  # noqa: B019
    def cached_property(self):
        return lambda length: self.cached(length)

    def forward(self, h):
        return getattr(self, self.method)(h.shape[1])


CACHES = {
    "lru_cache": lambda: Positions(lambda module, *sizes: cached(*sizes)),
    "cache, a pair": lambda: Positions(lambda module, length, width: cached_pair(length)[0]),
    "global dict": lambda: Positions(filed),
    "global dict of tuples": lambda: Positions(filed_in_tuples),
    "dict in a closure": in_a_closure,
    "cached method": lambda: ByClass("cached"),
    "cached static method": lambda: ByClass("cached_static"),
    "lru_cache behind a wrapper": lambda: Positions(lambda module, *sizes: cached_behind_a_wrapper(*sizes)),
    "lru_cache behind two": lambda: Positions(lambda module, length, width: cached_behind_two(length)),
    "cached method behind a wrapper": lambda: ByClass("cached_behind_a_wrapper"),
    "cached property": lambda: ByClass("cached_property"),
}


def told(model):
    """What the graph says of each group."""
    graph = engine.analyze(model, X)
    assert not graph.unknown
    return [
        (one.name, one.size, one.exact, one.producers, one.blocked) for one in graph.groups + graph.blocked
    ]


@pytest.mark.parametrize("cache", CACHES)
def test_a_model_that_has_run_before_has_the_same_graph(cache):
    """A table that is cached by its sizes is made again while the model is traced."""
    for known in (FILED, FILED_TUPLES):
        known.clear()
    torch.manual_seed(0)
    model = net(CACHES[cache]())
    fresh = told(model)
    for known in (FILED, FILED_TUPLES):
        known.clear()
    torch.manual_seed(0)
    model = net(CACHES[cache]())
    before = model(X)
    assert told(model) == fresh
    assert torch.equal(model(X), before)
    plan = engine.analyze(model, X).choose(ratio=0.5, criterion="random", exact_only=True)
    assert len(plan.groups["a.out"]) == 4
    oracle.check(model, X, plan)
    engine.prune(model, example_inputs=X)
    assert model(X).shape == before.shape


def test_caches_keep_what_they_had():
    """The entries that users hold are the same objects afterwards."""
    FILED.clear()
    model = net(Positions(filed))
    model(X)
    before, cached_before = dict(FILED), cached(3, 4)
    engine.analyze(model, X)
    assert FILED.keys() == before.keys() and all(FILED[key] is before[key] for key in before)
    assert cached(3, 4) is cached_before


class Anchors(nn.Module):
    """Detectors keep their anchors in a list, cast in each forward."""

    def __init__(self):
        super().__init__()
        self.cells = [torch.randn(3, 3), torch.randn(3, 3)]

    def forward(self, h):
        self.cells = [cell.to(h.dtype) for cell in self.cells]
        places = torch.arange(h.shape[1])[:, None, None]
        return torch.cat([(cell + places).reshape(-1, 3) for cell in self.cells])


def test_tensors_in_a_list_of_a_module_are_constants():
    """The argument is read for its shape only; the module is no operation without a rule."""

    def forward(self, x):
        h = self.a(x)
        anchors = self.anchors(h)
        return self.head(h.relu()), anchors

    model = Net(forward, a=nn.Linear(6, 8), anchors=Anchors(), head=nn.Linear(8, 3)).eval()
    model(X)
    graph = engine.analyze(model, X)
    assert not graph.unknown
    plan = graph.choose(ratio=0.5, criterion="random")
    assert len(plan.groups["a.out"]) == 4
    oracle.check(model, X, plan)


def test_what_is_filed_without_its_width_is_found_again(said):
    """A pruned model would get the old table: its width stays."""
    known = {}
    model = net(Positions(lambda module, length, width: known.setdefault(length, made(length, width))))
    model(X)
    graph = engine.analyze(model, X)
    assert not graph.unknown and "a.out" not in graph.choose(ratio=0.5).groups
    said(graph.group("a.out").blocked)


@pytest.mark.parametrize("criterion", ["wanda", "flap"])
def test_data_are_seen_along_the_same_calls(criterion):
    """Batches find the caches as the analysis did."""
    FILED.clear()
    model = net(Positions(filed))
    model(X)
    result = engine.prune(model, example_inputs=X, criterion=criterion, data=[X, X])
    assert len(result.plan.groups["a.out"]) == 4


TABLES = {"width": torch.randn(8)}


@pytest.mark.parametrize("read", [lambda: TABLES["width"], lambda: TABLES.get("width", 0.0)])
def test_a_table_that_is_no_cache_is_a_constant(read, said):
    """Without its entry the model would fail, or do something else: what meets it is held, and says why."""
    model = net(Positions(lambda module, length, width: read()))
    graph = engine.analyze(model, X)
    assert not graph.unknown and "a.out" not in graph.choose(ratio=0.5).groups
    said(graph.group("a.out").blocked)


ROOM = torch.zeros(2, 7, 8)


class Scratch(nn.Module):
    """A kernel that writes into a tensor which was there before."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, h):
        with torch._C.DisableTorchFunction():
            ROOM.numpy()[:] = (h @ self.weight).numpy()
        return ROOM


def test_a_kernel_that_writes_into_an_old_tensor_is_still_seen():
    """Its parameter is used by no call that the trace saw."""
    model = net(Scratch())
    graph = engine.analyze(model, X)
    assert [call.name.rpartition(".")[2] for call in graph.unknown] == ["Scratch"]
    assert "a.out" not in graph.choose(ratio=0.5).groups


def casts(self, x):
    h = self.a(x)
    self.b.to(h.dtype)
    self.b.float()
    return self.head(self.b(h).relu())


def clips_a_weight(self, x):
    self.b.weight.data = self.b.weight.data.clamp(-1, 1)
    return self.head(self.b(self.a(x)).relu())


def takes_other_data(self, x):
    h = self.a(x)
    h.data = h.relu()
    return self.head(self.b(h))


@pytest.mark.parametrize("forward", [casts, clips_a_weight, takes_other_data])
def test_data_is_set_in_the_forward(forward):
    """``Module.to`` does so, and whoever clips weights; what it is set to has the slots."""
    torch.manual_seed(0)
    model = Net(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 10), head=nn.Linear(10, 3)).eval()
    nn.init.uniform_(model.b.weight, -3, 3)
    graph = engine.analyze(model, X)
    assert not graph.unknown
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    assert len(plan.groups["a.out"]) == 4 and len(plan.groups["b.out"]) == 5
    oracle.check(model, X, plan)
