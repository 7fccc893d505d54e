"""Small models that are saved in folders, and whether what is loaded is the same."""

from __future__ import annotations

import tiny_language
import torch
from prunus import engine
from zoo_models import build_transformers

IDS = torch.arange(3, 19).view(1, 16)


def pruned(name: str, **options) -> tuple[engine.Result, dict]:
    torch.manual_seed(0)
    model, inputs = build_transformers(name)
    options = options or {"params": 0.7}
    return engine.prune(model.eval(), example_inputs=inputs, **options), inputs


def llama(**settings):
    """With grouped queries, and room for what is generated."""
    small = {"hidden_size": 48, "intermediate_size": 90, "num_attention_heads": 8, "num_key_value_heads": 4}
    return tiny_language.llama(max_position_embeddings=64, **small, **settings)


def outputs(model, inputs):
    with torch.no_grad():
        found = model(**inputs)
    return [one for one in found.to_tuple() if isinstance(one, torch.Tensor)]


def assert_same(model, other, inputs):
    state, found = model.state_dict(), other.state_dict()
    assert state.keys() == found.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, found[name]), name
    for one, two in zip(outputs(model, inputs), outputs(other, inputs), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
