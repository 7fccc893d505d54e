"""Outputs and inputs in any container or object: their tensors are found, held, copied and compared."""

import itertools
import queue
from collections import ChainMap, OrderedDict, UserDict, UserList, deque, namedtuple
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, SimpleNamespace

import attrs
import numpy as np
import oracle
import pytest
import torch
from prunus import engine
from prunus.adapters.contents import outputs_in, tensors_in
from prunus.engine.witnessing.rerun import check_pruned, output_shapes
from prunus.errors import PrunusError, TraceError, VerificationError
from torch import nn
from torch.nn.utils.rnn import pack_sequence

X = torch.randn(2, 3)


class Plain:
    """An object with whatever attributes it is given."""

    def __init__(self, **names):
        vars(self).update(names)


class Slots:
    """An object without a ``__dict__``."""

    __slots__ = ("__hidden", "box")

    def __init__(self, box, hidden):
        self.box, self.__hidden = box, hidden


@dataclass(slots=True)
class Data:
    box: object
    score: object = None


@attrs.define
class Attrs:
    box: object
    score: object


class Lazy(Mapping):
    """A mapping that computes an item when it is asked for."""

    def __init__(self, **items):
        self._items = items

    def __getitem__(self, key):
        return self._items[key] + 0

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


class Stream:
    """What can be gone through, but has no length."""

    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Counter:
    """An iterator of one's own."""

    def __init__(self, *items):
        self.rest = list(items)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.rest:
            raise StopIteration
        return self.rest.pop(0)


class Listed(list):
    """A list with an attribute."""


class Boxes(dict):
    """A dict whose items are attributes, too, as in transformers' outputs."""

    def __init__(self, **items):
        super().__init__(items)
        vars(self).update(items)


Pair = namedtuple("Pair", "box score")


def listed(box, score):
    found = Listed([box])
    found.score = score
    return found


def done(item):
    future = Future()
    future.set_result(item)
    return future


def queued(*items):
    found = queue.Queue()
    for item in items:
        found.put(item)
    return found


def circle(box, score):
    found = [box, {"score": score}]
    found.append(found)
    found[1]["all"] = Plain(found=found)
    return found


def objects(*items):
    found = np.empty(len(items), object)
    found[:] = items
    return found


# From two tensors, what a forward may return with both of them in it.
FORMS = {
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {"box": a, "score": b},
    "ordered": lambda a, b: OrderedDict(box=a, score=b),
    "namedtuple": Pair,
    "plain object": lambda a, b: Plain(box=a, score=b),
    "namespace": lambda a, b: SimpleNamespace(box=a, inner=SimpleNamespace(score=b)),
    "UserDict": lambda a, b: UserDict(box=a, score=b),
    "UserList": lambda a, b: UserList([a, b]),
    "ChainMap": lambda a, b: ChainMap({"box": a}, {"score": b}),
    "MappingProxyType": lambda a, b: MappingProxyType({"box": a, "score": b}),
    "lazy mapping": lambda a, b: Lazy(box=a, score=b),
    "dict with attributes": lambda a, b: Boxes(box=a, score=b),
    "list with attributes": listed,
    "set": lambda a, b: {a, b},
    "frozenset": lambda a, b: frozenset({(a,), (b,)}),
    "deque": lambda a, b: deque([a, b]),
    "dataclass": Data,
    "attrs": Attrs,
    "slots": Slots,
    "generator": lambda a, b: (one for one in (a, b)),
    "map": lambda a, b: map(torch.relu, [a, b]),
    "chain": lambda a, b: itertools.chain([a], [b]),
    "generator inside": lambda a, b: {"all": [(one for one in (a, b))]},
    "iterator": lambda a, b: Counter(a, b),
    "stream": lambda a, b: Stream(a, b),
    "partial": lambda a, b: partial(torch.add, a, other=b),
    "function": lambda a, b: lambda: (a, b),
    "future": lambda a, b: done((a, b)),
    "queue": queued,
    "array of objects": objects,
    "numpy": lambda a, b: (a.numpy(), {"score": b.detach().cpu().numpy()}),
    "numpy computed": lambda a, b: (np.exp(a.numpy()), np.asarray(b)[:, ::-1]),
    "one numpy": lambda a, b: (a, b.numpy()),
    "packed": lambda a, b: (pack_sequence([a, a[:1]]), b),
    "circle": circle,
    "mixture": lambda a, b: Plain(parts=[UserDict(x=Data(one for one in [a]))], tail={Slots(b, None)}),
}


class Detector(nn.Module):
    """Four coordinates and five classes in any form, from sixteen hidden channels."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.a, self.box, self.score = nn.Linear(3, 16), nn.Linear(16, 4), nn.Linear(16, 5)

    def forward(self, x):
        h = self.a(x).relu()
        return self.form(self.box(h), self.score(h))


class Returned(nn.Module):
    """A detector whose outputs are taken out of their form again, for the oracle."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return tuple(outputs_in(self.model(x)))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_outputs_are_found_wherever_they_are(form):
    """Coordinates and classes stay in every form, and what is hidden goes, exactly."""
    model = Detector(form)
    graph = engine.analyze(model, X)
    assert len(graph.trace.outputs) == {FORMS["lazy mapping"]: 4, FORMS["packed"]: 3}.get(form, 2)
    assert graph.group("box.out").blocked and graph.group("score.out").blocked
    assert graph.group("a.out").blocked is None and graph.group("a.out").exact
    plan = graph.choose(0.5)
    assert len(plan.groups["a.out"]) == 8
    oracle.check(Returned(model), X, engine.prune(Returned(model), example_inputs=X, dry_run=True).plan)
    engine.prune(model, example_inputs=X)
    assert (model.a.out_features, model.box.out_features, model.score.out_features) == (8, 4, 5)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_verification_compares_what_it_finds(form):
    """An output of another shape once the model is pruned is found; `prune` leaves such a size alone."""

    def narrowing(box, score):
        return form(box, score[:, : 3 if str(model.a.out_features) == "8" else 5])

    model = Detector(narrowing)
    result = engine.prune(model, example_inputs=X)
    assert model.a.out_features == 16 and "decides what is done" in str(result)
    graph = engine.analyze(model, X)
    engine.apply(model, graph.choose(0.5))
    with pytest.raises(VerificationError, match="gives outputs of"):
        check_pruned(model, graph)


@pytest.mark.parametrize(
    "result",
    [None, {}, [], "text", 3.5, Plain(), [0.5, "a"], {"loss": 1.0}],
    ids=["none", "empty dict", "empty list", "text", "number", "object", "list", "dict"],
)
def test_an_output_without_a_tensor_is_an_error(result):
    """It says so, and what to do; the model is as it was."""
    model = Detector(lambda box, score: result)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    for call in (engine.analyze, lambda model, x: engine.prune(model, example_inputs=x)):
        with pytest.raises(TraceError, match=r"no tensor in it(.|\n)*let the forward return tensors"):
            call(model, X)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_fewer_outputs_than_before_are_an_error():
    """Verification never compares nothing with nothing."""

    def vanishing(box, score):
        return [] if str(model.a.out_features) == "8" else [box, score]

    model = Detector(vanishing)
    graph = engine.analyze(model, X)
    engine.apply(model, graph.choose(0.5))
    with pytest.raises(VerificationError):
        check_pruned(model, graph)


def test_a_generator_that_fails_is_a_forward_that_fails():
    """The body of a generator runs while the trace records, and is blamed with its line."""

    def failing(box, score):
        yield box
        raise ValueError("on purpose")

    with pytest.raises(TraceError, match=r"raise ValueError(.|\n)*on purpose"):
        engine.analyze(Detector(failing), X)


def test_calls_of_a_generator_belong_to_the_model():
    """Layers that only a generator calls are coupled like all others."""

    class Generating(Detector):
        def forward(self, x):
            h = self.a(x).relu()
            yield self.box(h)
            yield from (self.score(one) for one in [h])

    model = Generating(None)
    plan = engine.analyze(model, X).choose(0.5)
    assert list(plan.groups) == ["a.out"]
    oracle.check(Returned(model), X, engine.prune(Returned(model), example_inputs=X, dry_run=True).plan)
    engine.prune(model, example_inputs=X)
    assert (model.box.in_features, model.score.in_features) == (8, 8)


def test_endless_iterators_are_left_alone():
    """A counter beside the tensors is no stream of outputs."""
    model = Detector(lambda box, score: Plain(box=box, score=score, numbers=itertools.count()))
    assert engine.analyze(model, X).choose(0.5).groups.keys() == {"a.out"}


def test_an_inner_generator_is_not_used_up():
    """A part that yields its result to another part still does, traced or not."""

    class Yielding(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 16)

        def forward(self, x):
            yield self.a(x).relu()

    class Using(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.head = Yielding(), nn.Linear(16, 5)

        def forward(self, x):
            return sum(self.head(h) for h in self.part(x))

    model = Using()
    oracle.check(model, X, engine.analyze(model, X).choose(0.5))


# Inputs


INPUTS = {
    "dict": lambda x: {"x": x},
    "plain object": lambda x: Plain(x=x),
    "namespace": lambda x: SimpleNamespace(x=x),
    "UserDict": lambda x: UserDict(x=x),
    "dataclass": Data,
    "slots": lambda x: Slots(x, None),
    "namedtuple": lambda x: Pair(x, 1),
    "list": lambda x: [x],
    "set": lambda x: {x},
}


def taken(batch):
    """The only tensor in a batch."""
    (x,) = tensors_in(batch)
    return x


@pytest.mark.parametrize("form", INPUTS.values(), ids=INPUTS)
def test_inputs_are_found_and_left_alone(form):
    """An input in any form is one of the trace's, and a forward that writes into it writes into a copy."""

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.head = nn.Linear(3, 16), nn.Linear(16, 5)

        def forward(self, batch):
            return self.head(self.a(taken(batch).mul_(2)).relu())

    model, x = Reading(), X.clone()
    graph = engine.analyze(model, (form(x),))
    assert [value.shape for value in graph.trace.inputs] == [(2, 3)]
    assert graph.trace.untracked == []
    engine.prune(model, example_inputs=(form(x),))
    assert model.a.out_features == 8
    output_shapes(model, (form(x),))
    assert torch.equal(x, X)


def test_an_input_object_keeps_its_attributes():
    """Graph networks write features back into the batch; the caller's batch is as it was."""

    class Rewriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.head = nn.Linear(3, 16), nn.Linear(16, 5)

        def forward(self, batch):
            batch.x = self.a(batch.x).relu()
            batch.log.append("seen")
            return self.head(batch.x)

    model, batch = Rewriting(), Plain(x=X, log=[])
    engine.prune(model, example_inputs=(batch,))
    assert batch.x is X and batch.log == []
    assert model.a.out_features == 8


def test_a_module_among_the_inputs_is_the_same_module():
    """An input may refer to a part of the model: that is not copied."""

    class Calling(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.head = nn.Linear(3, 16), nn.Linear(16, 5)

        def forward(self, x, options):
            return options.head(self.a(x).relu())

    model = Calling()
    graph = engine.analyze(model, (X, Plain(head=model.head)))
    assert graph.choose(0.5).tensors.keys() == {"a.weight", "a.bias", "head.weight"}


def test_outputs_of_libraries():
    """The containers of torch_geometric and transformers."""
    geometric = pytest.importorskip("torch_geometric.data")
    transformers = pytest.importorskip("transformers.modeling_outputs")
    for form in (
        lambda a, b: geometric.Data(x=a, edge_attr=b),
        lambda a, b: geometric.Batch.from_data_list([geometric.Data(x=a, y=b)] * 2),
        lambda a, b: transformers.BaseModelOutput(last_hidden_state=a, hidden_states=(b,)),
    ):
        model = Detector(form)
        assert len(outputs_in(model(X))) >= 2
        engine.prune(model, example_inputs=X)
        assert (model.a.out_features, model.box.out_features, model.score.out_features) == (8, 4, 5)


def test_errors_are_prunus_errors():
    """A mapping that cannot be read is a forward that fails."""

    class Broken(Lazy):
        def __getitem__(self, key):
            raise RuntimeError("broken")

    with pytest.raises(PrunusError, match="broken"):
        engine.analyze(Detector(lambda a, b: Broken(box=a)), X)
