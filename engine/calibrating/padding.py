"""Positions of a batch that are padding, and the rows of a value that stand there: they count nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..tracing import Call, Value

_DECODER = "decoder_"


class Padding:
    """What the masks of a batch call padding, as transformers name them: 0 in ``attention_mask``.

    A value has such positions if its first axes are those of the mask, ``(batch, length)``, apart or as one,
    which their sizes alone tell: of a value with its batch axis elsewhere, or of another length, all counts.
    ``decoder_attention_mask`` is for what an input named ``decoder_*`` has a part in, and no other mask is.
    """

    def __init__(self, inputs: Mapping[str, Any]):
        self._masks = {name: _mask(inputs.get(f"{name}attention_mask")) for name in ("", _DECODER)}
        self._of_decoder: dict[Value, bool] = {}

    def follow(self, call: Call) -> None:
        """Take note of what a call is given; calls are to come in order."""
        for value in call.values:
            if value not in self._of_decoder:
                self._of_decoder[value] = self._is_of_decoder(value)

    def without(self, value: Value, tensor: Tensor, axis: int) -> tuple[Tensor, int]:
        """The rows of a value that are none, and where an axis of it is then."""
        mask = self._masks[_DECODER if self._of_decoder.get(value) else ""]
        if mask is None:
            return tensor, axis
        if axis >= 2 and tensor.shape[:2] == mask.shape:
            return tensor[mask.to(tensor.device)], axis - 1
        if axis >= 1 and len(tensor) == mask.numel():
            return tensor[mask.to(tensor.device).flatten()], axis
        return tensor, axis

    def _is_of_decoder(self, value: Value) -> bool:
        if value.call is None:
            return value.kind == "input" and (value.name or "").startswith(_DECODER)
        return any(self._of_decoder.get(one, False) for one in value.call.values)


def _mask(given: Any) -> Tensor | None:
    """Where a token is, ``(batch, length)``; none if one is everywhere, or what is given is added instead."""
    if not isinstance(given, Tensor) or given.dim() != 2 or given.all():
        return None
    found = given.bool()
    # Of floating-point masks, zeros and ones are what transformers takes for such a mask, too.
    is_added = given.is_floating_point() and not (found.any() and bool((given == found).all()))
    return None if is_added else found
