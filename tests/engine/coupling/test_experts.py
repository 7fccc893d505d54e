"""Mixtures with stacked experts: a weight that data pick is still a weight, and its inner width is pruned."""

from __future__ import annotations

import oracle
import pytest
import torch
from prunus import engine
from torch import nn
from torch.nn import functional as F

WIDTH, INNER, EXPERTS = 8, 12, 4


class Mixture(nn.Module):
    """Rows of `enter` go to one of several experts, stacked in `up` and `down`, as `experts` does it.

    Both are ``[experts, in, out]``, or, `turned`, ``[experts, out, in]``.
    """

    def __init__(self, experts, turned=False):
        super().__init__()
        self.enter, self.router = nn.Linear(6, WIDTH), nn.Linear(6, EXPERTS)
        shapes = [(WIDTH, INNER), (INNER, WIDTH)]
        self.up, self.down = (
            nn.Parameter(torch.randn(EXPERTS, *(shape[::-1] if turned else shape))) for shape in shapes
        )
        self.leave, self.experts = nn.Linear(WIDTH, 3), experts

    def forward(self, x):
        scores, best = self.router(x).softmax(-1).max(-1)
        return self.leave(self.experts(self, self.enter(x), best, scores))


def one_by_one(expert):
    """`expert` for the rows of one expert after the other; how many have rows is told by the data."""

    def experts(net, h, best, scores):
        out = torch.zeros_like(h)
        mask = F.one_hot(best, EXPERTS).T
        for hit in mask.sum(-1).nonzero():
            rows = torch.where(mask[hit[0]])[0]
            out.index_add_(0, rows, expert(net, h[rows], hit[0]) * scores[rows, None])
        return out

    return experts


def linear(net, h, e):
    return F.linear(F.linear(h, net.up[e]).relu(), net.down[e])


def product(net, h, e):
    return (h @ net.up[e]).relu() @ net.down[e]


def number(net, h, e):
    return product(net, h, e.item())


def selected(net, h, e):
    up, down = net.up.index_select(0, e[None])[0], torch.select(net.down, 0, e.item())
    return (h @ up.to(h.dtype)).relu() @ down.clone()


def scaled(net, h, e):
    """The router's say is in the weight itself."""
    return (h @ (net.up[e] * h.sum())).relu() @ net.down[e]


def from_the_left(net, h, e):
    return (net.down[e].mT @ (net.up[e].mT @ h.T).relu()).T


def gathered(net, h, best, scores):
    inner = torch.bmm(h.unsqueeze(1), net.up[best]).relu()
    return torch.bmm(inner, net.down[best]).squeeze(1) * scores[:, None]


def gathered_left(net, h, best, scores):
    inner = torch.bmm(net.up[best], h.unsqueeze(-1)).relu()
    return (net.down[best] @ inner).squeeze(-1) * scores[:, None]


def gathered_letters(net, h, best, scores):
    inner = torch.einsum("bi,bio->bo", h, net.up[best]).relu()
    return torch.einsum("bi,bio->bo", inner, net.down[best])


def sorted_runs(net, h, best, scores):
    order = best.argsort()
    h = h[order]
    runs = h.split(best.bincount(minlength=EXPERTS).tolist())
    out = torch.cat([product(net, run, e) for e, run in enumerate(runs)])
    return out[order.argsort()]


WAYS = {
    "linear": (one_by_one(linear), True),
    "product": (one_by_one(product), False),
    "number": (one_by_one(number), False),
    "selected": (one_by_one(selected), False),
    "scaled": (one_by_one(scaled), False),
    "from_the_left": (one_by_one(from_the_left), False),
    "gathered": (gathered, False),
    "gathered_left": (gathered_left, True),
    "gathered_letters": (gathered_letters, False),
    "sorted_runs": (sorted_runs, False),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_inner_width_of_picked_experts_is_pruned(way):
    """Both stacked weights lose half of the inner width, and the rows' width goes as well."""
    torch.manual_seed(1)  # every expert has rows
    model, x = Mixture(*WAYS[way]).eval(), torch.randn(9, 6)
    graph = engine.analyze(model, x)
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    oracle.check(model, x, plan)
    inner, rows = (2, 1) if not WAYS[way][1] else (1, 2)
    assert len(plan.tensors["up"][inner]) == INNER // 2
    assert len(plan.tensors["up"][rows]) == WIDTH // 2
    assert plan.tensors["down"][rows] == plan.tensors["up"][inner]
    assert 0 not in plan.tensors["up"]


def test_data_multiplied_with_data_make_no_slots():
    """Scores of queries and learned keys that have seen the input: which keys there are is not chosen."""

    class Slots(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.slots = nn.Linear(6, 8), nn.Parameter(torch.randn(5, 8))
            self.leave = nn.Linear(8, 3)

        def forward(self, x):
            h = self.enter(x)
            slots = self.slots + h.mean(0)
            return self.leave((h @ slots.T).softmax(-1) @ slots)

    graph = engine.analyze(Slots(), torch.randn(7, 6))
    assert not any(("slots", 0) in group.members for group in graph.groups if group.producers)


def tiny(kind, **options):
    """A causal language model of that kind from transformers, with two layers of four experts."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind).__class__(
        vocab_size=64, hidden_size=32, intermediate_size=48, moe_intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
        num_experts=4, num_local_experts=4, num_experts_per_tok=2, pad_token_id=0, tie_word_embeddings=False,
        use_cache=False, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    kinds = {"openai_privacy_filter": transformers.AutoModelForTokenClassification}
    return kinds.get(kind, transformers.AutoModelForCausalLM).from_config(config).eval()


@pytest.mark.parametrize("how", ["eager", "batched_mm"])
@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe", "gpt_oss", "openai_privacy_filter", "granitemoe"])
def test_mixtures_of_transformers_lose_three_quarters_of_their_experts(kind, how):
    """Half of the residual stream and half of every expert's width: 73 % of a tiny Mixtral, not 53 %."""
    model, inputs = tiny(kind), {"input_ids": torch.arange(3, 27).view(2, 12)}
    model.config._experts_implementation = how
    plan = engine.analyze(model, inputs).choose(ratio=0.5, criterion="random", exact_only=True)
    oracle.check(model, inputs, plan)
    result = engine.prune(model, example_inputs=inputs, only=["*"])
    assert result.after < 0.3 * result.before


@pytest.mark.parametrize("way", ["linear", "gathered"])
@pytest.mark.parametrize("criterion", ["wanda", "fisher"])
def test_criteria_that_look_at_data_rank_the_inner_width(way, criterion):
    """The experts that a batch reaches are seen; the others are ranked by what is known of them."""
    torch.manual_seed(1)
    model, x = Mixture(*WAYS[way]).eval(), torch.randn(9, 6)
    options = {"criterion": criterion, "data": [x], "loss": lambda net, batch: net(batch).sum()}
    result = engine.prune(model, example_inputs=x, **options)
    assert any(("up", 2 - WAYS[way][1]) in result.graph.group(name).members for name in result.plan.groups)
