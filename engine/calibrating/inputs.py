"""What the model is given of a batch, without what only a loss takes, and by the names of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from ...adapters.inputs import arguments_of
from ..tracing import call_arguments


def inputs_of(model: nn.Module, batches: Iterable[Any], *, paired: bool = False) -> list[Any]:
    """What `model` is given of each batch: no ``labels`` that it can do without, and no cache.

    A cache among the results would pin heads and their size; ``use_cache=True`` in a batch keeps it. An
    encoder-decoder makes its decoder's inputs of the labels, where the batch has none. `paired` says that a
    loss takes the batches: of a pair the first are the inputs then.
    """
    return [_given(model, _first(batch) if paired else batch) for batch in batches]


def first_sequence(batch: Any) -> Any:
    """A batch of tokens with its first sequence alone, which tells as much of the model; others stay."""
    tokens = batch.get("input_ids") if isinstance(batch, Mapping) else None
    if not isinstance(tokens, Tensor) or tokens.dim() != 2:
        return batch
    tensors = {name: one for name, one in batch.items() if isinstance(one, Tensor)}
    if any(one.dim() != 2 or len(one) != len(tokens) for one in tensors.values()):
        return batch
    return {**batch, **{name: one[:1] for name, one in tensors.items()}}


def named_inputs(model: nn.Module, batch: Any) -> dict[str, Any]:
    """A batch by the names of forward's arguments; nothing if it is in no form that fits."""
    if not isinstance(batch, (Tensor, tuple, Mapping)):
        return {}
    args, kwargs = call_arguments(batch)
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return kwargs
    rest = next((one.name for one in bound.signature.parameters.values() if one.kind is one.VAR_KEYWORD), "")
    named = dict(bound.arguments)
    return named | named.pop(rest, {})


def takes(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The arguments of forward; none where nothing tells them."""
    try:
        return arguments_of(model)
    except (TypeError, ValueError):
        return {}


def _first(batch: Any) -> Any:
    is_pair = isinstance(batch, tuple) and len(batch) == 2 and not isinstance(batch[1], dict)
    return batch[0] if is_pair else batch


def _given(model: nn.Module, batch: Any) -> Any:
    known = takes(model)
    if not isinstance(batch, (Tensor, tuple, Mapping)) or known.keys().isdisjoint(("labels", "use_cache")):
        return batch
    args, kwargs = call_arguments(batch)
    kwargs = _without_labels(model, known, dict(kwargs))
    if "use_cache" in known and "use_cache" not in named_inputs(model, batch):
        kwargs["use_cache"] = False
    return (args, kwargs) if args else kwargs


def _without_labels(
    model: nn.Module, known: Mapping[str, inspect.Parameter], kwargs: dict[str, Any]
) -> dict[str, Any]:
    if "labels" not in kwargs or "labels" not in known or known["labels"].default is inspect.Parameter.empty:
        return kwargs
    if "decoder_input_ids" in known and "decoder_input_ids" not in kwargs:
        shifted = getattr(model, "prepare_decoder_input_ids_from_labels", None)
        if shifted is None:
            return kwargs
        kwargs["decoder_input_ids"] = shifted(labels=kwargs["labels"])
    del kwargs["labels"]
    return kwargs
