"""How often a model is run to find out whose sizes its code uses as numbers."""

import math
from itertools import count

import torch
from prunus import engine
from torch import nn


class Block(nn.Module):
    """A linear layer and another; some of them divide by a number made of the size in between."""

    def __init__(self, divides):
        super().__init__()
        self.a, self.b, self.divides = nn.Linear(8, 12), nn.Linear(12, 8), divides

    def forward(self, x):
        h = self.a(x).relu()
        return x + self.b(h / math.sqrt(h.shape[-1]) if self.divides else h)


class Blocks(nn.Module):
    def __init__(self, divide):
        super().__init__()
        self.blocks = nn.ModuleList(Block(number in divide) for number in range(20))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def analyzed(*divide):
    """The graph of twenty blocks of which these divide, and how often the model was run."""
    runs = count()  # a list would be put back
    model = Blocks(divide)

    def counted(module, inputs):
        next(runs)

    model.register_forward_pre_hook(counted)
    return engine.analyze(model, torch.randn(2, 8)), next(runs)


def inexact(graph):
    return {group.name for group in graph.groups if not group.exact}


def test_a_model_without_such_numbers_is_run_twice():
    """Once as it is and once at other sizes."""
    graph, runs = analyzed()
    assert len(graph.groups) == 20 and not inexact(graph)
    assert runs == 2


def test_each_number_is_laid_to_the_group_whose_size_it_is():
    """Half of the groups shrink in each further run, so that few runs tell twenty groups apart."""
    graph, runs = analyzed(3, 11, 12, 17)
    assert inexact(graph) == {f"blocks.{number}.a.out" for number in (3, 11, 12, 17)}
    assert 2 < runs <= 10
