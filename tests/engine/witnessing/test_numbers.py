"""Numbers that came from a size in a way that no traced integer sees: the second trace is the witness."""

from __future__ import annotations

import json
import math
import random
import statistics
from fractions import Fraction
from functools import partial

import numpy as np
import oracle
import pytest
import torch
from prunus import engine
from torch import nn
from torch.nn import functional as F
from trap_nets import Net

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def width(h):
    """The number of channels."""
    return h.shape[1]


USED_AS_NUMBERS = {
    "1.0 / C": lambda h: 1.0 / width(h),
    "0.5 * C": lambda h: 0.5 * width(h),
    "0.9 ** C": lambda h: 0.9 ** width(h),
    "16.5 - C": lambda h: 16.5 - width(h),
    "C / 2": lambda h: width(h) / 2,
    "C ** 2": lambda h: width(h) ** 2,
    "np.sqrt": lambda h: np.sqrt(width(h)),
    "np.log": lambda h: np.log(width(h)),
    "np.prod": lambda h: np.prod(h.shape) / 1e3,
    "np.array": lambda h: np.array(h.shape)[1],
    "a tensor of an array": lambda h: torch.from_numpy(np.array(h.shape))[1],
    "math.log": lambda h: math.log(width(h)),
    "math.isqrt": lambda h: math.isqrt(width(h)),
    "math.gcd": lambda h: math.gcd(width(h), 48),
    "statistics.mean": lambda h: statistics.mean([width(h), 4]),
    "type(n)(n / 2)": lambda h: type(width(h))(width(h) / 2),
    "len(range)": lambda h: len(range(width(h))),
    "a loop": lambda h: sum(0.1 for _ in range(width(h))),
    "Fraction": lambda h: float(Fraction(width(h), 3)),
    "str": lambda h: float(str(width(h))),
    "a format": lambda h: float(f"{width(h):d}"),
    "json": lambda h: json.loads(json.dumps([width(h)]))[0],
    "bit_length": lambda h: width(h).bit_length(),
    "hash": lambda h: hash(width(h)) / 10,
    "an index": lambda h: [0.1 * number for number in range(100)][width(h)],
    "a text of the shape": lambda h: float(len(str(h.shape))),
    "stride": lambda h: h.stride(0) / 1e3,
    "nbytes": lambda h: h.nbytes / 1e4,
    "storage": lambda h: h.untyped_storage().nbytes() / 1e4,
    "item": lambda h: torch.tensor(width(h)).item(),
    "tolist": lambda h: torch.tensor([width(h)]).tolist()[0],
    "Size.numel": lambda h: h.shape.numel() / 1e3,
    "max": lambda h: max(1.0, width(h) / 4),
    "a random number": lambda h: random.Random(width(h)).random(),
    "the seed of a generator": lambda h: torch.rand((), generator=torch.Generator().manual_seed(width(h))),
    "a seed": lambda h: torch.manual_seed(width(h)) and torch.rand(()),
}


@pytest.mark.parametrize("number", USED_AS_NUMBERS.values(), ids=USED_AS_NUMBERS)
def test_a_size_used_as_a_number_makes_its_group_inexact(number, said):
    """``exact`` is not said of it, with the line that uses it; pruned, it is another number indeed."""

    def forward(self, x):
        h = self.a(x)
        return self.b(h.sum(1, keepdim=True) * number(h))

    model = Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(1, 5, 3))
    graph = engine.analyze(model, X)
    group = graph.group("a.out")
    assert not group.exact and group.blocked is None
    said(graph.inexact(group).text)
    assert graph.choose(ratio=0.5, exact_only=True).groups == {}
    result = engine.prune(model, example_inputs=X)
    assert model.a.out_channels == 8 and "used as a number" in str(result)


COUNTED = {
    "ones": lambda h: torch.ones(width(h)),
    "new_ones": lambda h: h.new_ones(width(h)),
    "full": lambda h: torch.full((width(h),), 0.1),
    "one more than nothing": lambda h: torch.zeros(width(h)) + 1,
    "expanded": lambda h: torch.ones(1).expand(width(h)),
    "repeated": lambda h: torch.ones(1).repeat(width(h)),
}


@pytest.mark.parametrize("made", COUNTED.values(), ids=COUNTED)
def test_a_sum_over_as_many_ones_counts_them(made, said):
    """No tensor of the model holds these slots, but they are as many as the channels."""
    model = Net(
        lambda net, x: net.b((h := net.a(x)) / made(h).sum()), a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3)
    )
    graph = engine.analyze(model, X)
    group = graph.group("a.out")
    assert group.blocked is None and not group.exact
    said(graph.inexact(group).text)


HALVES = {
    "half": lambda h: int(width(h) / 2),
    "a product": lambda h: int(0.5 * width(h)),
    "np": lambda h: int(np.array(h.shape)[1]) // 2,
    "math": lambda h: math.ceil(width(h) / 2),
    "round": lambda h: round(width(h) / 2),
    "str": lambda h: int(str(width(h))) // 2,
    "stride": lambda h: h.stride(0) // h.stride(1) // 2,
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_a_plain_number_that_follows_a_size_holds_nothing(half):
    """Both halves are pruned alike, and the model swaps them as before."""

    def forward(self, x):
        h = self.a(x)
        return self.b(torch.cat([*h.split(half(h), 1)][::-1], 1))

    model = Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3))
    check_exact(model, X, {"a.out", "a.out[1]"})


FLAT = {
    "np.prod": lambda h: int(np.prod(h.shape[1:])),
    "elements": lambda h: int(h.nelement() / h.shape[0]),
    "math.prod": lambda h: math.prod(h.shape[1:]),
    "Size.numel": lambda h: h.shape[1:].numel(),
    "stride": lambda h: h.stride(0),
}


@pytest.mark.parametrize("number", FLAT.values(), ids=FLAT)
def test_a_number_of_elements_follows(number):
    """A view to a number that was computed elsewhere."""

    def forward(self, x):
        h = self.a(x)
        return self.b(h.view(2, number(h)))

    check_exact(Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Linear(16 * 36, 5)), X, {"a.out"})


def check_exact(model, x, names):
    """Groups of these names are exact and pruned at random slots; the model equals its masked original."""
    graph = engine.analyze(model, x)
    assert names <= {group.name for group in graph.groups if group.exact}
    plan = graph.choose(ratio=0.5, criterion="random")
    assert plan.groups.keys() == names
    oracle.check(model.eval(), x, plan, tolerance=1e-5)
    engine.prune(model, example_inputs=x)


def test_a_number_in_the_source_still_holds(said):
    """It does not follow, which the second trace finds at once."""
    model = Net(
        lambda net, x: net.b(net.a(x).view(2, 16, 36).mean(2)), a=nn.Conv2d(3, 16, 3), b=nn.Linear(16, 5)
    )
    graph = engine.analyze(model, X)
    (group,) = (group for group in graph.blocked if group.name == "a.out")
    said(group.blocked)


def test_a_number_that_follows_only_in_part_holds():
    """One that is the size here and something else at other sizes."""

    def forward(self, x):
        h = self.a(x)
        return self.b(h.view(2, 16 if str(width(h)) == "16" else 36, -1).mean(2).mean(1, keepdim=True))

    graph = engine.analyze(Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Linear(1, 5)), X)
    assert "a.out" in {group.name for group in graph.blocked}


SHIFTS = {
    "a number": lambda h: h.roll(4, 1),
    "one that is bound": lambda h: partial(torch.roll, shifts=np.int64(4), dims=1)(h),
}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_a_number_that_stays_does_not_follow(shift):
    """It fits a smaller size as well, and does something else there: the slots that come first stay."""
    model = Net(lambda net, x: net.b(shift(net.a(x))), a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3))
    graph = engine.analyze(model, X)
    assert any("fixes (shifts: 4)" in group.blocked for group in graph.blocked)
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    assert [*plan.groups] == ["a.out"]
    oracle.check(model.eval(), X, plan, tolerance=1e-5)


def test_the_number_of_groups_of_a_norm_stays():
    """It fits a smaller size as well, and takes other statistics there: whole groups stay."""
    model = Net(lambda net, x: net.b(F.group_norm(net.a(x), 4)), a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3))
    graph = engine.analyze(model, X)
    assert any("fixes (num_groups: 4)" in group.blocked for group in graph.blocked)
    assert [(group.size, group.exact) for group in graph.groups] == [(4, False)]


NOTHING = {
    "padding": lambda h: F.pad(h, (0, 0, 0, 0, 0, -width(h) % 4)),
    "a shift": lambda h: h.roll(width(h) % 4, 1),
}


@pytest.mark.parametrize("forward", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_what_does_nothing_goes_on_doing_nothing(forward, ratio):
    """Padding to a multiple is none at this size, and at those that are chosen."""
    model = Net(lambda net, x: net.b(forward(net.a(x))), a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3))
    plan = engine.analyze(model, X).choose(ratio=ratio, criterion="random", exact_only=True)
    assert len(plan.groups["a.out"]) in (12, 8)
    oracle.check(model.eval(), X, plan, tolerance=1e-5)


def test_a_size_that_says_which_axis_holds_its_slots(said):
    """The number is a traced one, and what it says of other sizes is another axis."""

    def forward(net, x):
        h = net.a(x)
        return net.b(h.flip(2 + width(h) // 16))

    graph = engine.analyze(Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3)), X)
    (group,) = (group for group in graph.blocked if group.name == "a.out")
    said(group.blocked)


# Attributes that are numpy integers


NUMPY = {
    "slices": lambda net, h: torch.cat([h[:, net.k :], h[:, : net.k]], 1),
    "view": lambda net, h: (h.view(2, net.g, -1, 6, 6).flip(3) * 2).flatten(1, 2),
    "whole view": lambda net, h: h.view(2, net.c, 36).view(2, net.c, 6, 6),
    "item": lambda net, h: h.view(2, net.c.item(), 36).view(2, -1, 6, 6),
    "roll": lambda net, h: h.roll(net.g, 1),
    "compared": lambda net, h: h if h.shape[1] == net.c else h * 2,
    "split": lambda net, h: torch.cat(h.split([net.k, net.k], 1)[::-1], 1),
    "groups": lambda net, h: F.conv2d(h, net.w, groups=net.g),
    "in a tuple": lambda net, h: h.view(2, net.both[1], 36).view(2, -1, 6, 6),
}


@pytest.mark.parametrize("forward", NUMPY.values(), ids=NUMPY)
@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_numpy_attributes_are_sizes(forward, kind):
    """They follow, keep their type, and a plan with them goes through JSON."""
    model = Net(lambda net, x: net.b(forward(net, net.a(x))), a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3))
    model.k, model.g, model.c, model.both = kind(8), kind(4), kind(16), (kind(8), kind(16))
    model.w = nn.Parameter(torch.randn(16, 4, 1, 1))
    graph = engine.analyze(model, X)
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    assert engine.Plan.from_json(plan.to_json()) == plan
    oracle.check(model.eval(), X, plan, tolerance=1e-5)
    engine.prune(model, example_inputs=X)
    assert model.a.out_channels == 8
    assert {type(number) for number in (model.k, model.g, model.c, *model.both)} == {kind}


SHARED = {"dict": {"c": 16, "k": 8}, "list": [16, 8]}


@pytest.mark.parametrize("sizes", SHARED.values(), ids=SHARED)
def test_modules_that_share_their_sizes(sizes):
    """One list or dict for all blocks is one for all of them afterwards, and nobody else's has changed."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.sizes, self.conv = sizes, nn.Conv2d(16, 16, 1)

        def forward(self, h):
            first, _ = self.sizes
            first = self.sizes[first] if isinstance(self.sizes, dict) else first
            return h + self.conv(h.view(2, first, 36).view(2, -1, 6, 6)).relu()

    model = Net(
        lambda net, x: net.b(net.d(net.c(net.a(x)))),
        **{"a": nn.Conv2d(3, 16, 3), "c": Block(), "d": Block(), "b": nn.Conv2d(16, 5, 3)},
    )
    check_exact(model, X, {"a.out"})
    assert model.c.sizes is model.d.sizes and model.c.sizes is not sizes
    assert (list(sizes.values()) if isinstance(sizes, dict) else sizes) == [16, 8]


# What decides the path


PATHS = {
    "a text": lambda net, h: h if str(width(h)) == "16" else h * 2,
    "a table": lambda net, h: {16: torch.relu}[int(str(width(h)))](h),
    "a failure": lambda net, h: h * {"16": 1.0}[str(width(h))],
    "an axis": lambda net, h: h.flip(2 + (int(str(width(h))) < 16)),
    "one axis or two": lambda net, h: torch.roll(h, *(([1, 2], [2, 3]) if str(width(h)) == "16" else (1, 2))),
    "a module": lambda net, h: [net.n, net.m][int(str(width(h))) < 16](h),
}


@pytest.mark.parametrize("forward", PATHS.values(), ids=PATHS)
def test_a_size_that_decides_what_is_done_holds_its_slots(forward, said):
    """Nothing of it is pruned, with the line; the rest is, exactly."""
    model = Net(
        lambda net, x: net.b(net.d(forward(net, net.a(x)))),
        **{"a": nn.Conv2d(3, 16, 3), "d": nn.Conv2d(16, 10, 1), "b": nn.Conv2d(10, 5, 3)},
        **{"n": nn.Tanh(), "m": nn.Sigmoid()},
    )
    graph = engine.analyze(model, X)
    (group,) = (group for group in graph.blocked if group.name == "a.out")
    said(group.blocked)
    plan = graph.choose(ratio=0.5, criterion="random")
    assert plan.groups.keys() == {"d.out"}
    oracle.check(model.eval(), X, plan, tolerance=1e-5)


# What moves only at some sizes


LATE = {
    "a clamp": lambda h: min(int(str(width(h))), 4) / 4,
    "one size alone": lambda h: 2.0 if str(width(h)) == "3" else 1.0,
}


@pytest.mark.parametrize("number", LATE.values(), ids=LATE)
def test_a_number_that_moves_only_at_the_sizes_of_the_plan(number):
    """`prune` looks there as well: the group is not exact, and with ``exact_only`` it stays."""

    def made():
        return Net(
            lambda net, x: net.b((h := net.a(x)).sum(1, keepdim=True) * number(h)),
            **{"a": nn.Conv2d(3, 16, 3), "b": nn.Conv2d(1, 5, 3)},
        )

    result = engine.prune(made(), example_inputs=X, ratio=0.5)
    assert result.graph.group("a.out").exact and result.model.a.out_channels == 8
    result = engine.prune(made(), example_inputs=X, ratio=13 / 16)
    assert not result.graph.group("a.out").exact and result.model.a.out_channels == 3
    assert "used as a number at" in str(result) and "test_numbers.py" in str(result)
    result = engine.prune(made(), example_inputs=X, ratio=13 / 16, exact_only=True)
    assert result.model.a.out_channels == 16 and result.left_alone == {"a.out": "not exact"}


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_path_that_is_taken_only_at_the_sizes_of_the_plan(dry_run, said):
    """Its slots stay, and the others are pruned all the same."""
    model = Net(
        lambda net, x: net.b(net.d(h if str(width(h := net.a(x))) != "8" else h * 2)),
        **{"a": nn.Conv2d(3, 16, 3), "d": nn.Conv2d(16, 10, 1), "b": nn.Conv2d(10, 5, 3)},
    )
    result = engine.prune(model, example_inputs=X, dry_run=dry_run)
    assert result.plan.groups.keys() == {"d.out"}
    said(result.graph.group("a.out").blocked)
    assert model.d.out_channels == (10 if dry_run else 5) and model.a.out_channels == 16


def test_nobody_looks_at_the_sizes_of_a_plan_by_hand():
    """What the forward does at just these sizes is for the user to know; docs/limits.md says so."""
    model = Net(
        lambda net, x: net.b(h if str(width(h := net.a(x))) != "8" else h * 2),
        **{"a": nn.Conv2d(3, 16, 3), "b": nn.Conv2d(16, 5, 3)},
    )
    graph = engine.analyze(model, X)
    assert graph.group("a.out").exact
    engine.apply(model, graph.plan({"a.out": list(range(8))}))
    assert model.a.out_channels == 8


def test_each_of_many_sizes_is_told_apart():
    """Of six layers the second and the fifth use their widths as numbers, and only they are not exact."""
    layers = nn.ModuleList(nn.Conv2d(3 if n == 0 else 12 + n, 13 + n, 1) for n in range(6))

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in (1, 4):
                x = x * (0.5 * width(x))
        return self.b(x)

    graph = engine.analyze(Net(forward, layers=layers, b=nn.Conv2d(18, 5, 1)), X)
    exact = {group.name: group.exact for group in graph.groups}
    assert exact == {f"layers.{n}.out": n not in (1, 4) for n in range(6)}


def test_what_data_or_chance_moves_is_no_size():
    """A number that is read from data, and one that changes with time, move at equal sizes as well."""
    clock = iter(range(100))

    def forward(self, x):
        h = self.d(torch.relu(self.a(x)))
        return self.b(h * float(h[0, 0, 0, 0]) + next(clock))

    layers = {"a": nn.Conv2d(3, 16, 3), "d": nn.Conv2d(16, 1, 3), "b": nn.Conv2d(1, 5, 3)}
    graph = engine.analyze(Net(forward, **layers), X)
    assert graph.group("a.out").blocked is None and graph.group("a.out").exact


def test_a_number_that_data_and_a_size_move(said):
    """A mean by hand: its sum is read from data, and the same whatever is cut, but its divisor is not."""

    def net(divisor):
        def forward(self, x):
            h = torch.relu(self.a(x))
            return self.b(h * (float(h.sum()) / divisor(h)))

        torch.manual_seed(0)
        return Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 5, 3))

    graph = engine.analyze(net(width), X)
    group = graph.group("a.out")
    assert not group.exact
    said(graph.inexact(group).text)
    check_exact(net(lambda h: h.shape[2] * 100), X, {"a.out"})


def test_the_model_is_left_as_it_was():
    """Tensors, their memory, gradients and attributes: also where the second trace fails."""

    def forward(self, x):
        h = self.a(x)
        if str(width(h)) != "16":
            raise ValueError("16 or nothing")
        return self.b(self.n(h))

    model = Net(forward, a=nn.Conv2d(3, 16, 3), n=nn.BatchNorm2d(16), b=nn.Conv2d(16, 5, 3)).eval()
    model(X).sum().backward()
    before = {name: (one, one.data_ptr(), one.clone(), one.grad) for name, one in model.named_parameters()}
    engine.analyze(model, X)
    for name, one in model.named_parameters():
        same, place, value, grad = before[name]
        assert one is same and one.data_ptr() == place and torch.equal(one, value) and one.grad is grad
    assert (model.a.out_channels, model.n.num_features, model.b.in_channels) == (16, 16, 16)


def test_fake_tensors_testify_too():
    """A model that is analysed without arithmetic."""

    def forward(self, x):
        h = self.a(x)
        return self.b(h.sum(1, keepdim=True) * (0.5 * width(h)))

    model = Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(1, 5, 3))
    assert not engine.analyze(model, X, fake=True).group("a.out").exact
    with torch.device("meta"):
        model = Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(1, 5, 3))
    assert not engine.analyze(model, X, fake=True).group("a.out").exact
