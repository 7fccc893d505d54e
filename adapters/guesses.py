"""What example inputs may look like: guesses from what a model says of itself, the likeliest first.

A guesser is a function ``model -> guesses``; `GUESSERS` says in which order they are asked. What a layer or
an argument wants to be given is data: `BY_ARGUMENT`, `GRAPH_ARGUMENTS`, `BY_LAYER`. Models of timm,
transformers and torch_geometric are known by their attributes; no such package is imported.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn

from .submodules import each_module, parameters_of, tensors_of

TOKENS = 16
NODES = 12
# The usual sizes first; the others serve networks with a fixed size, which refuse every size but theirs.
IMAGE_SIDES = (224, 256, 299, 128, 64, 32, 28, 96, 112, 160, 192, 240, 384, 448, 512, 48, 16, 8)
SIGNAL_LENGTHS = (64, 128, 256, 512, 1024, 4096, 16000, 32, 16)
VOLUMES = ((16, 112, 112), (16, 224, 224), (32, 32, 32), (64, 64, 64), (8, 64, 64))
FIRST_LAYERS = 4  # so many different layers are taken for the one that reads the input


@frozen
class Guess:
    """Arguments for one forward, and where they come from."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(factory=dict)
    source: str = ""

    @property
    def shapes(self) -> str:
        """Every tensor with its shape."""
        named = [("input", value) for value in self.args] + list(self.kwargs.items())
        tensors = [(name, value.shape) for name, value in named if isinstance(value, Tensor)]
        return ", ".join(f"{name} of {'x'.join(map(str, shape))}" for name, shape in tensors) or "no input"

    def __str__(self) -> str:
        return f"{self.shapes}, guessed from {self.source}"


# Making tensors. All that a model is given is made on the CPU, from a generator of its own, and then moved.


@frozen
class Maker:
    """Makes tensors of a model's device and floating-point type."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, model: nn.Module) -> Maker:
        """As the first floating-point parameter (or else buffer) of ``model`` is."""
        for tensor in tensors_of(model):
            if tensor.is_floating_point():
                return cls(tensor.device, tensor.dtype)
        return cls(torch.device("cpu"), torch.get_default_dtype())

    def floats(self, *shape: int) -> Tensor:
        """Normal noise."""
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        return noise.to(self.device, self.dtype)

    def whole(self, *shape: int, below: int, start: int = 0) -> Tensor:
        """Whole numbers from ``start`` on, which start again at ``below``."""
        return torch.arange(start, start + math.prod(shape), device=self.device).view(shape) % below


# timm: the model says what it was made for.


def by_declared_size(model: nn.Module) -> Iterator[Guess]:
    """timm's ``default_cfg``, whose ``input_size`` has no batch axis."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, name, None)
        size = config.get("input_size") if isinstance(config, dict) else getattr(config, "input_size", None)
        if size is not None:
            yield Guess((Maker.of(model).floats(1, *size),), source=name)


# transformers: the names of forward's arguments say what they are, the config how large.

_PARTS = (
    "text_config",
    "vision_config",
    "audio_config",
    "encoder",
    "decoder",
    "text_encoder",
    "backbone_config",
)


def _setting(config: Any, *names: str, default: Any = None) -> Any:
    """The first of these settings that the config, or a config within it, has."""
    for part in (config, *(getattr(config, part, None) for part in _PARTS)):
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                return value
    return default


def _token_ids(config: Any, make: Maker) -> Iterator[Tensor]:
    vocabulary = _setting(config, "vocab_size")
    if vocabulary is not None:
        longest = _setting(config, "max_position_embeddings", "n_positions", default=2 * TOKENS)
        ids = make.whole(1, max(1, min(TOKENS, longest // 2)), below=vocabulary, start=3)
        end = _setting(config, "eos_token_id")
        if isinstance(end, int) and 0 <= end < vocabulary:
            ids[:, -1] = end  # some heads and CLIP's text model read the result at this token
        yield ids


def _pixels(config: Any, make: Maker) -> Iterator[Tensor]:
    size, channels = _setting(config, "image_size", "input_size"), _setting(config, "num_channels", default=3)
    frames = _setting(config, "num_frames")
    declared = [] if size is None else [(size, size) if isinstance(size, int) else tuple(size)[-2:]]
    for sides in declared or [(side, side) for side in IMAGE_SIDES[:3]]:
        if frames is not None:
            yield make.floats(1, frames, channels, *sides)
        yield make.floats(1, channels, *sides)


def _waveform(config: Any, make: Maker) -> Iterator[Tensor]:
    length, bins = _setting(config, "max_length"), _setting(config, "num_mel_bins")
    if length is not None and bins is not None:
        yield make.floats(1, length, bins)
    yield make.floats(1, 16000)


def _features(config: Any, make: Maker) -> Iterator[Tensor]:
    bins = _setting(config, "num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim")
    positions = _setting(config, "max_source_positions")
    if bins is not None:
        if positions is not None:
            yield make.floats(1, bins, 2 * positions)
        yield make.floats(1, 128, bins)


def _past_values(config: Any, make: Maker) -> Iterator[Tensor]:
    length, channels = _setting(config, "context_length"), _setting(config, "num_input_channels", default=1)
    if length is not None:
        yield make.floats(1, length, channels)


BY_ARGUMENT: dict[str, Callable[[Any, Maker], Iterable[Tensor]]] = {
    "input_ids": _token_ids,
    "decoder_input_ids": _token_ids,
    "pixel_values": _pixels,
    "input_values": _waveform,
    "input_features": _features,
    "past_values": _past_values,
}
"""What to give to an argument of this name, read off a config."""


def by_config(model: nn.Module) -> Iterator[Guess]:
    """transformers: all arguments that can be made from the config, then ``dummy_inputs``, then fewer."""
    config, make = getattr(model, "config", None), Maker.of(model)
    if config is None:
        return
    takes = _parameters(model)
    # A cache among the results would pin heads and head size to what they are.
    options = {"use_cache": False} if "use_cache" in takes else {}
    made = {name: list(BY_ARGUMENT[name](config, make)) for name in takes if name in BY_ARGUMENT}
    made = {name: values for name, values in made.items() if values}
    main = getattr(model, "main_input_name", None)
    everything = list(made)
    choices = [everything, [name for name in made if name in (main, "decoder_input_ids")]]
    choices += [[main]] if isinstance(main, str) else []
    dummies = getattr(model, "dummy_inputs", None)
    for names in (names for i, names in enumerate(choices) if names not in choices[:i]):
        if names and all(name in made for name in names):
            for values in itertools.product(*(made[name] for name in names)):
                yield Guess((), dict(zip(names, values, strict=True)) | options, "the config")
        if names is everything and isinstance(dummies, dict):
            moved = {
                name: value.to(make.device) if isinstance(value, Tensor) else value
                for name, value in dummies.items()
            }
            yield Guess((), moved | options, "dummy_inputs")


# Graph networks: the names of forward's arguments again, with a small graph.


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
    takes = _parameters(model)
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


# Any other model: the first layers.


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
    different = {specs[0]: (source, specs) for source, specs in reversed(readers) if all(specs[0].shape)}
    first = list(reversed(different.values()))[:FIRST_LAYERS]
    count, make = max(1, _required(model)), Maker.of(model)
    for source, specs in first:
        yield from (Guess((spec.made(make),) * count, source=source) for spec in specs)
    if count > 1:
        for chosen in itertools.permutations(first, count):
            tensors = tuple(specs[0].made(make) for _, specs in chosen)
            yield Guess(tensors, source=" and ".join(source for source, _ in chosen))


def by_nothing(model: nn.Module) -> Iterator[Guess]:
    """A model that needs no input."""
    if not _required(model):
        yield Guess((), source="a forward without required arguments")


def _parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """The arguments of the model's forward."""
    return dict(inspect.signature(model.forward).parameters)


def _required(model: nn.Module) -> int:
    """How many positional arguments the forward cannot do without."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in _parameters(model).values())


GUESSERS: tuple[Callable[[nn.Module], Iterable[Guess]], ...] = (
    by_declared_size,
    by_config,
    by_graph_arguments,
    by_first_layer,
    by_first_parameter,
    by_nothing,
)
"""Who is asked for guesses, in this order."""
