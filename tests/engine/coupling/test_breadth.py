"""Operations that whole families of models need, each as one small net against the oracle."""

from __future__ import annotations

import oracle
import pytest
import torch
from prunus import engine
from torch import nn


def prunes_exactly(model: nn.Module, inputs, *groups: str) -> None:
    """Half of these groups, and of all that are exact, can go at random; no operation lacks a rule."""
    graph = engine.analyze(model.eval(), inputs)
    assert not [call for call in graph.unknown if call.costs]
    plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
    assert set(groups) <= set(plan.groups)
    oracle.check(model, inputs, plan)


class Experts(nn.Module):
    """Runs of rows, each for an expert of its own."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(8, 16)
        self.up, self.down = nn.Parameter(torch.randn(3, 16, 32)), nn.Parameter(torch.randn(3, 32, 16))
        self.leave = nn.Linear(16, 5)

    def forward(self, x):
        ends = torch.tensor([2, 5, len(x)], dtype=torch.int32)
        inner = torch.relu(torch._grouped_mm(self.enter(x), self.up, offs=ends))
        return self.leave(torch._grouped_mm(inner, self.down, offs=ends))


def test_experts_shrink_outside_and_inside():
    """The rows' width and each expert's hidden width are axes of one stacked weight."""
    model, x = Experts(), torch.randn(7, 8)
    try:
        model(x)
    except RuntimeError as error:
        pytest.skip(f"this torch has no grouped product on the CPU: {error}")
    prunes_exactly(model, x, "enter.out", "m")


class Pasted(nn.Module):
    """Features of one kind written over marked rows of another, as a picture into a sentence."""

    def __init__(self):
        super().__init__()
        self.words, self.picture, self.leave = nn.Linear(4, 10), nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, words, picture):
        x = self.words(words)
        marked = (words[..., 0] > 0).unsqueeze(-1).expand_as(x)
        return self.leave(x.masked_scatter(marked, self.picture(picture)))


def test_rows_are_scattered_by_a_mask():
    """Both sources of the rows shrink together."""
    prunes_exactly(Pasted(), (torch.randn(2, 5, 4), torch.randn(10, 6)), "words.out")


class PastedAnywhere(Pasted):
    def forward(self, words, picture):
        x = self.words(words)
        return self.leave(x.masked_scatter(x > 0, self.picture(picture)))


def test_slots_scattered_one_by_one_stay():
    """A mask that differs along a row breaks the order of the slots."""
    graph = engine.analyze(PastedAnywhere(), (torch.randn(2, 5, 4), torch.randn(10, 6)))
    assert not graph.choose(ratio=0.5).groups


class CutByData(nn.Module):
    """A slice whose bound is a tensor, on another axis than the pruned one."""

    def __init__(self):
        super().__init__()
        self.table, self.enter, self.leave = nn.Embedding(20, 6), nn.Linear(6, 12), nn.Linear(12, 2)

    def forward(self, x):
        rows = self.table.weight[: x.sum().long().clamp(3, 9)]
        return self.leave(torch.max(self.enter(rows), torch.zeros(())))[:3]


def test_a_slice_cut_by_data_holds_its_own_axis_only():
    """`torch.max` of two tensors goes slot by slot."""
    prunes_exactly(CutByData(), torch.ones(4), "enter.out")


class Found(nn.Module):
    """As many outputs as the scores say."""

    def __init__(self):
        super().__init__()
        self.enter, self.score = nn.Linear(4, 12), nn.Linear(12, 1)

    def forward(self, x):
        scores = self.score(torch.relu(self.enter(x))).squeeze(1)
        kept = torch.where(scores > scores.median())[0]
        return scores[kept.sort()[0]]


@pytest.mark.parametrize("seed", range(4))
def test_outputs_of_as_many_as_are_found_may_be_fewer(seed):
    """How many there are is no shape of the model, and no reason to take a plan back."""
    torch.manual_seed(seed)
    model = Found()
    with torch.no_grad():
        model.score.bias.fill_(float(seed))
    assert engine.prune(model, example_inputs=torch.randn(9, 4)).after < 12 * 6 + 1


class FoundSlots(Found):
    def forward(self, x):
        slots = torch.relu(self.enter(x)).sum(0).nonzero().squeeze(1)
        return slots.float().mean()


def test_what_is_searched_stays_whole():
    """The numbers of the slots that are found are results."""
    assert not engine.analyze(FoundSlots(), torch.randn(9, 4)).choose(ratio=0.5).groups


class Mixed(nn.Module):
    """A Fourier transform over positions, and pairs read as complex numbers."""

    def __init__(self):
        super().__init__()
        self.enter, self.turn = nn.Linear(4, 12), nn.Parameter(torch.randn(6))
        self.leave = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.fft.fft(self.enter(x), dim=1).real
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        turned = pairs * torch.polar(torch.ones_like(self.turn), self.turn)
        return self.leave(torch.view_as_real(turned).flatten(2))


def test_transforms_leave_the_other_axes_alone():
    """Whole pairs go."""
    prunes_exactly(Mixed(), torch.randn(2, 5, 4), "enter.out")


class Temperature(nn.Module):
    """A size that becomes a tensor before it divides."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.enter(x)
        return self.leave(x / torch.sqrt(torch.tensor(x.shape[-1])))


def test_a_size_in_a_tensor_is_a_number():
    """What it divides depends on how many slots there are: pruned, but not exactly."""
    (group,) = [one for one in engine.analyze(Temperature(), torch.randn(2, 4)).groups if one.producers]
    assert not group.exact
