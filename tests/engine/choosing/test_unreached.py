"""Parts of a model that the traced forward does not return, or does not reach at all."""

import copy

import oracle
import pytest
import torch
from prunus import PlanError, engine
from torch import nn
from trap_nets import Net, conv

IMAGE = torch.randn(2, 3, 6, 6)


def in_training(model, x):
    """All outputs of a forward in training mode; the nets here have no dropout and no statistics."""
    model.train()
    with torch.no_grad():
        return list(oracle.leaves(model(x)))


def check_in_training(model, x, plan, effect=1e-4):
    """The oracle for training mode: pruned and masked give the same, which is not what the whole gives."""
    masked, pruned = copy.deepcopy(model), copy.deepcopy(model)
    oracle.mask(masked, plan)
    engine.apply(pruned, plan)
    whole, wanted, found = (in_training(one, x) for one in (model, masked, pruned))
    assert [one.shape for one in found] == [one.shape for one in whole]
    assert oracle.distance(found, wanted) < 1e-5
    assert oracle.distance(whole, wanted) > effect


# Heads for training


def returned_in_training(self, x):
    h = self.a(x).relu()
    u = self.aux(h)
    o = self.head(h)
    return (o, u) if self.training else o


def called_in_training(self, x):
    h = self.a(x).relu() * self.scale
    o = self.head(h)
    return (o, self.aux(h)) if self.training else o


def called_where_targets_are_given(self, x, target=None):
    h = self.a(x).relu()
    o = self.head(h)
    if self.training:
        u = self.aux(h)
        return o, (u - target).square().mean()
    return o


def kept_for_a_loss(self, x):
    h = self.a(x).relu()
    self.seen = self.aux(h)
    return self.head(h)


def thrown_away(self, x):
    h = self.a(x).relu()
    self.aux(h).softmax(1)
    return self.head(h)


def averaged_and_thrown_away(self, x):
    h = self.a(x).relu()
    self.aux(h).square().mean()
    return self.head(h)


HEADS = [
    returned_in_training,
    called_in_training,
    called_where_targets_are_given,
    kept_for_a_loss,
    thrown_away,
    averaged_and_thrown_away,
]


def with_head(forward):
    parts = {"a": conv(3, 8), "aux": conv(8, 6), "head": conv(8, 4)}
    if "scale" in forward.__code__.co_names:
        parts["scale"] = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
    return Net(forward, **parts)


@pytest.mark.parametrize("forward", HEADS)
def test_a_head_that_nobody_returns_keeps_its_classes(forward):
    """Its input goes with the features that it reads, its classes stay, with a reason."""
    model = with_head(forward)
    graph = engine.analyze(model, IMAGE)
    assert graph.group("aux.out").blocked
    plan = graph.choose(0.5)
    assert len(plan.tensors["aux.weight"][1]) == 4 and 0 not in plan.tensors["aux.weight"]
    oracle.check(model, IMAGE, plan)


def test_a_normed_head_that_nobody_returns_keeps_its_classes():
    """A weight norm sums over its own weight, but reads no class."""
    model = with_head(thrown_away)
    model.aux = nn.utils.parametrizations.weight_norm(model.aux)
    graph = engine.analyze(model, IMAGE)
    assert graph.group("aux.out").blocked
    oracle.check(model, IMAGE, graph.choose(0.5))


def confidence(exit):
    return exit.softmax(1).max().item()


def entropy(exit):
    return -(exit.softmax(1) * exit.log_softmax(1)).sum(1).mean().item()


@pytest.mark.parametrize("measure", [confidence, entropy])
def test_an_exit_that_was_not_taken_keeps_its_classes(measure, said):
    """Of its result only a number is read, but another input gets it as its answer."""

    def forward(self, x):
        h = self.a(x).relu()
        u = self.aux(h)
        return u if measure(u) > self.enough else self.head(h)

    model = Net(forward, a=conv(3, 8), aux=conv(8, 4), head=conv(8, 4), enough=99.0)
    graph = engine.analyze(model, IMAGE)
    said(graph.group("aux.out").blocked)
    oracle.check(model, IMAGE, graph.choose(0.5))
    engine.prune(model, example_inputs=IMAGE)
    assert model.a.weight.shape[0] == 4
    model.enough = -99.0
    assert model(IMAGE).shape == (2, 4, 6, 6)


def test_what_is_compared_for_a_decision_is_pruned():
    """Queries and keys are no answer, though all that is read of them is where they meet."""

    def forward(self, x):
        best = int((self.q(x.mean((2, 3))) @ self.k(x.mean((2, 3))).T).argmax())
        return self.head(self.a(x)) * (1 + 0 * best)

    parts = {"q": nn.Linear(3, 8), "k": nn.Linear(3, 8), "a": conv(3, 8), "head": conv(8, 4)}
    graph = engine.analyze(Net(forward, **parts), IMAGE)
    assert graph.group("q.out") is graph.group("k.out") and not graph.group("q.out").blocked


@pytest.mark.parametrize("forward", [returned_in_training, called_in_training])
def test_a_model_with_a_head_for_training_trains_on(forward):
    """In training mode the pruned model is the masked one as well."""
    model = with_head(forward)
    check_in_training(model, IMAGE, engine.analyze(model, IMAGE).choose(0.5))


def test_a_hidden_layer_of_a_head_for_training_is_pruned():
    """Only its classes end there."""

    def forward(self, x):
        h = self.a(x).relu()
        u = self.last(self.first(h).relu())
        return (self.head(h), u) if self.training else self.head(h)

    model = Net(forward, a=conv(3, 8), first=conv(8, 10), last=conv(10, 6), head=conv(8, 4))
    plan = engine.analyze(model, IMAGE).choose(0.5)
    assert {name: len(kept) for name, kept in plan.groups.items()} == {"a.out": 4, "first.out": 5}
    check_in_training(model, IMAGE, plan)


def test_what_training_adds_up_goes_together():
    """A consistency loss between two branches couples them, though the forward in eval mode does not."""

    def forward(self, x):
        one, other = self.a(x).relu(), self.b(x).relu()
        o = self.head(one) + self.tail(other)
        return (o, (one - other).square().sum()) if self.training else o

    model = Net(forward, a=conv(3, 8), b=conv(3, 8), head=conv(8, 4), tail=conv(8, 4))
    graph = engine.analyze(model, IMAGE)
    assert graph.group("a.out") is graph.group("b.out")
    check_in_training(model, IMAGE, graph.choose(0.5))


def test_what_a_part_without_parameters_adds_up_in_training_goes_together():
    """The loss of a layer of the user's that holds nothing."""

    class Consistency(nn.Module):
        def forward(self, one, other):
            return (one - other).square().sum() if self.training else None

    def forward(self, x):
        one, other = self.a(x).relu(), self.b(x).relu()
        o, loss = self.head(one) + self.tail(other), self.loss(one, other)
        return o if loss is None else (o, loss)

    parts = {"head": conv(8, 4), "tail": conv(8, 4), "loss": Consistency()}
    model = Net(forward, a=conv(3, 8), b=conv(3, 8), **parts)
    check_in_training(model, IMAGE, engine.analyze(model, IMAGE).choose(0.5))


def test_why_does_not_count_a_call_for_each_run(said):
    """What a second run makes again is no second way from layer to layer."""
    model = with_head(called_in_training)
    said(engine.analyze(model, IMAGE).why("a", "head"))


def test_a_feature_that_is_looked_at_on_the_way_is_no_end():
    """What weights go on with may be copied, kept, or used for its shape, and shrinks all the same."""

    def forward(self, x):
        h = self.a(x).relu()
        self.seen = h.detach()
        h.float()
        torch.zeros_like(h)[..., 0]
        h.max(0)
        return self.b(h)

    model = Net(forward, a=conv(3, 8), b=conv(8, 4))
    graph = engine.analyze(model, IMAGE)
    assert graph.group("a.out").blocked is None
    oracle.check(model, IMAGE, graph.choose(0.5))


def test_a_free_output_is_free_in_training_as_well(said):
    """The branch for training does not hold what the user has given up."""

    def forward(self, x):
        h = self.a(x).relu()
        return (h, self.aux(h)) if self.training else h

    model = Net(forward, a=conv(3, 8), aux=conv(8, 6))
    graph = engine.analyze(model, IMAGE, free_outputs=[0])
    assert graph.group("a.out").blocked is None
    said(graph.group("aux.out").blocked)


# Siblings


def check_elsewhere(model, reached, other, graph=None, **options):
    """The pruned model is the masked one on inputs that take another path than the example did."""
    graph = graph or engine.analyze(model, reached, **options)
    plan = graph.choose(0.5, criterion="random")
    oracle.check(model, reached, plan, tolerance=1e-5)
    oracle.check(model, other, plan, tolerance=1e-5)
    return graph, plan


class Mixture(nn.Module):
    """Experts that are picked row by row."""

    def __init__(self, expert, width=8):
        super().__init__()
        self.enter, self.head = nn.Linear(5, 8), nn.Linear(width, 3)
        self.experts = nn.ModuleList(expert() for _ in range(4))

    def forward(self, x, chosen):
        h = self.enter(x).relu()
        y = torch.zeros(h.shape[0], self.head.in_features)
        for number, expert in enumerate(self.experts):
            rows = chosen == number
            if rows.any():
                y[rows] = expert(h[rows])
        return self.head(y)


def mlp(width=8, inner=12):
    return nn.Sequential(nn.Linear(8, inner), nn.ReLU(), nn.Linear(inner, width))


ROWS = torch.randn(6, 5)
ONE, ALL = torch.full((6,), 2), torch.arange(6) % 4


@pytest.mark.parametrize("expert, width", [(mlp, 8), (lambda: nn.Linear(8, 8), 8), (lambda: mlp(10), 10)])
def test_experts_that_no_row_went_to_are_pruned_along(expert, width):
    """One of four was reached; the others have the shapes of it, also where they are used."""
    model = Mixture(expert, width)
    graph, plan = check_elsewhere(model, (ROWS, ONE), (ROWS, ALL))
    assert "enter.out" in plan.groups and graph.group("enter.out").exact
    weights = [name for name in plan.tensors if name.startswith("experts.")]
    assert {name.split(".")[1] for name in weights} == {"0", "1", "2", "3"}
    assert graph.unreached == []
    result = engine.prune(model, example_inputs=(ROWS, ONE))
    assert any("pruned along" in note and "experts.0 with experts.2" in note for note in result.notes)
    assert model.experts[0](torch.randn(2, model.enter.out_features)).shape == (2, model.head.in_features)


def test_experts_whose_results_are_added_with_a_size_that_is_written_out():
    """The trace is coupled several times for that, and siblings follow each time."""

    def forward(self, x, chosen):
        h = self.enter(x).relu()
        y = torch.zeros(h.shape[0], 8)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).any(-1)
            if rows.any():
                y[rows] = y[rows] + expert(h[rows])
        return self.head(y)

    experts = nn.ModuleList(mlp() for _ in range(4))
    model = Net(forward, enter=nn.Linear(5, 8), experts=experts, head=nn.Linear(8, 3))
    graph, plan = check_elsewhere(model, (ROWS, ONE[:, None]), (ROWS, ALL[:, None]))
    assert graph.unreached == [] and "experts.0.0.weight" in plan.tensors


def test_experts_of_which_several_were_reached():
    """What they read and give is the same for all, so ends of the same width need not go together."""
    model = Mixture(mlp)
    graph, _ = check_elsewhere(model, (ROWS, torch.tensor([0, 0, 0, 3, 3, 3])), (ROWS, ALL))
    assert graph.group("enter.out") is not graph.group("experts.0.2.out")
    assert graph.group("experts.0.0.out") is not graph.group("experts.3.0.out")


def chain(self, x, depth):
    h = self.enter(x)
    for layer in self.layers[: int(depth)]:
        h = layer(h).relu()
    return self.head(h)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_chain_that_stopped_early_is_not_taken_for_a_mixture(depth):
    """A layer that was not reached may come behind one that was: never wrong without a word."""
    model = Net(chain, enter=nn.Linear(5, 8), head=nn.Linear(8, 3))
    model.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
    example, deeper = (ROWS, torch.tensor(depth)), (ROWS, torch.tensor(4))
    graph = engine.analyze(model, example)
    plan = graph.choose(0.5, criterion="random")
    oracle.check(model, example, plan)
    assert bool(graph.unreached) == (depth == 2)
    if graph.unreached:
        assert {one.name for one in graph.unreached} >= {"layers.2.weight", "layers.3.bias"}
        assert graph.unreached[0].sibling.startswith("layers.")
        with pytest.raises(PlanError, match=r"layers\.2\.weight"):
            engine.analyze(model, example, strict=True)
    else:
        oracle.check(model, deeper, plan)


def test_blocks_of_a_residual_stream_that_were_skipped():
    """Attributes of a block that was not reached follow, too."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.qkv, self.out = nn.BatchNorm1d(8), nn.Linear(8, 24), nn.Linear(8, 8)
            self.heads = 4

        def forward(self, x):
            h = self.norm(x.transpose(1, 2)).transpose(1, 2)
            q, k, v = self.qkv(h).view(*h.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            h = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            return x + self.out(h.reshape(*h.shape[:2], -1))

    model = Net(chain, enter=nn.Linear(5, 8), head=nn.Linear(8, 3))
    model.layers = nn.ModuleList(Block() for _ in range(3))
    x = torch.randn(2, 6, 5)
    graph = engine.analyze(model, (x, torch.tensor(1)))
    plan = graph.choose(0.5, criterion="random")
    assert plan.attributes["layers.2.heads"] == 2 and plan.attributes["layers.1.norm.num_features"] == 4
    for depth in (1, 3):
        oracle.check(model, (x, torch.tensor(depth)), plan)


NORMS = {
    "list": lambda: nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3)),
    "dict": lambda: nn.ModuleDict({str(key): nn.GroupNorm(8, 8) for key in range(3)}),
    "parameters": lambda: nn.ParameterList(torch.randn(8, 1, 1) for _ in range(3)),
    "named parameters": lambda: nn.ParameterDict({str(key): torch.randn(8, 1, 1) for key in range(3)}),
}


def test_norms_that_are_a_list_by_their_names():
    """``norm1`` and ``norm2`` are siblings as well."""

    def forward(self, x, domain):
        return self.b(getattr(self, f"norm{int(domain)}")(self.a(x)).relu())

    model = Net(forward, a=conv(3, 8), norm1=nn.BatchNorm2d(8), norm2=nn.BatchNorm2d(8), b=conv(8, 4))
    x = torch.randn(4, 3, 6, 6)
    graph, _ = check_elsewhere(model, (x, torch.tensor(1)), (x, torch.tensor(2)))
    assert not graph.unreached


@pytest.mark.parametrize("kind", NORMS)
def test_norms_that_an_argument_chooses(kind):
    """The others, with their running statistics, shrink with the one that was asked for."""

    def forward(self, x, domain):
        h = self.a(x)
        key = int(domain) if kind in ("list", "parameters") else str(int(domain))
        norm = self.norms[key]
        return self.b(norm(h) if isinstance(norm, nn.Module) else h * norm)

    model = Net(forward, a=conv(3, 8), norms=NORMS[kind](), b=conv(8, 4))
    x = torch.randn(4, 3, 6, 6)
    graph, _ = check_elsewhere(model, (x, torch.tensor(0)), (x, torch.tensor(2)))
    assert not graph.unreached and graph.group("a.out").blocked is None


def test_an_inactive_adapter_follows_the_active_one():
    """Rank and widths of a LoRA layer with an adapter for each task."""

    class Lora(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.active = nn.Linear(8, 10), "default"
            self.lora_A = nn.ModuleDict({name: nn.Linear(8, 4, bias=False) for name in ("default", "other")})
            self.lora_B = nn.ModuleDict({name: nn.Linear(4, 10, bias=False) for name in ("default", "other")})

        def forward(self, x):
            return self.base(x) + self.lora_B[self.active](self.lora_A[self.active](x)) * 2

    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), Lora(), nn.ReLU(), nn.Linear(10, 3))
    graph = engine.analyze(model, ROWS)
    plan = graph.choose(0.5)
    assert graph.unreached == [] and len(plan.tensors["2.lora_B.other.weight"][0]) == 5
    oracle.check(model, ROWS, plan)
    model[2].active = "other"
    oracle.check(model, ROWS, plan)


def test_an_adapter_that_was_skipped_in_one_block_belongs_to_that_block():
    """Its sibling tells how it is used, the block that owns it with what."""

    class Block(nn.Module):
        def __init__(self, adapted):
            super().__init__()
            self.up, self.down, self.scale = nn.Linear(8, 12), nn.Linear(12, 8), nn.Parameter(torch.rand(12))
            self.adapted = adapted

        def forward(self, x):
            h = self.up(x).relu()
            return x + self.down(h * self.scale if self.adapted else h)

    model = nn.Sequential(nn.Linear(5, 8), Block(True), Block(False), nn.Linear(8, 3))
    plan = engine.analyze(model, ROWS).choose(0.5, criterion="random")
    assert plan.tensors["2.scale"][0] == plan.groups["2.up.out"] != plan.groups["1.up.out"]
    model[2].adapted = True
    oracle.check(model, ROWS, plan)


def test_heads_of_other_stages_are_not_taken_for_the_one_that_was_reached():
    """Each reads what its own stage makes, which is as wide in all: never wrong without a word."""

    def forward(self, x, stop):
        h = self.enter(x).relu()
        for block, leave in zip(self.blocks, self.exits):
            h = block(h).relu()
            if self.exits[int(stop)] is leave:
                return leave(h)

    model = Net(forward, enter=nn.Linear(5, 8))
    model.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
    model.exits = nn.ModuleList(nn.Linear(8, 3) for _ in range(3))
    check_elsewhere(model, (ROWS, torch.tensor(1)), (ROWS, torch.tensor(0)))


def test_why_a_tensor_that_was_not_reached_goes_along(said):
    """The path leads over the sibling, and names the line that uses it."""
    graph = engine.analyze(Mixture(mlp), (ROWS, ONE))
    said(
        graph.why("experts.0.0", "enter"),
        graph.why("experts.0.0.weight", "experts.2.0.weight"),
        graph.why("enter", "head"),
    )


def test_a_parameter_that_only_training_writes():
    """As the masked frames of wav2vec2: its owner has children, too, and it is as wide as the features."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Parameter(torch.randn(8))
            self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            h = self.a(x)
            if self.training:
                h = h.clone()
                h[torch.tensor([True, False] * 3)] = self.embed.to(h.dtype)
            return self.c(self.b(h).relu())

    model = Masked()
    graph = engine.analyze(model, ROWS)
    plan = graph.choose(0.5)
    assert plan.tensors["embed"][0] == plan.groups["a.out"] and not graph.unreached
    oracle.check(model, ROWS, plan)
    check_in_training(model, ROWS, plan)


def test_heads_that_a_stage_keeps_in_a_list_of_the_model():
    """Deep supervision as in DynUNet: results lie in a list, which training stacks and interpolates."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList([conv(3, 8, 3), conv(8, 10, 3), conv(10, 12, 3)])
            self.supers = nn.ModuleList([conv(8, 6), conv(10, 6)])
            self.heads, self.out = [None, None], conv(12, 6)

        def forward(self, x):
            for number, stage in enumerate(self.stages):
                x = stage(x).relu()
                if number < 2:
                    self.heads[number] = self.supers[number](x)
            o = self.out(x)
            return torch.stack([o, *self.heads], 1) if self.training else o

    model = Deep()
    plan = engine.analyze(model, IMAGE).choose(0.5)
    assert set(plan.groups) == {"stages.0.out", "stages.1.out", "stages.2.out"}
    check_in_training(model, IMAGE, plan)


def test_a_gate_with_noise_of_its_own_in_training():
    """A layer of the user's without children takes its branch for training where a parameter is left."""

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.noise = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(4, 8))

        def forward(self, h):
            scores = h @ self.weight.T
            return scores + torch.tanh(h @ self.noise.T) if self.training else scores

    def forward(self, x):
        h = self.a(x).relu()
        return self.b(h) * self.gate(h).softmax(-1)[:, :1]

    model = Net(forward, a=nn.Linear(5, 8), gate=Gate(), b=nn.Linear(8, 3))
    plan = engine.analyze(model, ROWS).choose(0.5)
    assert len(plan.tensors["gate.noise"][1]) == 4
    check_in_training(model, ROWS, plan)


def test_a_part_that_an_option_switches_on_is_named():
    """Nothing tells how an adapter is used that no call has reached; strict refuses before any cut."""

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.on = nn.Linear(5, 8), nn.Linear(8, 3), False
            self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
            self.register_buffer("table", torch.randn(7, 9))

        def forward(self, x):
            h = self.a(x).relu()
            return self.b(h + self.up(self.down(h)) if self.on else h)

    model = Adapted()
    graph = engine.analyze(model, ROWS)
    named = {one.name: one for one in graph.unreached}
    assert set(named) == {"down.weight", "up.weight", "table"}
    assert named["up.weight"].equals == {0: ("a.out",)} and named["table"].equals == {}
    with pytest.raises(PlanError, match=r"down\.weight \(2 x 8\).*a\.out"):
        engine.prune(model, example_inputs=ROWS, strict=True)
    assert model.a.out_features == 8
    result = engine.prune(model, example_inputs=ROWS)
    assert sum("was not reached" in note for note in result.notes) == 2
    assert not any("table" in note for note in result.notes)
    assert engine.prune(model, example_inputs=ROWS, skip=["a"], strict=True).notes == []


def test_a_branch_for_training_that_fails_is_named_with_its_error():
    """Without targets nothing tells of the head; with them it goes along."""

    def forward(self, x, target=None):
        h = self.a(x).relu()
        if self.training:
            if target is None:
                raise ValueError("targets are missing")
            return nn.functional.mse_loss(self.aux(h), target)
        return self.b(h)

    model = Net(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 3), aux=nn.Linear(8, 6))
    notes = engine.prune(model, example_inputs=ROWS, dry_run=True).notes
    assert any("targets are missing" in note for note in notes)
    assert any("aux.weight" in note for note in notes)
    plan = engine.prune(model, example_inputs=(ROWS, torch.randn(6, 6)), dry_run=True, strict=True).plan
    assert len(plan.tensors["aux.weight"][1]) == 4 and 0 not in plan.tensors["aux.weight"]


def test_what_is_as_wide_as_the_inside_of_heads_is_no_error():
    """By default whole heads are pruned, so that what is as wide as one of their halves does not matter."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(24, 24) for _ in range(4))
            self.heads = 4
            self.register_buffer("used", torch.randn(6))
            self.register_buffer("original", torch.randn(6))

        def forward(self, x):
            shape = *x.shape[:2], self.heads, -1
            q, k, v = (one(x).view(shape).transpose(1, 2) for one in (self.q, self.k, self.v))
            h = nn.functional.scaled_dot_product_attention(q * self.used, k, v)
            return self.out(h.transpose(1, 2).flatten(2))

    model, x = Attention(), torch.randn(2, 5, 24)
    graph = engine.analyze(model, x, strict=True)
    assert [one.name for one in graph.unreached] == ["original"] and graph.unreached[0].equals
    assert engine.prune(model, example_inputs=x, strict=True).notes == []
