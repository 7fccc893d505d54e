"""Odd models: small networks of which some modules do what few modules do. All are pruned right, or not."""

from __future__ import annotations

import random
import threading
import weakref
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import numpy as np
import torch
from prunus import PrunusError, engine
from torch import Tensor, nn
from torch.nn import functional as F

from .tally import Tally

Odd = Callable[[nn.Module, random.Random], Any]


class Branches(nn.Module):
    """Convolutions with a residual; sizes as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 1))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.body(x)
        return self.head(x.view(len(x), self.width, -1).mean(2))


class Tokens(nn.Module):
    """Attention by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.embed, self.norm = nn.Linear(5, 8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        q, k, v = self.qkv(self.norm(x)).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(x + self.down(F.gelu(self.up(x)))).mean(1)


NETS: dict[type[nn.Module], Tensor] = {
    Branches: torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4),
    Tokens: torch.linspace(-1, 1, 2 * 4 * 5).view(2, 4, 5),
}
ODDITIES: list[Odd] = []


def run(seed: int, count: int) -> list[Tally]:
    """`count` networks with one to three oddities each: pruned as the masked original, or one clear error."""
    tally = Tally("odd models")
    for number in range(seed, seed + count):
        tally.count(_fault(number))
    return [tally]


def made(seed: int) -> tuple[nn.Module, Any, list[str]]:
    """The network of that seed, its example inputs, and the names of its oddities."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _made(seed)


def _made(seed: int) -> tuple[nn.Module, Any, list[str]]:
    choose = random.Random(seed)
    kind = choose.choice(list(NETS))
    model, inputs = kind(), NETS[kind]
    names = []
    model.train(choose.random() < 0.3)
    # First each alone, of the network and of a layer, then several at a time.
    alone, of_a_layer = seed < 2 * len(ODDITIES), bool(seed % 2)
    odd = [ODDITIES[seed // 2]] if alone else choose.sample(ODDITIES, choose.randint(2, 4))
    for change in odd:
        below = _all(model)
        at = choose.choice(below[1:] if of_a_layer else below) if of_a_layer or not alone else model
        names.append(f"{change.__name__} of {type(at).__name__}")
        result = change(at if change not in _OF_THE_WHOLE else model, choose)
        if result is not None:
            model, inputs = result if isinstance(result, tuple) else (result, inputs)
    return model, inputs, names


def _fault(seed: int) -> str | None:
    model, inputs, names = made(seed)
    label = f"seed {seed} ({', '.join(names)})"
    before = _photograph(model)
    try:
        result = engine.prune(model, example_inputs=inputs)
    except PrunusError as error:
        if _photograph(model) != before:
            return f"{label}: the model is another after {error}"
        named = {type(module).__name__ for module in _all(model)} | set(_paths(model))
        return None if any(name in str(error) for name in named) else f"{label}: {error} names no module"
    except Exception as error:
        return f"{label}: raw {type(error).__name__}: {error}"
    if not all(group.exact for group in result.graph.groups if group.name in result.plan.groups):
        return None
    whole = made(seed)[0]
    with engine.mask(whole, result.plan), torch.no_grad():
        wanted = _tensors(_called(whole, inputs))
    with torch.no_grad():
        output = _tensors(_called(model, inputs))
    if len(output) != len(wanted) or not all(map(partial(torch.allclose, atol=1e-4), output, wanted)):
        return f"{label}: the pruned model computes something else"
    return None


def _called(model: nn.Module, inputs: Any) -> Any:
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _tensors(item: Any) -> list[Tensor]:
    if isinstance(item, Tensor):
        return [item]
    if isinstance(item, (dict, UserDict)):
        return [one for part in item.values() for one in _tensors(part)]
    if isinstance(item, Output):
        return _tensors(item.logits)
    return [one for part in item for one in _tensors(part)] if item is not None else []


def _all(model: nn.Module) -> list[nn.Module]:
    found: dict[int, nn.Module] = {}
    todo = [model]
    while todo:
        one = todo.pop()
        if id(one) not in found:
            found[id(one)] = one
            todo += [child for child in one._modules.values() if child is not None]
    return list(found.values())


def _paths(model: nn.Module) -> Iterator[str]:
    return (name for module in _all(model) for name in module._modules if len(name) > 1)


def _photograph(model: nn.Module) -> Any:
    """All that the modules hold, by the objects themselves, and the numbers of their tensors."""
    return [
        (
            *(id(module), type(module)),
            {name: id(item) for name, item in vars(module).items()},
            *(
                {name: id(item) for name, item in vars(module)[own].items()}
                for own in ("_modules", "_buffers")
            ),
            {
                name: (id(item), item.tolist())
                for name, item in module._parameters.items()
                if item is not None
            },
            len(module._forward_hooks) + len(module._forward_pre_hooks),
        )
        for module in _all(model)
    ]


# Oddities


_OF_THE_WHOLE: set[Odd] = set()


def odd(change: Odd) -> Odd:
    """One that any module may have."""
    ODDITIES.append(change)
    return change


def of_the_whole(change: Odd) -> Odd:
    """One that the network has; it may give another network, or that and other inputs."""
    _OF_THE_WHOLE.add(change)
    return odd(change)


def _become(module: nn.Module, **names: Any) -> None:
    """Let a module be of a class of its own that has these names, too."""
    kind = type(module)
    # Its class may answer for "__class__" itself.
    vars(object)["__class__"].__set__(module, type(kind.__name__, (kind,), names))


def _raise(*args: Any, **kwargs: Any) -> Any:
    raise ValueError("this raises")


def _method(name: str, does: Callable[..., Any]) -> Odd:
    """A module with a method of its own."""

    def change(module: nn.Module, choose: random.Random) -> None:
        _become(module, **{name: does})

    change.__name__ = f"{name} {getattr(does, '__name__', does)}".replace("<lambda>", "of its own")
    return odd(change)


def _empty(*args: Any, **kwargs: Any) -> Iterator[Any]:
    return iter(())


def _a_tensor(*args: Any) -> Tensor:
    return torch.ones(3) == 1


def _recursing(self: Any, name: str) -> Any:
    return getattr(self, name + "_")


for _name in (
    *("__setattr__", "__delattr__", "__getattr__", "__eq__", "__hash__", "__bool__", "__len__", "__iter__"),
    *("__repr__", "extra_repr", "__dir__", "__contains__", "__getitem__", "__copy__", "__deepcopy__"),
    *("__reduce_ex__", "__getstate__", "__index__", "__format__", "__str__", "__call__", "forward"),
    *("parameters", "named_parameters", "buffers", "named_buffers", "modules", "named_modules"),
    *("children", "named_children", "state_dict", "load_state_dict", "get_submodule", "get_parameter"),
    *("train", "eval", "to", "_apply", "apply", "register_forward_hook", "register_forward_pre_hook"),
    *("register_buffer", "register_parameter", "requires_grad_", "zero_grad", "_get_name", "_call_impl"),
):
    _method(_name, _raise)
for _name in (
    *("parameters", "named_parameters", "buffers", "named_buffers", "modules", "named_modules"),
    *("children", "named_children", "state_dict"),
):
    _method(_name, _empty)
for _name in ("__eq__", "__bool__", "__len__", "__contains__"):
    _method(_name, _a_tensor)
_method("__getattr__", _recursing)
_method("__len__", lambda self: 0)
_method("__bool__", lambda self: False)
_method("__eq__", lambda self, other: True)
_method("__hash__", lambda self: 7)
_method("__call__", lambda self, *args, **kwargs: self.forward(*args, **kwargs))
_method("__iter__", lambda self: iter(self._modules.values()))
_method("training", property(lambda self: False, lambda self, value: None))
_method("broken", property(_raise))
_method("__class__", property(lambda self: nn.Module))


class _WithSlots(nn.Linear):
    __slots__ = ("_hidden", "a")


@of_the_whole
def slots(model: nn.Module, choose: random.Random) -> None:
    """A layer with slots, one of them empty, in the place of another."""
    head = _WithSlots(8, 3)
    head.a = [8, torch.ones(8)]
    next(one for one in _all(model) if "head" in one._modules)._modules["head"] = head


@odd
def a_cycle_of_modules(module: nn.Module, choose: random.Random) -> None:
    """A child that has its parent as a submodule."""
    children = [one for one in _all(module) if one is not module] or [module]
    choose.choice(children)._modules["parent"] = module


@odd
def itself_as_a_submodule(module: nn.Module, choose: random.Random) -> None:
    module._modules["me"] = module


@odd
def frozen(module: nn.Module, choose: random.Random) -> None:
    """It refuses new values after it was made."""

    def refuse(self: nn.Module, name: str, value: Any) -> None:
        raise AttributeError(f"{name} is frozen")

    _become(module, __setattr__=refuse)


@odd
def odd_keys(module: nn.Module, choose: random.Random) -> None:
    """A dict of sizes whose keys are no names."""
    vars(module)["sizes"] = {None: 8, True: 8, (1, "a"): 6, 3: 8, b"x": 12, 1.5: 8, frozenset({1}): 24}


class Keyed(nn.Module):
    """A layer whose sizes are under keys that are no names."""

    def __init__(self, net: nn.Module, key: Any) -> None:
        super().__init__()
        self.net, self.into = net, nn.Linear(3, 8)
        self.out = nn.Linear(8, 3)
        self.sizes = {key: 8, "a": {key: 4}}
        vars(self)["key"] = key

    def forward(self, x: Any) -> Any:
        x = self.into(self.net(x))
        return self.out(x.view(len(x), 2, self.sizes["a"][self.key]).reshape(len(x), self.sizes[self.key]))


@of_the_whole
def sizes_under_odd_keys(model: nn.Module, choose: random.Random) -> nn.Module:
    keys = [None, True, False, 3, -3, (1, (None, "a")), b"x", 1.5, "x[0]", "it's", "", torch.float32, _Key()]
    return Keyed(model, choose.choice(keys))


class _Key:
    """A key that can hardly be told."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


@odd
def keys_without_a_text(module: nn.Module, choose: random.Random) -> None:
    vars(module)["sizes"] = {_Key(): 8, "a": {_Key(): torch.ones(2)}}


@odd
def odd_names(module: nn.Module, choose: random.Random) -> None:
    """Names that no source code could write."""
    vars(module).update({"a b": 8, "x[0]": 8, "ü": 8, "a.b": 8, "": 8})
    module._modules["my layer"] = nn.Linear(2, 2)
    module._buffers["b[1]"] = torch.ones(8)


@odd
def names_that_are_no_texts(module: nn.Module, choose: random.Random) -> None:
    vars(module)[3] = 8  # type: ignore[index]


@odd
def containers_in_themselves(module: nn.Module, choose: random.Random) -> None:
    many: list[Any] = [8]
    many.append(many)
    named: dict[Any, Any] = {"a": many}
    named["self"] = named
    vars(module).update(many=many, named=named, pair=(many, named))


class _Hostile:
    """An object that answers no question."""

    __eq__ = __bool__ = __len__ = __iter__ = __hash__ = __repr__ = __getattr__ = _raise  # type: ignore[assignment]
    __setattr__ = __deepcopy__ = __reduce_ex__ = _raise  # type: ignore[assignment]


class _HostileSlots:
    __slots__ = ("a", "b")
    __getattr__ = __setattr__ = __repr__ = __eq__ = __hash__ = _raise  # type: ignore[assignment]


class _Recursing:
    __getattr__ = _recursing


@odd
def hostile_attributes(module: nn.Module, choose: random.Random) -> None:
    vars(module).update(
        hostile=_Hostile(), recursing=_Recursing(), several=[_Hostile(), _HostileSlots(), 8], kind=_Hostile
    )


@odd
def what_cannot_be_copied(module: nn.Module, choose: random.Random) -> None:
    vars(module).update(
        lock=threading.Lock(), numbers=(i for i in range(3)), call=lambda: 8, weak=weakref.ref(module)
    )


class Size(IntEnum):
    """Sizes with names."""

    SMALL = 6
    LARGE = 8


@odd
def other_integers(module: nn.Module, choose: random.Random) -> None:
    vars(module).update(
        size=Size.LARGE, number=np.int64(8), small=np.int8(6), zero=np.array(8), huge=10**30, no=-8
    )


@odd
def a_class_that_refuses(module: nn.Module, choose: random.Random) -> None:
    """Its metaclass does not let its attributes be set."""
    kind = type(module)
    meta = type("Meta", (type(kind),), {"__setattr__": _raise})
    object.__setattr__(module, "__class__", meta(kind.__name__, (kind,), {"shared": [8], "count": 3}))


@odd
def hooks(module: nn.Module, choose: random.Random) -> None:
    """Hooks that look at hooks, and pass things on."""
    nn.Module.register_forward_hook(module, lambda m, args, out: out)
    nn.Module.register_forward_pre_hook(module, lambda m, args, kwargs: (args, kwargs), with_kwargs=True)


@odd
def a_forward_in_its_names(module: nn.Module, choose: random.Random) -> None:
    vars(module)["forward"] = module.forward


@odd
def a_wrapped_forward(module: nn.Module, choose: random.Random) -> None:
    plain = module.forward
    vars(module)["forward"] = lambda *args, **kwargs: plain(*args, **kwargs)


@odd
def nothing_where_things_are(module: nn.Module, choose: random.Random) -> None:
    module._parameters["none"] = module._buffers["nil"] = module._modules["no"] = None  # type: ignore[assignment]


@odd
def ordered_dicts(module: nn.Module, choose: random.Random) -> None:
    """As old versions of torch had them."""
    for name in ("_parameters", "_buffers", "_modules"):
        vars(module)[name] = OrderedDict(vars(module)[name])


@odd
def fails_on_foreign_threads(module: nn.Module, choose: random.Random) -> None:
    vars(module)["local"] = threading.local()


@odd
def gradients_everywhere(module: nn.Module, choose: random.Random) -> None:
    for parameter in module._parameters.values():
        if parameter is not None:
            parameter.grad = torch.ones_like(parameter)
            parameter.register_hook(lambda grad: grad)


Pair = namedtuple("Pair", "one other")


@dataclass
class Output:
    """An output as an object."""

    logits: Tensor
    kind: Any = None


class Wrapped(nn.Module):
    """A network whose output, or input, has another form."""

    def __init__(self, net: nn.Module, given: Callable[[Any], Any], taken: Callable[[Any], Any]) -> None:
        super().__init__()
        self.net = net
        vars(self).update(given=given, taken=taken)

    def forward(self, x: Any) -> Any:
        return self.given(self.net(self.taken(x)))


def _output(name: str, given: Callable[[Any], Any]) -> None:
    def change(model: nn.Module, choose: random.Random) -> nn.Module:
        return Wrapped(model, given, lambda x: x)

    change.__name__ = f"output {name}"
    of_the_whole(change)


_output("with odd keys", lambda y: {None: y, True: y + 1, (1, 2): y * 2, 3: [y], 1.5: (y,)})
_output("generator", lambda y: (y * factor for factor in range(3)))
_output("named tuple", lambda y: Pair(y, [y, None]))
_output("object", Output)
_output("mapping", lambda y: UserDict({"a": y, None: y}))
_output("in itself", lambda y: (lambda found: found.append(found) or found[:1])([y]))
_output("with no text", lambda y: {_Key(): y})
_output("set", lambda y: {y, y + 1})


@of_the_whole
def inputs_with_odd_keys(model: nn.Module, choose: random.Random) -> tuple[nn.Module, Any]:
    x = NETS[type(model)] if type(model) in NETS else NETS[_kind_of(model)]
    return Wrapped(model, lambda y: y, lambda given: given[None] + given[(1, 2)] + given[True]), (
        {None: x, (1, 2): x, True: x, 7: "seven", _Key(): None},
    )


def _kind_of(model: nn.Module) -> type[nn.Module]:
    return next(kind for one in _all(model) for kind in NETS if issubclass(type(one), kind))
