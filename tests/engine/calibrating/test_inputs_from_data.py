"""Without example inputs a model is traced with the first batch of its calibration data."""

from __future__ import annotations

import pytest
import torch
from prunus import engine
from prunus.errors import TraceError
from torch import Tensor, nn


class Reads(nn.Module):
    """Takes another path for a batch than for what one would guess."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.masked = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 16)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.first(x).relu()
        if mask is not None:
            x = self.masked(x) * mask[:, None]
        return self.second(x)


@pytest.mark.parametrize(
    "options", [{"criterion": "wanda"}, {"compensate": "lstsq"}], ids=["scores", "corrects"]
)
def test_the_path_is_that_of_the_data(options):
    model = Reads().eval()
    data = [{"x": torch.randn(rows, 6), "mask": torch.ones(rows)} for rows in (5, 7, 1)]
    result = engine.prune(model, data=data, **options)
    assert "traced with the first batch of data=" in str(result)
    assert model.masked.weight.shape == (8, 8) and not result.graph.unreached


def test_lists_are_the_arguments():
    model = Reads().eval()
    engine.prune(model, data=[[torch.randn(5, 6), torch.ones(5)]], criterion="wanda")
    assert model.masked.weight.shape == (8, 8)


def test_what_is_given_wins():
    model = Reads().eval()
    x = torch.randn(2, 6)
    result = engine.prune(model, example_inputs=x, data=[x, torch.randn(9, 6)], criterion="wanda")
    assert "traced with the example inputs given" in str(result)
    assert model.first.weight.shape == (8, 6)


def test_batches_of_a_loss_are_not_the_models():
    """A loss may take them apart: the inputs are guessed, as ever."""
    model = Reads().eval()
    batch = {"features": torch.randn(5, 6), "wanted": torch.randn(5, 4)}
    result = engine.prune(
        model,
        data=[batch],
        criterion="taylor",
        loss=lambda model, batch: (model(batch["features"]) - batch["wanted"]).square().mean(),
    )
    assert "guessed" in str(result) and model.first.weight.shape == (8, 6)


def test_a_batch_with_labels_is_told():
    model = Reads().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TraceError, match="inputs alone, without labels"):
        engine.prune(model, data=[(torch.randn(5, 6), torch.ones(5), torch.ones(5))], criterion="wanda")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
