"""Why layers are coupled, why they are not, and what holds one back."""

import pytest
import torch
from prunus import PlanError, engine
from torch import nn


class Residual(nn.Module):
    """A stream that a block adds to, beside a layer of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 6, 3, padding=1)
        self.back = nn.Conv2d(6, 8, 1)
        self.norm = nn.GroupNorm(1, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.back(self.conv(x).relu())
        return self.head(self.norm(x).mean((2, 3)))


@pytest.fixture(scope="module")
def graph():
    return engine.analyze(Residual().eval(), torch.randn(1, 3, 8, 8))


def test_a_coupling_names_every_hop(graph, said):
    """Operation, factor, rule, rule file and line, the user's file, line and text."""
    said(graph.why("stem", "back"))
    answer = graph.why("stem", "back").to_dict()
    assert [answer["start"], answer["end"]] == ["stem.weight[0]", "back.weight[0]"]
    assert [(hop["operation"], hop["factor"]) for hop in answer["path"]] == [
        ("conv2d", "out"),
        ("add", "*s"),
        ("conv2d", "out"),
    ]
    assert answer["path"][0]["rule_at"].startswith("nn.rules:")
    assert "test_explain.py:" in answer["path"][1]["source"]
    assert answer["path"][1]["text"] == "x = x + self.back(self.conv(x).relu())"


def test_the_text_has_all_that_the_data_has(graph):
    """``print(graph.why(...))`` is a table with one line a hop."""
    explanation = graph.why("stem", "back")
    text = str(explanation)
    for hop in explanation.path:
        assert any(
            hop.operation in line and hop.rule_at in line and hop.text in line for line in text.splitlines()
        )


def test_a_maker_and_a_reader_are_coupled(graph, said):
    """What ``conv`` makes ``back`` reads."""
    said(graph.why("conv.weight[0]", "back.weight[1]"))


def test_slots_are_related_by_number(said):
    """After a concatenation the slots of the second operand come behind those of the first."""

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 10), nn.Linear(3, 7), nn.Linear(17, 2)

        def forward(self, x):
            return self.c(torch.cat([self.a(x), self.b(x)], -1))

    graph = engine.analyze(Joined(), torch.randn(2, 3))
    said(graph.why("a", "c"), graph.why("b", "c"))


def test_no_coupling_says_what_each_is_coupled_with(graph, said):
    """The two share nothing; the nearest coupled layer of each is named."""
    said(graph.why("conv.weight[0]", "stem.weight[0]"))


@pytest.mark.parametrize("name", ["conv", "norm", "head.bias"])
def test_one_name_alone_says_whether_it_can_be_pruned(graph, name, said):
    """Layers that make free slots, layers that only follow, and what the model's output holds."""
    said(graph.why(name))


def test_a_block_says_its_reason_and_its_place(graph, said):
    """The output keeps its axis, the convolution its kernel."""
    said(graph.why("head"), graph.why("stem.weight[2]"))


def test_a_statistic_is_mentioned(graph, said):
    """Removing a slot of the stream is not zeroing it, as the norm takes its mean over it."""
    said(graph.why("stem"))


@pytest.mark.parametrize("name, hint", [("stemm", "stem"), ("conv.wieght", "conv.weight"), ("nothing", "")])
def test_an_unknown_name_is_one_clear_error(graph, name, hint):
    """With the name that was probably meant."""
    with pytest.raises(PlanError, match=name) as error:
        graph.why("stem", name)
    assert hint in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, message",
    [
        ("convv", "there is no layer, parameter or axis 'convv'; did you mean 'conv'?"),
        ("conv.weight[4]", "there is no axis 'conv.weight[4]'; 'conv.weight' has axes 0 to 3"),
        ("conv.out", "'conv.out' is a group; ask about an axis that has it, such as 'conv.weight[0]'"),
    ],
)
def test_a_name_without_axes_says_what_it_is(graph, name, message):
    """A slip, an axis too many, a group's name out of the table."""
    with pytest.raises(PlanError) as error:
        graph.why(name)
    assert str(error.value) == message


def test_a_parameter_that_is_one_number_has_no_axes():
    """There is nothing to ask about, and it is not taken for a slip."""

    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return super().forward(x) * self.scale

    graph = engine.analyze(Scaled(), torch.randn(2, 4))
    with pytest.raises(PlanError, match=r"there is no axis 'scale'; 'scale' has no axes"):
        graph.why("scale")


def test_answers_are_the_same_every_time():
    """Names, groups and explanations do not depend on what was analysed before."""
    model, x = Residual().eval(), torch.randn(1, 3, 8, 8)
    first, second = (engine.analyze(model, x) for _ in range(2))
    assert [(g.name, g.members) for g in first.groups] == [(g.name, g.members) for g in second.groups]
    assert str(first.why("stem", "back")) == str(second.why("stem", "back"))


@torch.library.custom_op("prunus_tests::twist", mutates_args=())
def twist(x: torch.Tensor) -> torch.Tensor:
    """An operation that no shipped rule can know."""
    return x * 2


class Unruled(nn.Module):
    """A layer, the operation, and a layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 9), nn.Linear(9, 2)

    def forward(self, x):
        return self.b(twist(self.a(x)))


def test_an_operation_without_a_rule_is_reported_with_a_stub():
    """Its operands are held; the result names the call, what it costs and a rule to start from."""
    result = engine.prune(Unruled(), example_inputs=torch.randn(3, 4))
    (call,) = [call for call in result.graph.unknown if call.costs]
    assert call.name == "torch.ops.prunus_tests.twist" and "a.weight[0]" in call.costs
    assert "twist = test_explain.twist" in call.stub and "twist: x[" in call.stub
    assert "no rule for torch.ops.prunus_tests.twist" in str(result) and call.stub.splitlines()[0] in str(
        result
    )
    assert not result.plan.groups and "nothing was removed" in str(result)


def test_rules_without_the_shipped_ones_are_told_where_those_are(tmp_path):
    """A rule file that forgets ``use default`` is not answered with a rule for every operation of torch."""
    rules = tmp_path / "twist.rules"
    rules.write_text("twist = test_explain.twist\ntwist: x[*n] -> [*n]\n")
    stubs = {call.stub for call in engine.analyze(Unruled(), torch.randn(3, 4), rules=rules).unknown}
    assert stubs == {"use default  # a shipped rule speaks for torch.nn.functional.linear"}


def test_a_rule_can_tie_two_factors(tmp_path):
    """``tie a, b``: the input and the output of the operation shrink by the same proportion."""
    rules = tmp_path / "twist.rules"
    rules.write_text(
        "use default\n"
        "pool = torch.nn.functional.adaptive_avg_pool1d\n"
        "pool: input[*n a] -> [*n b]; where b = output_size; tie a, b\n"
    )

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.width = nn.Linear(4, 12), nn.Linear(6, 2), 6

        def forward(self, x):
            return self.b(torch.nn.functional.adaptive_avg_pool1d(self.a(x), self.width))

    model = Pooled()
    graph = engine.analyze(model, torch.randn(1, 3, 4), rules=str(rules))
    sizes = {group.name: group for group in graph.groups}
    assert sizes["a.out"].tie == (("b.in", 6),)


def test_strict_makes_it_an_error():
    """For those who would rather write the rule first."""
    from prunus import RuleError

    with pytest.raises(RuleError, match="prunus_tests"):
        engine.analyze(Unruled(), torch.randn(3, 4), strict=True)


def test_freed_outputs_may_change():
    """A backbone's features are pruned where the user gives up their shape."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3))
    x = torch.randn(1, 3, 8, 8)
    kept = engine.analyze(model, x).choose(0.5)
    freed = engine.analyze(model, x, free_outputs=[0]).choose(0.5)
    assert set(freed.groups) - set(kept.groups) == {"2.out"}
    engine.apply(model, freed)
    assert model(x).shape == (1, 8, 4, 4)


def test_a_layer_whose_only_weight_is_shared_has_a_name(said):
    """Tied weights are known by their first name, the other layer's question is answered all the same."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix, self.head = (
                nn.Embedding(11, 6),
                nn.Linear(6, 6),
                nn.Linear(6, 11, bias=False),
            )
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.mix(self.embed(x)))

    graph = engine.analyze(Shared(), torch.arange(4)[None])
    said(graph.why("mix", "head"))


@torch.library.custom_op("prunus_explain::mystery", mutates_args=())
def mystery(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """An operation that no rule explains."""
    return x @ weight.t()


def test_what_an_unknown_operation_joins_is_not_said_to_be_apart(said):
    """It holds axes of both layers, so nobody can say that they are not coupled."""

    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.after = nn.Linear(3, 6), nn.Linear(4, 2)
            self.weight = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return self.after(mystery(self.before(x), self.weight))

    answer = engine.analyze(Between(), torch.randn(5, 3)).why("before", "after")
    assert answer.to_dict()["kind"] == "unknown"
    said(answer)
