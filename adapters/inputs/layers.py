"""Guesses for any model: what its first layers, or its first weights, read."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator

from attrs import frozen
from torch import Tensor, nn

from ..submodules import each_module, parameters_of
from .making import FIRST_LAYERS, IMAGE_SIDES, TOKENS, Guess, Maker, arguments_of

SIGNAL_LENGTHS = (64, 128, 256, 512, 1024, 4096, 16000, 32, 16)
PICTURE_CHANNELS = 16  # of satellites a dozen, of latents sixteen; more have the maps inside of a network
VOLUMES = ((16, 112, 112), (16, 224, 224), (32, 32, 32), (64, 64, 64), (8, 64, 64))


@frozen
class Spec:
    """A tensor to be: its shape, and for whole numbers their bound."""

    shape: tuple[int, ...]
    below: int | None = None

    def made(self, make: Maker) -> Tensor:
        return make.floats(*self.shape) if self.below is None else make.whole(*self.shape, below=self.below)


Specs = Callable[[int], list[Spec]]


def _images(width: int) -> list[Spec]:
    return [Spec((1, width, side, side)) for side in IMAGE_SIDES]


def _signals(width: int) -> list[Spec]:
    return [Spec((1, width, length)) for length in SIGNAL_LENGTHS]


def _volumes(width: int) -> list[Spec]:
    return [Spec((1, width, *volume)) for volume in VOLUMES]


def _vectors(width: int) -> list[Spec]:
    return [Spec((2, width)), Spec((2, 8, width))]


def _sequences(width: int) -> list[Spec]:
    return [Spec((2, TOKENS, width)), Spec((2, width))]


def _tokens(count: int) -> list[Spec]:
    return [Spec((2, length), below=count) for length in (TOKENS, 8, 4)]


BY_LAYER: dict[type[nn.Module], tuple[str, Specs]] = {
    nn.Conv1d: ("in_channels", _signals),
    nn.Conv2d: ("in_channels", _images),
    nn.Conv3d: ("in_channels", _volumes),
    nn.ConvTranspose1d: ("in_channels", _signals),
    nn.ConvTranspose2d: ("in_channels", _images),
    nn.ConvTranspose3d: ("in_channels", _volumes),
    nn.BatchNorm1d: ("num_features", _vectors),
    nn.BatchNorm2d: ("num_features", _images),
    nn.BatchNorm3d: ("num_features", _volumes),
    nn.Linear: ("in_features", _vectors),
    nn.Embedding: ("num_embeddings", _tokens),
    nn.EmbeddingBag: ("num_embeddings", _tokens),
    nn.RNNBase: ("input_size", _sequences),
    nn.RNNCellBase: ("input_size", _vectors),
    nn.MultiheadAttention: ("embed_dim", _sequences),
}
"""The attribute that says how wide the input of such a layer is, and what it reads."""


BY_AXES: dict[int, Specs] = {5: _volumes, 4: _images, 3: _signals, 2: _vectors}
"""What a weight of so many axes is applied to, if a layer of no known class holds it."""


def by_first_layer(model: nn.Module) -> Iterator[Guess]:
    """The kind and width of the first layers, in the order of the modules."""
    layers = []
    for name, module in each_module(model):
        known = next((BY_LAYER[kind] for kind in type(module).__mro__ if kind in BY_LAYER), None)
        if known is not None:
            attribute, specs = known
            source = f"{type(module).__name__} {name}".strip()
            layers.append((source, specs(getattr(module, attribute))))
    return _positional(model, layers)


def by_first_parameter(model: nn.Module) -> Iterator[Guess]:
    """The number of axes and the width of the first weights."""
    weights = [(name, weight) for name, weight in parameters_of(model).items() if weight.dim() in BY_AXES]
    return _positional(
        model,
        [(f"the shape of {name}", BY_AXES[weight.dim()](weight.shape[1])) for name, weight in weights],
    )


def _positional(model: nn.Module, readers: list[tuple[str, list[Spec]]]) -> Iterator[Guess]:
    """One tensor for each required argument: all alike, or each for a reader of its own."""
    # Readers of the same are one; a lazy layer has no width yet.
    outer = reversed(list(_without_inner(readers)))
    different = {specs[0]: (source, specs) for source, specs in outer if all(specs[0].shape)}
    first = list(reversed(different.values()))[:FIRST_LAYERS]
    count, make = max(1, _required(model)), Maker.of(model)
    for source, specs in first:
        yield from (Guess((spec.made(make),) * count, source=source) for spec in specs)
    if count > 1:
        for chosen in itertools.permutations(first, count):
            tensors = tuple(specs[0].made(make) for _, specs in chosen)
            yield Guess(tensors, source=" and ".join(source for source, _ in chosen))


def _without_inner(readers: list[tuple[str, list[Spec]]]) -> Iterator[tuple[str, list[Spec]]]:
    """The readers without those of many channels that come after one of few: what they read is made inside.

    A network that refuses pictures of its own may run on such maps by accident, and not as it does in use.
    """
    fewest: dict[int, int] = {}
    for source, specs in readers:
        shape = specs[0].shape
        if len(shape) > 3:
            known = fewest.setdefault(len(shape), shape[1])
            if shape[1] > max(known, PICTURE_CHANNELS):
                continue
            fewest[len(shape)] = min(known, shape[1])
        yield source, specs


def by_nothing(model: nn.Module) -> Iterator[Guess]:
    """A model that needs no input."""
    if not _required(model):
        yield Guess((), source="a forward without required arguments")


def _required(model: nn.Module) -> int:
    """How many positional arguments the forward cannot do without."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in arguments_of(model).values())
