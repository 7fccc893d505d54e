"""Operations that take an axis only in multiples of slots, or bytes: choosing keeps to it, unasked."""

from __future__ import annotations

import oracle
import pytest
import torch
from prunus import engine
from prunus.adapters.lower import one_call
from prunus.errors import PlanError
from torch import nn


@one_call
def double(x):
    """A kernel that works on four channels at a time."""
    if x.shape[1] % 4:
        raise RuntimeError("channels come in fours")
    return x * 2


class Rows(nn.Module):
    """Two products with rows of whole 16 bytes."""

    def __init__(self, width=24, inner=32, dtype=torch.float32):
        super().__init__()
        self.enter = nn.Linear(6, width, dtype=dtype)
        self.up = nn.Parameter(torch.randn(2, width, inner, dtype=dtype))
        self.down = nn.Parameter(torch.randn(2, inner, width, dtype=dtype))
        self.leave = nn.Linear(width, 3, dtype=dtype)

    def forward(self, x):
        ends = torch.tensor([2, len(x)], dtype=torch.int32)
        inner = torch.relu(torch._grouped_mm(self.enter(x), self.up, offs=ends))
        return self.leave(torch._grouped_mm(inner, self.down, offs=ends))


def rows(dtype=torch.float32, **sizes):
    torch.manual_seed(0)
    model, x = Rows(dtype=dtype, **sizes).eval(), torch.randn(5, 6).to(dtype)
    try:
        model(x)
    except RuntimeError as error:
        pytest.skip(f"this torch has no grouped product on the CPU: {error}")
    return model, x


@pytest.mark.parametrize("dtype, of", [(torch.float32, 4), (torch.bfloat16, 8)])
@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.45, 0.7])
def test_kept_rows_fill_whole_sixteen_bytes(dtype, of, scope, ratio):
    """Four numbers of four bytes, eight of two: whatever is asked, and as near to it as they allow."""
    model, x = rows(dtype)
    result = engine.prune(model, example_inputs=x, ratio=ratio, scope=scope)
    sizes = {len(slots) for slots in result.plan.groups.values()}
    assert all(size % of == 0 for size in sizes)
    assert model(x).shape == (5, 3)
    if scope == "local":
        wanted = [-(-(1 - ratio) * size // of) * of for size in (24, 32)]
        assert [model.up.shape[1], model.up.shape[2]] == wanted


def test_budgets_and_rounding_keep_to_it():
    """A budget is met with such sizes; a rounding of six and a multiple of four make twelve."""
    model, x = rows(width=48, inner=48)
    graph = engine.analyze(model, x)
    plan = graph.choose(params=0.5, criterion="random")
    assert plan.groups and all(len(slots) % 4 == 0 for slots in plan.groups.values())
    plan = graph.choose(ratio=0.6, round_to=6, criterion="random")
    assert {len(slots) for slots in plan.groups.values()} == {24}
    oracle.check(model, x, plan)


def test_an_axis_without_a_smaller_multiple_is_left_alone_with_the_reason():
    """Rows of four numbers of four bytes have no half."""
    model, x = rows(width=24, inner=4)
    choice = engine.analyze(model, x).choice(ratio=0.5)
    assert "m" not in choice.plan.groups and "enter.out" in choice.plan.groups
    assert "grouped_mm takes 'm' in multiples of 16 bytes, here 4 slots" in choice.left_alone["m"]


def test_a_plan_by_hand_that_breaks_it_names_it_and_sizes_nearby():
    """Thirteen is no multiple of four; twelve is the nearest that is."""
    model, x = rows()
    graph = engine.analyze(model, x)
    with pytest.raises(
        PlanError, match=r"'k' in multiples of 16 bytes, here 4 slots, and 13 is none"
    ) as error:
        graph.plan({"enter.out": range(13)})
    assert "nearest to them: 12 of enter.out" in str(error.value)
    oracle.check(model, x, graph.plan({"enter.out": range(12)}))


def test_why_says_in_what_multiples_slots_go(said):
    """An explanation of the layer names the operation."""
    model, x = rows()
    said(engine.analyze(model, x).why("enter"))


def test_a_rule_may_count_slots(tmp_path):
    """``multiple c of 4``, of an axis with two layers' slots one after the other: the sum counts."""
    rules = tmp_path / "mine.rules"
    rules.write_text(
        f"double = {__name__}.double\ndouble: x[n c *s] -> [n c *s]; multiple c of 4; multilinear x\n"
    )

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(3, 12, 1), nn.Conv2d(3, 8, 1)
            self.leave = nn.Conv2d(20, 2, 1)

        def forward(self, x):
            return self.leave(double(torch.cat([self.one(x), self.other(x)], 1)))

    torch.manual_seed(0)
    model, x = Joined().eval(), torch.randn(2, 3, 4, 4)
    graph = engine.analyze(model, x, rules=["default", str(rules)])
    assert not graph.unknown
    plan = graph.choose(ratio=0.6, criterion="random")
    assert {name: len(slots) for name, slots in plan.groups.items()} == {"one.out": 8, "other.out": 4}
    oracle.check(model, x, plan)
    with pytest.raises(PlanError, match="multiples of 4 slots, and 19 is none"):
        graph.plan({"one.out": range(11)})


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
def test_a_mixture_pruned_in_any_scope_runs(scope):
    """Mixtral's grouped kernel, whose odd widths were refused only after the cut."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=64, pad_token_id=0,
        experts_implementation="grouped_mm", use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(config).eval()
    inputs = {"input_ids": torch.arange(3, 27).view(2, 12)}
    try:
        model(**inputs)
    except RuntimeError as error:
        pytest.skip(f"this torch has no grouped product on the CPU: {error}")
    result = engine.prune(model, example_inputs=inputs, ratio=0.37, scope=scope)
    assert result.after < 0.75 * result.before
