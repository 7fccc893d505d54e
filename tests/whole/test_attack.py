"""Nets that look exact and are not, and nets that look odd and are exact: each against the oracle."""

from __future__ import annotations

import copy
import math

import oracle
import pytest
import torch
from prunus import engine
from prunus.errors import PlanError
from random_nets import RandomNet
from torch import nn
from torch.nn import functional as F
from trap_nets import Net


def tokens(forward, width: int = 12, **parts) -> Net:
    """Two layers side by side, whatever `forward` does with them, and one layer at the end."""
    return Net(
        forward,
        a=nn.Linear(7, width),
        b=nn.Linear(7, width),
        v=nn.Linear(7, 10),
        out=nn.Linear(10, 3),
        **parts,
    ).eval()


def linear_attention(feature):
    def forward(self, x):
        q, k, v = feature(self.a(x)), feature(self.b(x)), self.v(x)
        return self.out(q @ (k.transpose(1, 2) @ v))

    return forward


def scaled(gate):
    """The sum over the slots of `gate` scales all of another layer's output."""

    def forward(self, x):
        return self.out(F.relu(self.v(x)) * gate(self, x))

    return forward


X = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))


def group_of(graph, axis: str, number: int = 0):
    found = [g for g in [*graph.groups, *graph.blocked] if (axis, number) in [tuple(m) for m in g.members]]
    assert len(found) == 1
    return found[0]


def exact_and_true(net, inputs, axis: str = "a.weight") -> None:
    """The group is called exact, is pruned, and the oracle agrees."""
    graph = engine.analyze(net, inputs)
    group = group_of(graph, axis)
    assert group.blocked is None and group.exact, graph.why(axis.rpartition(".")[0])
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    assert group.name in plan.groups
    oracle.check(net, inputs, plan, tolerance=1e-5)


def not_exact(net, inputs, axis: str = "a.weight") -> str:
    """The group is pruned, but nobody calls it exact; what is called exact is. Returns why."""
    graph = engine.analyze(net, inputs)
    group = group_of(graph, axis)
    assert group.blocked is None and not group.exact
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    assert group.name not in plan.groups
    if plan.groups:
        oracle.check(net, inputs, plan, tolerance=1e-5)
    assert group.name in engine.prune(net, example_inputs=inputs).plan.groups
    assert all(output.isfinite().all() for output in oracle.run(net, inputs))
    return graph.inexact(group).text


# --- zeros, followed forward --------------------------------------------------------------------------------

NOT_ZERO = {
    "elu plus one": linear_attention(lambda x: F.elu(x) + 1),
    "exp": linear_attention(torch.exp),
    "softplus": linear_attention(F.softplus),
    "one minus": linear_attention(lambda x: 1 - F.relu(x)),
    "positional constant": linear_attention(lambda x: x + 0.1),
    "filled": linear_attention(lambda x: x.masked_fill(x < 0, 0.5)),
    "where": linear_attention(lambda x: torch.where(x > 0, x, torch.ones_like(x))),
    "clamped": linear_attention(lambda x: x.clamp(min=0.1)),
    "power": linear_attention(lambda x: (x.abs() + 1).pow(-1)),
    "in place": linear_attention(lambda x: x.sigmoid_()),
    "in place on a view": linear_attention(lambda x: (x.view(-1).add_(1), x)[1]),
    "sigmoid sum": scaled(lambda self, x: torch.sigmoid(self.a(x)).sum(2, keepdim=True)),
    "sum of ones": scaled(
        lambda self, x: (torch.ones_like(self.a(x)) * 0.1 + self.a(x)).sum(2, keepdim=True)
    ),
    "cosine": scaled(lambda self, x: F.cosine_similarity(self.a(x), self.b(x).exp(), dim=2).unsqueeze(2)),
    "normalize": scaled(
        lambda self, x: (F.normalize(self.a(x).sigmoid(), dim=2) * self.b(x)).sum(2, keepdim=True)
    ),
    "cdist": scaled(lambda self, x: torch.cdist(self.a(x), self.b(x).cos()).mean(2, keepdim=True)),
    "einsum": scaled(
        lambda self, x: torch.einsum("btc,btc->bt", self.a(x).exp(), self.b(x).exp())[..., None]
    ),
    "einsum of one": scaled(lambda self, x: torch.einsum("btc->bt", self.a(x).sigmoid())[..., None]),
    "logsumexp": scaled(lambda self, x: self.a(x).logsumexp(2, keepdim=True)),
    "padded with ones": scaled(
        lambda self, x: F.pad(self.a(x), (0, 0, 1, 0), value=1.0)[:, :-1].sum(2, keepdim=True)
    ),
    "written ones": scaled(lambda self, x: written(self.a(x)).sum(2, keepdim=True)),
    "broadcast sum": scaled(lambda self, x: (self.a(x) + x[..., :1]).abs().sum(2, keepdim=True)),
}


def written(y):
    y = y.clone()
    y[:, 0] = 1.0
    return y


@pytest.mark.parametrize("case", NOT_ZERO)
def test_sum_over_slots_that_are_not_zero_is_not_exact(case, said):
    """A slot that is zero in its weights is not zero after this, and is summed before it meets a weight."""
    said(not_exact(tokens(NOT_ZERO[case]), X))


STAYS_ZERO = {
    "relu features": linear_attention(F.relu),
    "elu": linear_attention(F.elu),
    "gated": linear_attention(lambda x: x * torch.sigmoid(x)),
    "halved": linear_attention(lambda x: x / 2),
    "masked": linear_attention(lambda x: x.masked_fill(x < 0, 0.0)),
    "clamped at zero": linear_attention(lambda x: x.clamp(min=0)),
    "square": linear_attention(torch.square),
    "dot product": scaled(lambda self, x: (self.a(x) * self.b(x)).sum(2, keepdim=True)),
    "one side is zero": scaled(lambda self, x: (self.a(x).sigmoid() * self.b(x)).sum(2, keepdim=True)),
    "einsum with a parameter": scaled(
        lambda self, x: torch.einsum("btc,c->bt", self.a(x).exp(), self.b.bias + self.a.bias)[..., None]
    ),
    "cosine of zeros": scaled(lambda self, x: F.cosine_similarity(self.a(x), self.b(x), dim=2).unsqueeze(2)),
    "residual": scaled(lambda self, x: (self.a(x) + F.relu(self.b(x))).sum(2, keepdim=True)),
    "written": scaled(lambda self, x: torch.cat([self.a(x), self.b(x)], 2).roll(1, 1).sum(2, keepdim=True)),
}


@pytest.mark.parametrize("case", STAYS_ZERO)
def test_sum_over_slots_that_stay_zero_is_exact(case):
    """Functions that are zero at zero, products with a zero, and moves keep a slot zero."""
    exact_and_true(tokens(STAYS_ZERO[case]), X)


# --- sizes used as numbers ----------------------------------------------------------------------------------

NUMBERS = {
    "divided by a size": lambda y: y.sum(2, keepdim=True) / y.shape[2],
    "divided by its root": lambda y: y.sum(2, keepdim=True) / math.sqrt(y.shape[2]),
    "power of a size": lambda y: y.sum(2, keepdim=True) * y.shape[2] ** -0.5,
    "float": lambda y: y.sum(2, keepdim=True) / float(y.size(-1)),
    "one over": lambda y: y.sum(2, keepdim=True) * (1 / y.shape[2]),
    "times a fraction": lambda y: y.sum(2, keepdim=True) * (y.shape[2] * 0.1),
    "a tensor of it": lambda y: y.sum(2, keepdim=True) / torch.tensor(y.shape[2]),
    "full": lambda y: y.sum(2, keepdim=True) / torch.full((1,), y.shape[2]),
    "filled": lambda y: y.sum(2, keepdim=True) / torch.ones(1).fill_(y.shape[2]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_size_used_as_a_number_is_not_exact(case, said):
    """A temperature or a mean by hand depends on how many slots there are."""
    said(not_exact(tokens(scaled(lambda self, x: NUMBERS[case](self.a(x)))), X))


def test_temperature_that_does_not_change_is_exact():
    """``C // heads`` stays what it is where whole heads go, and changes where slots inside of them do."""

    def forward(self, x):
        y = self.a(x)
        b, n, c = y.shape
        q = y.view(b, n, self.heads, c // self.heads).transpose(1, 2)
        weights = (q * (c // self.heads) ** -0.5) @ self.b(x).view(b, n, self.heads, -1).permute(0, 2, 3, 1)
        v = self.v(x).view(b, n, 1, -1).transpose(1, 2)
        return self.out((weights.relu() @ v).sum(1))

    net = tokens(forward, heads=4)
    graph = engine.analyze(net, X)
    assert {group.size: group.exact for group in graph.groups if "a.out" in group.producers} == {
        4: True,
        3: False,
    }
    plan = graph.choose(criterion="random", exact_only=True)
    assert plan.attributes["heads"] == 2
    oracle.check(net, X, plan, tolerance=1e-5)


# --- tensors that share memory ------------------------------------------------------------------------------


def into_a_slice(self, x):
    y, z = self.a(x), F.relu(self.b(x))
    y[..., :6].copy_(z[..., 6:])
    return self.out(F.relu(self.v(x)) * y.sum(2, keepdim=True))


def out_into_a_view(self, x):
    y, z = self.a(x), self.b(x)
    both = x.new_zeros(x.shape[0], x.shape[1], 2 * y.shape[2])
    torch.add(y, z, out=both[..., : y.shape[2]])
    torch.mul(y, z, out=both[..., y.shape[2] :])
    return self.out(F.relu(self.v(x)) * both.tanh().sum(2, keepdim=True))


def chunks_in_place(self, x):
    y = self.a(x)
    first, second = y.chunk(2, 2)
    first.add_(second).relu_()
    return self.out(F.relu(self.v(x)) * (y * self.b(x)).sum(2, keepdim=True))


@pytest.mark.parametrize("forward", [into_a_slice, out_into_a_view, chunks_in_place])
def test_what_is_written_into_a_part_is_coupled_with_it(forward):
    """``copy_`` into a slice, ``out=`` into a view, in-place arithmetic on chunks: the whole follows."""
    net = tokens(forward)
    for _ in range(2):
        plan = engine.analyze(net, X).choose(ratio=0.5, criterion="random", exact_only=True)
        oracle.check(net, X, plan, tolerance=1e-5)
        engine.apply(net, plan)


def test_length_of_a_tensor_is_a_size_used_as_a_number(said):
    """``len(x)`` gives a plain number, of which nobody knows where it goes."""
    said(not_exact(tokens(scaled(lambda self, x: lengthy(self.a(x)))), X))


def lengthy(y):
    y = y.permute(2, 0, 1)
    return y.sum(0).unsqueeze(2) / len(y)


# --- without a batch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("extent", [8, 9])
@pytest.mark.parametrize("batch", [(), (8,)])
def test_convolution_with_and_without_a_batch(rank, extent, batch):
    """The channels are found by the kernel's rank, not by the sizes, which here are all the same."""
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    back = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]

    def forward(self, x):
        x = self.c(F.relu(self.b(F.relu(self.a(x)))))
        return self.out(F.relu(x).flatten(-rank).mean(-1))

    net = Net(
        forward, a=layer(8, 8, 3, padding=1), b=layer(8, 8, 1, groups=4), c=back(8, 8, 1), out=nn.Linear(8, 3)
    )
    x = torch.randn(*batch, 8, *[extent] * rank)
    graph = engine.analyze(net.eval(), x)
    assert not graph.unknown
    assert {group.name: group.size for group in graph.groups} == {"b.g": 4, "b.in": 2, "b.out": 2, "c.out": 8}
    oracle.check(net, x, graph.choose(criterion="random", exact_only=True), tolerance=1e-5)


# --- plans --------------------------------------------------------------------------------------------------


def attention(width: int = 16, heads: int = 4) -> Net:
    """One attention with its heads in an attribute."""

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(y)

    return Net(forward, qkv=nn.Linear(7, 3 * width), out=nn.Linear(width, 3), heads=heads).eval()


def contents(model: nn.Module):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, getattr(
        model, "heads", None
    )


def unchanged(model: nn.Module, before) -> bool:
    tensors, heads = contents(model)
    return heads == before[1] and all(torch.equal(tensors[name], was) for name, was in before[0].items())


def test_plan_is_refused_by_a_model_with_other_heads():
    """All its tensors have the right shapes, but the heads are others."""
    plan = engine.analyze(attention(), X).choose()
    other = attention(heads=2)
    before = contents(other)
    with pytest.raises(PlanError, match="heads = 4, here it is 2"):
        engine.apply(other, plan)
    assert unchanged(other, before)


@pytest.mark.parametrize(
    "axes", ['{"-1": [0]}', '{"0": [0.5]}', '{"0": [1, 0]}', '{"0": []}', '{"0": 3}', '{"9": [0]}']
)
def test_damaged_plan_is_refused(axes):
    """A plan may come from a file that somebody edited."""
    model = attention()
    before = contents(model)
    tensors = f'{{"out.weight": {axes}}}'
    text = f'{{"groups": {{}}, "tensors": {tensors}, "attributes": {{}}, "shapes": {{}}, "before": {{}}}}'
    with pytest.raises(PlanError):
        engine.apply(model, engine.Plan.from_json(text))
    assert unchanged(model, before)


@pytest.mark.parametrize("slots", [None, 3, [[0, 1], [2, 3]], [0.0, 1.0], [True, False], "ab", [], [0, 0]])
def test_slots_by_hand_that_are_no_slots_are_refused(slots):
    """A `PlanError` says what is expected, whatever is given."""
    graph = engine.analyze(attention(), X)
    group = next(group for group in graph.groups if group.size == 4)
    with pytest.raises(PlanError):
        graph.plan({group.name: slots})


def test_criterion_without_scores_is_refused():
    """A user's own criterion may forget to return them."""
    with pytest.raises(PlanError, match="criterion"):
        engine.prune(attention(), example_inputs=X, criterion=lambda group, tensors: None)


def test_pruned_in_inference_mode_trains_on():
    """The sliced parameters are no inference tensors."""
    net = attention()
    with torch.inference_mode():
        engine.prune(net, example_inputs=X)
    net(X).sum().backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in net.parameters())


@pytest.mark.parametrize(
    "kind", ["Adam", "AdamW", "NAdam", "RMSprop", "Adagrad", "Adadelta", "Adafactor", "Rprop"]
)
def test_optimizers_go_on_after_pruning(kind):
    """State of the parameter's shape, and rows and columns of it, are sliced along."""
    net = attention()
    optimizer = getattr(torch.optim, kind)(net.parameters())
    for _ in range(2):
        net(X).square().sum().backward()
        optimizer.step()
        before = {name: copy.copy(optimizer.state[one]) for name, one in net.named_parameters()}
        plan = engine.prune(net, example_inputs=X, optimizer=optimizer).plan
        assert plan.tensors
        for name, parameter in net.named_parameters():
            assert optimizer.state[parameter].keys() == before[name].keys()
            for key, value in optimizer.state[parameter].items():
                expected = kept_part(before[name][key], plan.tensors.get(name, {}))
                assert torch.equal(value, expected), f"{name}: {key}"
        optimizer.zero_grad()


def kept_part(state: torch.Tensor, axes: dict[int, list[int]]) -> torch.Tensor:
    """The slots that a plan keeps, along the axes that the optimizer has not summed up."""
    for axis, kept in axes.items():
        if axis < state.dim() and state.shape[axis] > 1:
            state = state.index_select(axis, torch.tensor(kept))
    return state


# --- random nets --------------------------------------------------------------------------------------------


# How often a net can be pruned in a row, where it is not twice: nothing, or nothing more, is exact.
ROUNDS = dict.fromkeys((3, 19, 26, 27, 37, 47, 54), 0) | dict.fromkeys((2, 25, 34, 36, 44, 50, 56), 1)


@pytest.mark.parametrize("seed", range(60))
def test_random_net_is_exact_twice_in_a_row(seed):
    """Whatever is called exact is, as many times as is known, and all else can be pruned and run."""
    torch.manual_seed(seed)
    net = RandomNet(seed).eval()
    x = net.inputs()
    shapes = [output.shape for output in oracle.run(net, x)]
    for _ in range(ROUNDS.get(seed, 2)):
        plan = engine.analyze(net, x).choose(ratio=0.5, criterion="random", exact_only=True)
        oracle.check(net, x, plan, tolerance=2e-5)
        engine.apply(net, plan)
    engine.prune(net, example_inputs=x)
    assert [output.shape for output in oracle.run(net, x)] == shapes
