"""A strength that is chosen on data that are not fitted: what comes of it on others, and what is told."""

import copy
import math

import pytest
import torch
from prunus import engine
from prunus.engine.calibrating import Statistics
from prunus.engine.calibrating.ridge import STRENGTHS, choose_strength, fit
from prunus.engine.calibrating.told import Told
from torch import nn
from torch.nn import functional as F


def trained(seed):
    """A small net that has learnt something, and a function that makes its inputs."""
    torch.manual_seed(seed)
    mix, target = torch.randn(4, 10), torch.randn(10, 3)

    def inputs(count):
        return torch.randn(count, 4) @ mix + 0.3 * torch.randn(count, 10)

    model = nn.Sequential(nn.Linear(10, 48), nn.GELU(), nn.Linear(48, 24), nn.Tanh(), nn.Linear(24, 3))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(120):
        x = inputs(64)
        optimizer.zero_grad()
        F.mse_loss(model(x), (x @ target).sin()).backward()
        optimizer.step()
    return model.eval(), inputs


def error(model, whole, x):
    with torch.no_grad():
        return F.mse_loss(model(x), whole(x)).item()


@pytest.mark.parametrize("count", [4, 16, 64, 1024])
@pytest.mark.parametrize("seed", range(5))
def test_on_unseen_data_it_is_not_worse_than_none(seed, count):
    """Of 48 slots: with a fixed weak ridge it is many times worse for some of these."""
    model, inputs = trained(seed)
    data, unseen = [inputs(count // 2), inputs(count // 2)], inputs(2000)
    errors = {}
    for how in (None, "lstsq"):
        found = copy.deepcopy(model)
        engine.prune(found, ratio=0.3, example_inputs=unseen[:2], data=data, compensate=how)
        errors[how] = error(found, model, unseen)
    assert errors["lstsq"] <= errors[None]


def halves(read):
    return [Statistics.of(part, 1, products=True) for part in read.tensor_split(2)]


def left(read, found, weight):
    """What is lost of the results on these entries with an estimate."""
    estimate = found.rest if found.shares is None else read[:, found.kept] @ found.shares.T + found.rest
    return ((read[:, found.dropped] - estimate) @ weight[:, found.dropped].T).square().sum()


@pytest.mark.parametrize("count", [20, 60, 4000])
def test_the_strength_is_the_one_that_trying_them_all_finds(count):
    """What moments tell of each is what fitting the halves and running the other one gives."""
    torch.manual_seed(count)
    read = (torch.randn(count, 3) @ torch.randn(3, 12) + torch.randn(count, 12) + 1).double()
    weight, kept = torch.randn(5, 12).double(), range(8)
    parts = read.tensor_split(2)
    worst = []
    for strength in STRENGTHS:
        ways = []
        for one, held in (parts, parts[::-1]):
            found = fit(Statistics.of(one, 1, products=True), kept, True, strength)
            ways.append(1 - left(held, found, weight) / (held[:, 8:] @ weight[:, 8:].T).square().sum())
        worst.append(min(ways).item())
    expected = max(s for s, gain in zip(STRENGTHS, worst) if gain >= 0.9 * max(worst))
    assert choose_strength(halves(read), kept, True, [weight.T]) == expected


def test_what_is_alike_in_one_half_only_is_not_used():
    """Slots that are equal in the first half and opposite in the second are no estimates of each other."""
    one = torch.randn(500, 4)
    read = torch.cat([torch.cat([one, one], 1), torch.cat([one, -one], 1)])
    assert choose_strength(halves(read), range(4), False, [torch.eye(8)]) is None


def test_an_endless_strength_is_the_mean():
    """As much as independent slots tell of each other."""
    torch.manual_seed(0)
    read = torch.randn(4000, 6) + 3
    assert choose_strength(halves(read), range(3), True, [torch.eye(6)]) == math.inf
    found = fit(Statistics.of(read, 1, products=True), range(3), True, math.inf)
    torch.testing.assert_close(found.rest, read[:, 3:].mean(0))


def test_what_is_true_of_many_weights_is_told_once():
    """With the names of a few, and the estimate with the fewest entries for a slot."""
    told = Told()
    for number in range(30):
        told.leave(f"{number}.weight", "nothing is read")
        told.count(100 + number, 60)
    told.count(10_000, 60)
    first, second = told.notes()
    assert first == "not corrected: 0.weight, 1.weight, 2.weight and 27 more, as nothing is read"
    assert "60 slots" in second and "100 entries" in second and "240" in second


def test_a_strength_can_be_given_to_prune():
    """It is used as it is, and nothing is told of how much the data warrant."""
    model, inputs = trained(0)
    x, weights = inputs(40), []
    for how in ("lstsq", ("lstsq", 1e-6), ("lstsq", 1e9), None):
        found = copy.deepcopy(model)
        result = engine.prune(found, ratio=0.3, example_inputs=x, data=[x], compensate=how)
        weights.append(found[2].weight.detach())
        assert any("entries of data=" in note for note in result.notes) == (how == "lstsq")
    assert (weights[1] - weights[3]).abs().max() > 0.01 > (weights[2] - weights[3]).abs().max()


@pytest.mark.parametrize(("count", "corrects"), [(38, False), (42, True)])
def test_nothing_is_estimated_by_few_entries_for_many_slots(count, corrects):
    """By less than a sixteenth of the kept slots in each half, though all depend on one number here."""
    read = torch.randn(count, 1) @ torch.randn(1, 400)
    found = choose_strength(halves(read), range(320), False, [torch.randn(400, 3)])
    assert (found is not None) == corrects
