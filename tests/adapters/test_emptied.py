"""A cache from which a plan takes tensors stays what it is: other kinds of dicts make what is missing."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from functools import partial

import pytest
import torch
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
