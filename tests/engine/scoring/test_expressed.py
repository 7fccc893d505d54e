"""Criteria with a correction in mind: what the other slots can express goes first."""

import sys

import pytest
import torch
from prunus import PlanError, engine
from prunus.engine.scoring import eliminate
from prunus.engine.scoring.criteria import criterion_of
from prunus.engine.scoring.eliminate import Read, elimination
from prunus.engine.scoring.slot_tensors import Tensors
from tiny_language import llama, tokens
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """One hidden layer, whose slots are what the columns of `up` make of them."""

    def __init__(self, size=8, bias=False):
        super().__init__()
        self.up, self.down = nn.Linear(6, size, bias=bias), nn.Linear(size, 4, bias=bias)

    def forward(self, x):
        return self.down(self.up(x))


def scores(model, criterion, data, group="up.out", **given):
    graph = engine.analyze(model, data[0])
    return criterion_of(criterion)(graph.group(group), Tensors(graph, data, **given))


@pytest.mark.parametrize("criterion", ["obs", "leverage"])
def test_what_others_express_goes_first(criterion):
    """Of two pairs of twins one each goes before all that is alone, though twins are the largest."""
    model = Mlp(6)
    with torch.no_grad():
        model.up.weight[1] = 3 * model.up.weight[0]
        model.up.weight[3] = -3 * model.up.weight[2]
    found = scores(model, criterion, [torch.randn(64, 6) for _ in range(4)])
    gone = found.argsort()[:2].tolist()
    assert len({0, 1} & {*gone}) == 1 and len({2, 3} & {*gone}) == 1


def test_the_first_to_leave_is_the_one_whose_best_correction_is_best():
    """Its score is the squared error that is left, which a solver of least squares finds as well."""
    model, x = Mlp(6), torch.randn(4096, 6)
    found = scores(model, "obs", [x])
    with torch.no_grad():
        hidden, wanted = model.up(x).double(), model(x).double()
    left = torch.stack(
        [
            (hidden[:, keep] @ torch.linalg.lstsq(hidden[:, keep], wanted).solution - wanted).square().sum()
            for keep in (torch.arange(6) != slot for slot in range(6))
        ]
    )
    assert found.argmin() == left.argmin()


def test_costs_of_leaving_are_those_of_the_best_correction():
    """Slots of two entries each: of all left, each costs what is left of the error without it."""
    rows, x = torch.randn(6, 3).double(), torch.randn(500, 6).double()
    read = Read(rows, torch.linalg.inv(x.T @ x), 2)
    rises = read.rises(3)
    for slot in range(3):
        keep = torch.ones(6, dtype=torch.bool)
        keep[2 * slot : 2 * slot + 2] = False
        best = torch.linalg.lstsq(x[:, keep], x @ rows).solution
        torch.testing.assert_close(rises[slot], (x[:, keep] @ best - x @ rows).square().sum())
    gone = torch.tensor([False, True, False])
    read.leave(gone)
    keep = torch.tensor([0, 1, 4, 5])
    torch.testing.assert_close(read.rows, torch.linalg.lstsq(x[:, keep], x @ rows).solution)
    torch.testing.assert_close(read.inverse, torch.linalg.inv(x[:, keep].T @ x[:, keep]))


def test_slots_leave_as_trying_each_of_them_finds():
    """One after the other the one without which the best correction is best; none is worth less than those
    before it, and with fewer entries than slots the ridge makes all finite."""
    x, rows = torch.randn(5, 12).double(), torch.randn(12, 3).double()
    moments = x.T @ x / 5
    moments += eliminate.RIDGE * moments.diagonal().mean() * torch.eye(12)

    def left(keep):
        best = torch.linalg.solve(moments[keep][:, keep], moments[keep] @ rows)
        return (rows * (moments @ rows)).sum() - (best * (moments[keep] @ rows)).sum()

    keep, before, worst, wanted = list(range(12)), torch.tensor(0.0), torch.tensor(0.0), torch.zeros(12)
    while keep:
        errors = torch.stack([left([other for other in keep if other != slot]) for slot in keep])
        worst = torch.maximum(worst, errors.min() - before)
        before, slot = errors.min(), keep.pop(int(errors.argmin()))
        wanted[slot] = worst
    costs = elimination([Read.of(rows, x.T @ x / 5, None)], 12)
    torch.testing.assert_close(costs.float(), wanted, rtol=1e-4, atol=1e-6)


def test_entries_of_a_slot_may_lie_apart():
    """A slot that is two entries of an axis leaves with both; other entries of the axis stay."""
    x, rows = torch.randn(500, 7), torch.randn(7, 3)
    where = torch.tensor([[0, 3], [1, 4], [2, 5]])
    order = [0, 3, 1, 4, 2, 5, 6]
    one = elimination([Read.of(rows, x.T @ x / 500, where)], 3)
    x, rows = x[:, order], rows[order]
    torch.testing.assert_close(
        one, elimination([Read.of(rows, x.T @ x / 500, torch.arange(6).view(3, 2))], 3)
    )


def test_a_bias_makes_up_for_means():
    """A slot that never changes is the first to leave where the reader has a bias, and not else."""
    for bias in (True, False):
        torch.manual_seed(0)
        model = Mlp(4, bias=True)
        model.down = nn.Linear(4, 4, bias=bias)
        with torch.no_grad():
            model.up.weight[2] = 0
            model.up.bias.zero_()[2] = 10
        first = scores(model, "obs", [torch.randn(256, 6)]).argmin().item()
        assert (first == 2) == bias


class Paths(nn.Module):
    """Two hidden layers alike: of the results of the first hardly anything is used."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Mlp(), Mlp()
        self.b.load_state_dict(self.a.state_dict())
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.head(0.01 * self.a(x) + self.b(x))


def test_with_a_loss_scores_of_all_groups_are_on_one_scale():
    """What the loss hardly depends on goes first, in one ranking; without a loss nothing tells."""
    model, data = Paths(), [torch.randn(64, 6) for _ in range(2)]

    def loss(model, batch):
        return F.cross_entropy(model(batch), batch[:, :3].argmax(1))

    a, b = (scores(model, "obs", data, group=f"{name}.up.out", loss=loss) for name in "ab")
    torch.testing.assert_close(a / 1e-4, b, rtol=1e-2, atol=0)
    a, b = (scores(model, "obs", data, group=f"{name}.up.out") for name in "ab")
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(a.mean(), torch.tensor(1.0))
    kept = engine.prune(Paths(), ratio=0.5, scope="global", criterion="obs", data=data, loss=loss).plan.groups
    assert len(kept["a.up.out"]) == 1 and len(kept["b.up.out"]) > 4


def test_the_loss_counts_in_the_direction_that_it_depends_on():
    """Of results that only their sum is used of, an error that cancels costs nothing."""
    model = Mlp(2)
    with torch.no_grad():
        model.up.weight.copy_(torch.eye(2, 6))
        model.down.weight.copy_(torch.tensor([[5.0, 1], [-5, 1], [0, 0], [0, 0]]))

    def loss(model, batch):
        return (model(batch).sum(1) - 1).square().mean()

    data = [torch.randn(256, 6)]
    assert scores(model, "obs", data, loss=loss).argmin() == 0
    assert scores(model, "obs", data).argmin() == 1


def test_groups_that_are_seen_in_several_rounds_score_the_same(monkeypatch):
    """How many groups are looked at in one run decides nothing."""
    x = tokens(8, 12)

    def kept():
        return engine.prune(
            llama(), ratio=0.5, criterion="obs", data=x, kinds=["hidden", "heads"], dry_run=True
        ).plan

    at_once = kept()
    monkeypatch.setattr(sys.modules["prunus.engine.calibrating.rounds"], "MEMORY", 1)
    assert kept() == at_once
    assert {"model.layers.0.mlp.gate_proj.out", "model.layers.1.mlp.gate_proj.out"} <= at_once.groups.keys()


def test_parameters_keep_their_gradients_and_flags():
    """The gradients that were there stay, frozen weights stay frozen, and no hook is left."""
    model = llama()
    model.model.layers[0].mlp.down_proj.weight.requires_grad_(False)
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
    engine.prune(model, ratio=0.5, criterion="obs", data=tokens(4, 12), kinds=["hidden"], dry_run=True)
    assert not model.model.layers[0].mlp.down_proj.weight.requires_grad
    assert torch.equal(model.lm_head.weight.grad, torch.ones_like(model.lm_head.weight))
    assert model.model.layers[1].mlp.down_proj.weight.grad is None
    assert not any(module._forward_hooks for module in model.modules())


def test_data_are_needed_and_must_be_finite():
    with pytest.raises(PlanError, match="give data="):
        engine.prune(Mlp(), example_inputs=torch.randn(2, 6), criterion="obs")
    with pytest.raises(PlanError, match="not finite"):
        engine.prune(Mlp(), data=[torch.full((2, 6), torch.inf)], criterion="leverage")
