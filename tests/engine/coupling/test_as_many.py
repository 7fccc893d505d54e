"""Outputs of which there are as many as a model finds: with other weights it may find more, or fewer."""

import copy
from functools import partial

import pytest
import torch
from prunus import engine
from prunus.adapters.apply import carry_out
from prunus.engine.witnessing.rerun import check_pruned
from prunus.errors import VerificationError
from torch import nn


class Finder(nn.Module):
    """Finds the places where one channel is above zero, and describes each of them in a loop."""

    def __init__(self, classes=3):
        super().__init__()
        self.a, self.b, self.classes = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 2, 1), classes

    def forward(self, x):
        score, mark = self.b(self.a(x).relu())[0]
        places = torch.nonzero(score > 0)
        found = torch.zeros(len(places), self.classes)
        for number in range(len(places)):
            found[number] = mark[places[number, 0], places[number, 1]]
        return places, found


X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_tensor_made_with_one_row_for_each_that_is_found(seed):
    """The number of rows comes from ``len``, which shows no origin; it changes with that of the places."""
    torch.manual_seed(seed)
    model = Finder()
    before = model(X)
    engine.prune(model, example_inputs=X, ratio=0.5, criterion="random")
    assert model.a.weight.shape[0] == 16
    places, found = model(X)
    assert len(places) == len(found) != len(before[0])


def test_other_sizes_do_not_change_with_it():
    """The number of classes is not as large as what is found, before and after."""
    torch.manual_seed(0)
    model = Finder()
    original = copy.deepcopy(model.state_dict())
    plan = engine.analyze(model, X).choose(0.5, criterion="random")
    plan.attributes["classes"], plan.before["classes"] = 2, 3
    graph = engine.analyze(model, X)
    with pytest.raises(VerificationError, match="outputs of"):
        carry_out(model, plan, check=partial(check_pruned, model, graph))
    assert all(torch.equal(tensor, original[name]) for name, tensor in model.state_dict().items())
