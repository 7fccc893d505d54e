"""Guesses for torch_geometric's networks: a small graph, by the names of forward's arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..submodules import each_module, parameters_of
from .making import FIRST_LAYERS, Guess, Maker, arguments_of

NODES = 12


def _ring(make: Maker, width: int) -> Tensor:
    """A ring of nodes, each joined with the next, in both directions."""
    here = torch.arange(NODES, device=make.device)
    after = (here + 1) % NODES
    return torch.stack([torch.cat([here, after]), torch.cat([after, here])])


GRAPH_ARGUMENTS: dict[str, Callable[[Maker, int], Tensor]] = {
    "x": lambda make, width: make.floats(NODES, width),
    "edge_index": _ring,
    "adj_t": _ring,
    "edge_weight": lambda make, width: make.floats(2 * NODES).abs(),
    "edge_attr": lambda make, width: make.floats(2 * NODES, width),
    "edge_type": lambda make, width: torch.zeros(2 * NODES, dtype=torch.long, device=make.device),
    "batch": lambda make, width: torch.zeros(NODES, dtype=torch.long, device=make.device),
    "pos": lambda make, width: make.floats(NODES, 3),
    "z": lambda make, width: make.whole(NODES, below=8, start=1),
}
"""What to give to an argument of this name, if another is called ``edge_index``."""


def by_graph_arguments(model: nn.Module) -> Iterator[Guess]:
    """torch_geometric: a small graph whose nodes have as many features as the first layer reads."""
    takes = arguments_of(model)
    needed = {name for name, one in takes.items() if one.default is one.empty} - {"args", "kwargs"}
    needed |= {"edge_index"}
    if "edge_index" not in takes or not needed <= GRAPH_ARGUMENTS.keys():
        return
    named = [value for _, m in each_module(model) for value in (getattr(m, "in_channels", None),)]
    widths = [value for value in named if isinstance(value, int) and value > 0]
    widths += [parameter.shape[-1] for parameter in parameters_of(model).values() if parameter.dim() == 2]
    for width in list(dict.fromkeys(widths))[:FIRST_LAYERS] or [1]:
        make = Maker.of(model)
        graph = {name: GRAPH_ARGUMENTS[name](make, width) for name in takes if name in needed}
        yield Guess((), graph, "the names of forward's arguments")
