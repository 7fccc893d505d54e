"""A cache from which a plan takes tensors stays what it is: other kinds of dicts make what is missing."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from functools import partial

import pytest
import torch
from prunus import engine
from prunus.adapters.modules import Emptied
from torch import nn


@pytest.mark.parametrize(
    "make", [dict, OrderedDict, partial(defaultdict, list)], ids=["dict", "ordered", "default"]
)
def test_a_cache_keeps_its_kind(make):
    model = nn.Linear(2, 2)
    held = model.cache = make({"table": torch.ones(3), "size": 3})
    step = Emptied(model, "cache['table']")
    step.carry_out()
    assert type(model.cache) is type(held) and dict(model.cache) == {"size": 3}
    assert getattr(model.cache, "default_factory", None) is getattr(held, "default_factory", None)
    step.take_back()
    assert model.cache is held and list(held) == ["table", "size"]


class Cached(nn.Module):
    """Keeps a table for each width, in a dict that makes what is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 12), nn.Linear(12, 3)
        self.tables: defaultdict = defaultdict(dict)

    def forward(self, x):
        x = self.enter(x)
        tables = self.tables["tables"]
        if x.shape[1] not in tables:
            tables[x.shape[1]] = torch.ones(x.shape[1])
        return self.leave(x * tables[x.shape[1]])


def test_a_model_with_such_a_cache_runs_when_it_is_pruned():
    model, x = Cached().eval(), torch.randn(2, 6)
    model(x)
    engine.prune(model, example_inputs=x)
    assert type(model.tables) is defaultdict and model(x).shape == (2, 3)
