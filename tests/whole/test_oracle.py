"""The oracle itself: it passes what is right, and sees what is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import oracle
import pytest
import torch
from torch import nn

X = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def plain_apply(monkeypatch):
    """Carry plans out by slicing alone, so that only the oracle is tested."""

    def apply(model, plan):
        for name, axes in plan.tensors.items():
            tensor = oracle.named_tensor(model, name)
            for axis, kept in axes.items():
                tensor.data = tensor.data.index_select(axis, torch.tensor(kept))

    monkeypatch.setattr(oracle.engine, "apply", apply, raising=False)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).eval()


def plan(first, norm, last) -> SimpleNamespace:
    """Kept slots of the hidden layer, as the layer, its norm and the next layer see them."""
    tensors = {"0.weight": {0: first}, "0.bias": {0: first}, "3.weight": {1: last}}
    tensors |= {f"1.{name}": {0: norm} for name in ("weight", "bias", "running_mean", "running_var")}
    return SimpleNamespace(tensors=tensors)


def test_a_right_plan_is_exact():
    found = oracle.check(model(), X, plan([0, 2, 5], [0, 2, 5], [0, 2, 5]), tolerance=1e-6)
    assert found.effect > 0.01


@pytest.mark.parametrize(
    "slots",
    [([0, 2, 5], [0, 2, 5], [0, 2, 4]), ([0, 2, 5], [0, 1, 5], [0, 2, 5]), ([0, 2, 5], [2, 0, 5], [0, 2, 5])],
    ids=["other inputs", "another norm", "another order"],
)
def test_wrong_slots_are_seen(slots):
    """Even where a fresh model hides them: its norms are ones and zeros in any order."""
    with pytest.raises(AssertionError, match="pruned and masked differ"):
        oracle.check(model(), X, plan(*slots))


def test_a_plan_without_effect_is_an_error():
    with pytest.raises(AssertionError, match="tests nothing"):
        oracle.check(model(), X, SimpleNamespace(tensors={}))


def test_the_model_is_not_changed():
    original = model()
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    oracle.check(original, X, plan([1, 2], [1, 2], [1, 2]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state_dict().items())


def test_a_norm_of_nothing_is_no_obstacle():
    """Weight norm divides by the norm of a filter, which masking makes zero."""
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(7, 6))
    net = nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 3)).eval()
    weights = {f"0.parametrizations.weight.original{i}": {0: [1, 4]} for i in (0, 1)}
    tensors = weights | {"0.bias": {0: [1, 4]}, "2.weight": {1: [1, 4]}}
    assert oracle.check(net, X, SimpleNamespace(tensors=tensors)).error < 1e-6
