"""The temperature of attention is folded into weights, so that slots inside heads go exactly."""

import copy
import json

import oracle
import pytest
import torch
from attrs import evolve
from prunus import engine
from prunus.adapters.apply import carry_out
from prunus.errors import PlanError, VerificationError
from torch import nn
from torch.nn import functional as F

TOKENS = torch.randn(2, 5, 24)


def heads(x, count):
    return x.view(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


class Attention(nn.Module):
    """Projections of their own for query, key and value; the inside of a head is read off the weights."""

    def __init__(self, kv_heads=4, scale=None):
        super().__init__()
        self.heads, self.kv_heads, self.scale = 4, kv_heads, scale
        self.q = nn.Linear(24, 4 * 6)
        self.k, self.v = (nn.Linear(24, kv_heads * 6) for _ in range(2))
        self.out = nn.Linear(24, 24)

    def made(self, x):
        return heads(self.q(x), self.heads), heads(self.k(x), self.kv_heads), heads(self.v(x), self.kv_heads)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=self.scale, enable_gqa=self.kv_heads < 4)

    def forward(self, x):
        return self.out(self.attend(*self.made(x)).transpose(1, 2).flatten(2))


class Fused(Attention):
    """One projection for all three, cut apart as `way` says."""

    def __init__(self, way):
        super().__init__()
        self.qkv, self.way = nn.Linear(24, 72), way

    def made(self, x):
        qkv = self.qkv(x)
        if self.way == "chunk":
            return (heads(one, 4) for one in qkv.chunk(3, dim=-1))
        if self.way == "index":
            size = qkv.shape[-1] // 3
            return (
                heads(one, 4) for one in (qkv[..., :size], qkv[..., size : 2 * size], qkv[..., 2 * size :])
            )
        if self.way == "inside":
            return qkv.view(2, 5, 4, -1).transpose(1, 2).chunk(3, dim=-1)
        return qkv.reshape(2, 5, 3, 4, -1).permute(2, 0, 3, 1, 4).unbind(0)


class Rotary(Attention):
    """Positions turn pairs of slots, as in Llama."""

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.tensor([0.1, 0.7, 1.1]))

    def made(self, x):
        q, k, v = super().made(x)
        angles = torch.arange(5.0)[:, None] * torch.cat([self.frequencies] * 2)
        return self.turned(q, angles), self.turned(k, angles), v

    def turned(self, x, angles):
        first, second = x.chunk(2, dim=-1)
        return x * angles.cos() + torch.cat((-second, first), dim=-1) * angles.sin()


class Normed(Attention):
    """Queries and keys are normalised over a head."""

    def __init__(self, norm):
        super().__init__()
        self.qn, self.kn = norm(6), norm(6)

    def made(self, x):
        q, k, v = super().made(x)
        return self.qn(q), self.kn(k), v


def slots_of(graph, kind="qk"):
    return [group for group in graph.groups if group.kind == kind]


def pruned(model, x=TOKENS, kind="qk", keep=lambda size: range(1, size, 2)):
    """The graph, and the plan that drops slots of this kind and of what is tied with it."""
    graph = engine.analyze(model, x, prefer="inner")
    sizes = {group.name: group.size for group in slots_of(graph, kind)}
    for group in slots_of(graph, kind):
        sizes.update(group.tie or ())
    return graph, graph.plan({name: list(keep(size)) for name, size in sizes.items()})


EXACT = {
    "separate": Attention,
    "grouped queries": lambda: Attention(kv_heads=2),
    "chunk": lambda: Fused("chunk"),
    "index": lambda: Fused("index"),
    "inside": lambda: Fused("inside"),
    "unbind": lambda: Fused("unbind"),
    "rotary": Rotary,
}


@pytest.mark.parametrize("name", EXACT)
def test_default_temperature_is_folded(name):
    """Queries and keys shrink inside of heads, and the pruned model equals the masked one."""
    model = EXACT[name]()
    graph, plan = pruned(model)
    assert [group.exact for group in slots_of(graph)] == [True]
    assert plan.scales
    oracle.check(model, TOKENS, plan)


def test_only_the_rows_of_the_query_are_scaled():
    """Of a fused projection a third is multiplied by the root of the share that stays."""
    _, plan = pruned(Fused("chunk"), keep=lambda size: range(3))
    scaled = pytest.approx([0.5**0.5] * 12 + [1.0] * 24)
    assert plan.scales == {"qkv.weight": {0: scaled}, "qkv.bias": {0: scaled}}


def test_a_scale_that_is_a_number_needs_no_folding():
    """What does not depend on sizes does not change with them: exact, and nothing is multiplied."""
    model = Attention(scale=0.3)
    graph, plan = pruned(model)
    assert [group.exact for group in slots_of(graph)] == [True]
    assert plan.scales == {}
    oracle.check(model, TOKENS, plan)


def test_a_number_times_the_query_needs_no_folding():
    """The same where the model itself multiplies with a number that it was made with."""

    class Multiplied(Attention):
        def attend(self, q, k, v):
            return torch.softmax(q * 0.4 @ k.transpose(-2, -1), -1) @ v

    model = Multiplied()
    graph, plan = pruned(model, kind="k")
    assert [group.exact for group in slots_of(graph, "k")] == [True]
    assert plan.tensors and plan.scales == {}
    oracle.check(model, TOKENS, plan)


def test_a_number_made_of_a_traced_size_is_not_exact():
    """A temperature that the forward computes from a shape changes, and nothing makes up for it."""

    class Computed(Attention):
        def attend(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.25)

    graph, plan = pruned(Computed())
    assert [group.exact for group in slots_of(graph)] == [False]
    assert plan.scales == {}


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_norm_of_the_queries_takes_the_factor(norm):
    """A norm undoes what is multiplied before it, so its own weights are."""
    _, plan = pruned(Normed(norm))
    assert {name.partition(".")[0] for name in plan.scales} == {"qn"}


def test_a_norm_without_weights_cannot_take_the_factor():
    """Nothing behind the norm could be multiplied."""
    graph, plan = pruned(Normed(lambda size: nn.LayerNorm(size, elementwise_affine=False)))
    assert [group.exact for group in slots_of(graph)] == [False]
    assert plan.scales == {}


class Leaking(Attention):
    """What makes the query does something else as well."""

    def __init__(self, leak):
        super().__init__()
        self.leak = leak

    def made(self, x):
        q, k, v = super().made(x)
        return self.leak(q, k, v)


LEAKS = {
    "added to the values": lambda q, k, v: (q, k, v + q.mean(-1, keepdim=True)),
    "also the keys": lambda q, k, v: (q, q, v),
    "bent": lambda q, k, v: (torch.tanh(q), k, v),
    "shifted": lambda q, k, v: (q + 1.0, k, v),
    "squared": lambda q, k, v: (q * q, k, v),
    "joined with the keys": lambda q, k, v: (q + k, k, v),
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_makes_more_than_queries_is_not_scaled(name):
    """A weight that makes something else, too, or is not all that makes it, stays as it is: not exact."""
    graph, plan = pruned(Leaking(LEAKS[name]))
    assert not any(group.exact for group in slots_of(graph))
    assert plan.scales == {}


def test_attentions_that_share_their_weights_are_folded_once():
    """One layer that is called twice is multiplied once, for both of its attentions."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = Attention()

        def forward(self, x):
            return self.attention(self.attention(x))

    model = Twice()
    graph, plan = pruned(model, keep=lambda size: range(3))
    assert all(group.exact for group in slots_of(graph))
    assert plan.scales["attention.q.weight"][0] == pytest.approx([0.5**0.5] * 12)
    oracle.check(model, TOKENS, plan)


@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(need_weights):
    """Heads inside of `nn.MultiheadAttention` shrink with the embedding, exactly."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(24, 24), nn.Linear(24, 24)
            self.attention = nn.MultiheadAttention(24, 4, batch_first=True)

        def forward(self, x):
            x = self.enter(x)
            return self.leave(self.attention(x, x, x, need_weights=need_weights)[0])

    model = Net()
    plan = engine.analyze(model, TOKENS, prefer="inner").choose(0.5, only="attention.qk", exact_only=True)
    assert set(plan.scales) == {"attention.in_proj_weight", "attention.in_proj_bias"}
    oracle.check(model, TOKENS, plan)


def test_plan_goes_through_json():
    """What is multiplied is part of the plan's text; one from before there was any is read, too."""
    _, plan = pruned(Attention())
    assert engine.Plan.from_json(plan.to_json()) == plan
    without = {name: value for name, value in json.loads(plan.to_json()).items() if name != "scales"}
    assert engine.Plan.from_json(json.dumps(without)).scales == {}


def test_a_failure_takes_the_factor_back():
    """If the pruned model cannot be verified, all of its tensors are as they were."""
    model = Attention()
    plan = engine.prune(model, example_inputs=TOKENS, prefer="inner", only="qk", dry_run=True).plan
    before = copy.deepcopy(model.state_dict())

    def fail():
        raise RuntimeError("no")

    assert plan.scales
    with pytest.raises(VerificationError):
        carry_out(model, plan, check=fail)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_gradient_is_that_of_the_smaller_model():
    """The gradient of multiplied weights is divided, as a backward pass would have it."""
    model = Attention()
    _, plan = pruned(model, keep=lambda size: range(3))
    masked = copy.deepcopy(model)
    oracle.mask(masked, plan)
    masked(TOKENS).square().sum().backward()
    engine.apply(masked, plan)
    engine.apply(model, plan)(TOKENS).square().sum().backward()
    assert torch.allclose(masked.q.weight.grad, model.q.weight.grad, rtol=1e-3, atol=1e-4)


def test_half_precision_rounds_once():
    """A bfloat16 weight is the rounded product, not the product of a rounded factor."""
    model = Attention()
    _, plan = pruned(model, keep=lambda size: range(3))
    half = copy.deepcopy(model).to(torch.bfloat16)
    rows = half.q.weight.detach().float()[plan.tensors["q.weight"][0]]
    engine.apply(half, plan)
    assert torch.equal(half.q.weight, (rows * 0.5**0.5).to(torch.bfloat16))


def test_a_plan_for_other_shapes_is_refused():
    """As many factors as indices that are kept, of an axis that is there."""
    model = Attention()
    _, plan = pruned(model)
    with pytest.raises(PlanError, match="scales"):
        engine.apply(model, evolve(plan, scales={"q.weight": {0: [1.0]}}))
    with pytest.raises(PlanError, match="scales"):
        engine.apply(model, evolve(plan, scales={"w.weight": {0: [1.0]}}))
    assert model.q.weight.shape == (24, 24)
