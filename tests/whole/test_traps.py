"""Every row of the traps: prunes exactly, or stays with a reason, twice in a row, and keeps its promises."""

from __future__ import annotations

import copy
import itertools

import oracle
import own_models
import pytest
import torch
from prunus import engine
from torch import nn
from torch.nn import functional as F
from trap_nets import TRAPS, Net, conv, multihead


def place(axis: str) -> tuple[str, int]:
    """``conv.weight[0]`` as a tensor's name and an axis."""
    name, _, number = axis.removesuffix("]").rpartition("[")
    return name, int(number)


def size(model: nn.Module, axis: str) -> int:
    name, number = place(axis)
    return oracle.named_tensor(model, name).shape[number]


def reasons(graph, axis: str) -> list[str]:
    """Why the atoms on an axis are blocked, as far as they are."""
    return [
        group.blocked
        for group in graph.blocked
        if place(axis) in [(member.tensor, member.axis) for member in group.members]
    ]


def sizes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with a ReLU between any two."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# --- exact, twice in a row ---------------------------------------------------------------------------------


def halved_twice(model, inputs, axes):
    """Prune at random slots, twice in a row; each time the graph, and the sizes of `axes` before."""
    for _ in range(2):
        before = {axis: size(model, axis) for axis in axes}
        graph = engine.analyze(model, inputs)
        plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
        oracle.check(model, inputs, plan, tolerance=1e-5)
        engine.apply(model, plan)
        yield graph, before


@pytest.mark.parametrize("trap", TRAPS, ids=str)
def test_random_slots_are_exact_twice_in_a_row(trap):
    """Pruned and pruned again at random slots, the model computes what its masked original does."""
    model, inputs = trap.build().eval(), trap.inputs()
    for graph, before in halved_twice(model, inputs, trap.prunes + trap.stays + trap.either):
        for axis in trap.prunes:
            assert size(model, axis) < before[axis], f"{axis} was not pruned: {reasons(graph, axis)}"
        for axis in trap.stays:
            assert size(model, axis) == before[axis], f"{axis} was pruned"
        for axis in trap.either:
            assert size(model, axis) < before[axis] or (reasons(graph, axis) and all(reasons(graph, axis)))


@pytest.mark.parametrize("trap", TRAPS, ids=str)
def test_default_call_prunes_and_keeps_output_shapes(trap):
    """``engine.prune`` with no more than inputs makes each of the nets smaller and leaves it running."""
    model, inputs = trap.build().eval(), trap.inputs()
    shapes = [output.shape for output in oracle.run(model, inputs)]
    before = parameters(model)
    engine.prune(model, example_inputs=inputs)
    assert parameters(model) < before
    assert [output.shape for output in oracle.run(model, inputs)] == shapes


# --- coupling ----------------------------------------------------------------------------------------------


def test_broadcast_axis_is_not_coupled_with_what_it_meets():
    """A gate of one channel is in no group with the channels that it scales."""
    trap = next(trap for trap in TRAPS if str(trap) == "one_channel_gate")
    graph = engine.analyze(trap.build().eval(), trap.inputs())
    groups = [{(member.tensor, member.axis) for member in group.members} for group in graph.groups]
    assert {("a.weight", 0), ("a.bias", 0), ("gate.weight", 1), ("b.weight", 1)} in groups


def test_equal_sizes_are_not_a_coupling():
    """Both axes of a square table are free on their own where two layers meet in it."""
    trap = next(trap for trap in TRAPS if str(trap) == "square_table_between_two_layers")
    graph = engine.analyze(trap.build().eval(), trap.inputs())
    groups = [{(m.tensor, m.axis) for m in group.members} for group in graph.groups]
    rows = [members for members in groups if ("table", 0) in members]
    columns = [members for members in groups if ("table", 1) in members]
    assert len(rows) == len(columns) == 1
    assert ("a.weight", 0) in rows[0] and ("b.weight", 0) in columns[0] and rows != columns


def test_slots_inside_of_heads_are_exact_once_the_temperature_is_folded():
    """The softmax temperature depends on the size of queries and keys: the weights make up for it."""

    def forward(self, x):
        x = self.enter(x)
        return self.out(F.relu(self.hidden(self.mha(x, x, x, need_weights=False)[0])))

    model, x = multihead(forward).eval(), torch.randn(2, 5, 7)
    heads = [group for group in in_projection(engine.analyze(model, x)) if group.size == 4]
    inside = [group for group in in_projection(engine.analyze(model, x, prefer="inner")) if group.size == 6]
    assert [(group.blocked, group.exact) for group in heads] == [(None, True)]
    assert [(group.blocked, group.exact) for group in inside] == [(None, True)] * 2
    plan = engine.analyze(model, x, prefer="inner").choose(0.5, only="mha.qk")
    assert plan.scales
    oracle.check(model, x, plan)


def test_heads_whose_weights_are_averaged_are_not_exact():
    """The mean over all heads of their attention weights is another without some of the heads."""

    def forward(self, x):
        x = self.enter(x)
        y, weights = self.mha(x, x, x)
        return self.out(F.relu(self.hidden(y))), weights

    graph = engine.analyze(multihead(forward).eval(), torch.randn(2, 5, 7))
    assert not any(group.exact for group in in_projection(graph) if group.size == 4)


def test_einsum_couples_what_it_names():
    """A new axis of an einsum is coupled with the layer that reads it, though no layer produced it."""
    trap = next(trap for trap in TRAPS if str(trap) == "einsum")
    graph = engine.analyze(trap.build().eval(), trap.inputs())
    groups = [{(member.tensor, member.axis) for member in group.members} for group in graph.groups]
    assert {("matrix", 0), ("out.weight", 1)} in groups
    assert {("a.weight", 0), ("a.bias", 0), ("matrix", 1)} in groups


def in_projection(graph) -> list:
    """The groups, free or blocked, on the outputs of the projection to queries, keys and values."""
    place = ("mha.in_proj_weight", 0)
    groups = [*graph.groups, *graph.blocked]
    return [group for group in groups if place in [(member.tensor, member.axis) for member in group.members]]


def test_statistics_over_an_axis_are_not_exact():
    """What goes into a layer norm is marked, and left alone where only exact groups are asked for."""
    model = Net(
        lambda self, x: self.out(self.norm(self.enter(x))),
        enter=nn.Linear(7, 16),
        norm=nn.LayerNorm(16),
        out=nn.Linear(16, 3),
    ).eval()
    graph = engine.analyze(model, torch.randn(2, 7))
    group = next(g for g in graph.groups if ("enter.weight", 0) in [(m.tensor, m.axis) for m in g.members])
    assert not group.exact
    assert group.name not in graph.choose(ratio=0.5, criterion="random", exact_only=True).groups
    engine.prune(model, example_inputs=torch.randn(2, 7))
    assert model.norm.weight.shape == (8,) and tuple(model.norm.normalized_shape) == (8,)


def test_wide_attention_is_pruned_by_heads():
    """Heads of a wide fused projection are slots, not lists of a thousand numbers."""
    trap = next(trap for trap in TRAPS if str(trap) == "qkv_by_permute")
    model = trap.build()
    model.heads, model.size = 32, 64
    model.qkv, model.proj = nn.Linear(10, 3 * 2048), nn.Linear(2048, 10)
    graph = engine.analyze(model.eval(), trap.inputs())
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    assert {graph.group(name).size: len(kept) for name, kept in plan.groups.items()}[32] == 16


# --- sharing, flags and dtypes -----------------------------------------------------------------------------


def test_tied_embedding_and_head_stay_tied():
    """One parameter, sliced once: the head still is the embedding."""
    model, tokens = own_models.Shared().eval(), torch.randint(0, 100, (2, 9))
    graph = engine.analyze(model, tokens)
    oracle.check(model, tokens, graph.choose(ratio=0.5, criterion="random", exact_only=True), 1e-5)
    weight = model.embedding.weight
    engine.prune(model, example_inputs=tokens)
    assert model.head.weight is model.embedding.weight is weight
    assert weight.shape == (100, 16)
    assert model.twice.weight.shape == (28, 28)


def test_a_parameter_under_two_names_stays_one():
    """The two names still mean one parameter after pruning."""
    trap = next(trap for trap in TRAPS if str(trap) == "one_parameter_under_two_names")
    model = trap.build()
    engine.prune(model, example_inputs=trap.inputs())
    assert model.a.weight is model.b.weight and model.a.weight.shape == (6, 7)


def test_frozen_parameters_dtypes_and_buffers_are_kept():
    """Frozen and mixed-precision layers and buffers without persistence are pruned like any other."""

    def forward(self, x):
        x = F.relu(self.a(x.to(torch.bfloat16))).float()
        x = F.relu(self.b(x * self.gain)).double()
        return self.c(x).float()

    model = Net(forward, a=nn.Linear(7, 16).bfloat16(), b=nn.Linear(16, 12), c=nn.Linear(12, 3).double())
    model.register_buffer("gain", torch.rand(16), persistent=False)
    model.b.requires_grad_(False)
    flags = {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()}
    x = torch.randn(4, 7)
    plan = engine.analyze(model.eval(), x).choose(ratio=0.5, criterion="random", exact_only=True)
    oracle.check(model, x, plan, 1e-5)
    engine.apply(model, plan)
    assert {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()} == flags
    assert model.gain.shape == (8,) and "gain" not in model.state_dict()
    assert model.a.weight.shape == (8, 7) and model.b.weight.shape == (6, 8)


def test_half_precision_keeps_its_dtype():
    """A model in float16 is pruned in float16."""
    model = mlp(7, 16, 12, 3).half().eval()
    engine.prune(model, example_inputs=torch.randn(2, 7).half())
    assert [tuple(p.shape) for p in model.parameters()][::2] == [(8, 7), (6, 8), (3, 6)]
    assert {p.dtype for p in model.parameters()} == {torch.float16}


# --- inputs ------------------------------------------------------------------------------------------------


def test_a_tensor_is_one_argument_whatever_its_batch():
    """Two samples in a tensor are not two arguments of a forward that could take a second one."""

    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(7, 16), nn.Linear(16, 3)

        def forward(self, x, mask=None):
            assert mask is None and x.shape[0] == 2
            return self.out(F.relu(self.hidden(x)))

    model = Optional()
    engine.prune(model, example_inputs=torch.randn(2, 7))
    assert model.hidden.weight.shape == (8, 7)


@pytest.mark.parametrize("spelling", ["tensor", "tuple", "dict", "pair"])
def test_every_spelling_of_example_inputs(spelling):
    """A tensor, positional arguments, keyword arguments, or both."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(7, 16), nn.Linear(16, 3)

        def forward(self, x, scale=None):
            hidden = F.relu(self.hidden(x))
            return self.out(hidden if scale is None else hidden * scale)

    x, scale = torch.randn(2, 7), torch.rand(2, 1)
    inputs = {
        "tensor": x,
        "tuple": (x, scale),
        "dict": {"x": x, "scale": scale},
        "pair": ((x,), {"scale": scale}),
    }
    model = Scaled()
    engine.prune(model, example_inputs=inputs[spelling])
    assert model.hidden.weight.shape == (8, 7)


# --- no state between calls --------------------------------------------------------------------------------


def test_two_models_one_after_the_other():
    """The second of two equal models is pruned as the first was, whatever came between."""
    first = mlp(7, 16, 12, 3)
    second = copy.deepcopy(first)
    x = torch.randn(2, 7)
    engine.prune(first, example_inputs=x)
    engine.prune(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4)), example_inputs=torch.randn(1, 3, 5, 5))
    engine.prune(second, example_inputs=x)
    assert torch.equal(first(x), second(x))


def test_a_plan_replayed_on_a_fresh_copy_equals_the_first():
    """A plan is data: carried out on another instance, and through JSON, it does the same."""
    model = own_models.UNet().eval()
    copies = [copy.deepcopy(model) for _ in range(2)]
    x = torch.randn(1, 3, 16, 16)
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    assert sizes(model) == sizes(copies[0])
    result = engine.prune(model, example_inputs=x)
    assert result.plan == plan
    engine.apply(copies[0], plan)
    engine.apply(copies[1], type(plan).from_json(plan.to_json()))
    for other in copies:
        assert sizes(other) == sizes(model)
        assert torch.equal(other(x), model(x))


def test_pruned_twice_by_the_default_call():
    """The pruned model is a model like any other."""
    model, x = own_models.UNet().eval(), torch.randn(1, 3, 16, 16)
    for width in (6, 3):
        engine.prune(model, example_inputs=x)
        assert model.down1[0].weight.shape[0] == width


# --- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.9, 0.99, 0.999])
def test_at_least_one_slot_stays(ratio):
    """However much is asked for, every group keeps a slot, and never more goes than was asked for."""
    model, x = mlp(7, 16, 5, 3), torch.randn(2, 7)
    groups = {group.name: group.size for group in engine.analyze(model, x).groups}
    plan = engine.prune(model, example_inputs=x, ratio=ratio).plan
    assert plan.groups.keys() == groups.keys()
    for name, kept in plan.groups.items():
        assert len(kept) >= max(1, (1 - ratio) * groups[name] - 1e-6)
    assert model(x).shape == (2, 3)


@pytest.mark.parametrize("round_to, widths", [(3, (9, 12)), (8, (8, 16)), (64, (16, 20)), (1000, (16, 20))])
def test_rounding_takes_no_more_than_asked(round_to, widths):
    """What ``round_to`` cannot keep in multiples, it keeps whole."""
    model, x = mlp(7, 16, 20, 3), torch.randn(2, 7)
    engine.prune(model, example_inputs=x, ratio=0.5, round_to=round_to)
    assert (model[0].out_features, model[2].out_features) == widths


def test_equal_scores_are_not_all_dropped():
    """Where all slots are worth the same, still only half of them go."""
    model, x = mlp(7, 16, 12, 3), torch.randn(2, 7)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.25)
    engine.prune(model, example_inputs=x)
    assert [layer.weight.shape[0] for layer in model[::2]] == [8, 6, 3]


def test_nothing_to_prune_says_why():
    """A model without a hidden layer stays as it is, and is told why."""
    model, x = nn.Linear(7, 3), torch.randn(2, 7)
    weight = model.weight.clone()
    result = engine.prune(model, example_inputs=x)
    assert torch.equal(model.weight, weight) and not result.plan.tensors
    assert "axis 1 of the model's output" in str(result) and "nothing was removed" in str(result)


def test_ratio_of_nothing_changes_nothing():
    """``ratio=0`` is a valid question with an easy answer."""
    model, x = mlp(7, 16, 3), torch.randn(2, 7)
    before = copy.deepcopy(model)
    engine.prune(model, example_inputs=x, ratio=0.0)
    assert sizes(model) == sizes(before) and torch.equal(model(x), before(x))


@pytest.mark.parametrize("ratio", [0.5, 0.95])
def test_the_classifier_and_the_input_stay(ratio):
    """What the model takes and what it answers has the same shape afterwards."""
    model, x = own_models.UNet().eval(), torch.randn(1, 3, 16, 16)
    engine.prune(model, example_inputs=x, ratio=ratio)
    assert model.head.weight.shape[0] == 2 and model.down1[0].weight.shape[1] == 3
    assert model(x).shape == (1, 2, 16, 16)
