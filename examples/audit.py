"""The answers of `graph.why` as data: what a program, a test of your own or a picture makes of them."""

import torch
from prunus import engine
from torch import Tensor, nn


class Block(nn.Module):
    """Two layers beside a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.back = nn.Linear(16, 40), nn.Linear(40, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.wide(x).relu())


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), Block(), Block(), nn.Linear(16, 4))
graph = engine.analyze(model, torch.randn(2, 8))

answer = graph.why("1.back", "2.back").to_dict()
print(answer["kind"], answer["relation"]["text"], [hop["module"] for hop in answer["cuts"]])

# A test of your own: the two blocks may share the stream, and nothing else.
assert graph.why("1.wide.weight[0]", "2.wide.weight[0]").kind == "apart"

print(graph.why("1.back", "2.back").to_dot())
