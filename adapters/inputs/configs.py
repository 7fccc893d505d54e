"""Guesses from what timm and transformers say of a model: its configuration.

Such models are known by their attributes; neither package is imported.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from .making import IMAGE_SIDES, TOKENS, Guess, Maker, arguments_of


def is_transformers_config(value: Any) -> bool:
    """Whether it is a config of transformers."""
    return isinstance(getattr(value, "model_type", None), str) and hasattr(value, "to_diff_dict")


def has_config(model: nn.Module) -> bool:
    """Whether a model is built from a config of transformers."""
    return is_transformers_config(vars(model).get("config"))  # and no answer of the module's own


def is_language_model(model: nn.Module) -> bool:
    """Whether a model is built from a config of transformers that has a vocabulary."""
    return has_config(model) and isinstance(setting(model.config, "vocab_size"), int)


def vocabulary_of(model: nn.Module) -> int | None:
    """How many tokens a model of transformers knows; `None` where it does not say."""
    ask = getattr(model, "get_input_embeddings", None)
    try:
        found = ask() if callable(ask) else None
    except (AttributeError, NotImplementedError):
        return None
    return found.num_embeddings if isinstance(found, nn.Embedding) else None


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


def setting(config: Any, *names: str, default: Any = None) -> Any:
    """The first of these settings that a config of transformers, or a config within it, has."""
    for part in (config, *(getattr(config, part, None) for part in _PARTS)):
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                return value
    return default


def _token_ids(config: Any, make: Maker) -> Iterator[Tensor]:
    vocabulary = setting(config, "vocab_size")
    if vocabulary is not None:
        longest = setting(config, "max_position_embeddings", "n_positions", default=2 * TOKENS)
        ids = make.whole(1, max(1, min(TOKENS, longest // 2)), below=vocabulary, start=3)
        end = setting(config, "eos_token_id")
        if isinstance(end, int) and 0 <= end < vocabulary:
            ids[:, -1] = end  # some heads and CLIP's text model read the result at this token
        yield ids


def _pixels(config: Any, make: Maker) -> Iterator[Tensor]:
    size, channels = setting(config, "image_size", "input_size"), setting(config, "num_channels", default=3)
    frames = setting(config, "num_frames")
    declared = [] if size is None else [(size, size) if isinstance(size, int) else tuple(size)[-2:]]
    for sides in declared or [(side, side) for side in IMAGE_SIDES[:3]]:
        if frames is not None:
            yield make.floats(1, frames, channels, *sides)
        yield make.floats(1, channels, *sides)


def _waveform(config: Any, make: Maker) -> Iterator[Tensor]:
    length, bins = setting(config, "max_length"), setting(config, "num_mel_bins")
    if length is not None and bins is not None:
        yield make.floats(1, length, bins)
    yield make.floats(1, 16000)


def _features(config: Any, make: Maker) -> Iterator[Tensor]:
    bins = setting(config, "num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim")
    positions = setting(config, "max_source_positions")
    if bins is not None:
        if positions is not None:
            yield make.floats(1, bins, 2 * positions)
        yield make.floats(1, 128, bins)


def _past_values(config: Any, make: Maker) -> Iterator[Tensor]:
    length, channels = setting(config, "context_length"), setting(config, "num_input_channels", default=1)
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
    takes = arguments_of(model)
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
