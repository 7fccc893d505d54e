"""Example inputs for a model that comes without any: guesses are tried until a forward runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from ...errors import TraceError
from ..contents import copied
from ..undisturbed import undisturbed
from .configs import by_config, by_declared_size
from .graphs import by_graph_arguments
from .layers import by_first_layer, by_first_parameter, by_nothing
from .making import Guess

GUESSERS: tuple[Callable[[nn.Module], Iterable[Guess]], ...] = (
    by_declared_size,
    by_config,
    by_graph_arguments,
    by_first_layer,
    by_first_parameter,
    by_nothing,
)
"""Who is asked for guesses, in this order."""


def _forward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    return model(*args, **kwargs)


def guess_inputs(
    model: nn.Module, run: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], object] = _forward
) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """Find example inputs for ``model`` by trying.

    Parameters
    ----------
    model
        Run in eval mode, without gradients; all that it holds and the random state are put back.
    run
        How a guess is tried; a plain forward unless told otherwise. It fails by raising.

    Returns
    -------
    Positional arguments, keyword arguments, and one line that says what they are and where they come from.

    Raises
    ------
    TraceError
        If the model runs on none of the guesses; it lists them.
    """
    tried: dict[tuple[str, str], list[str]] = {}
    for guess in itertools.chain.from_iterable(guesser(model) for guesser in GUESSERS):
        try:
            with undisturbed(model):
                run(model, *copied((guess.args, guess.kwargs), torch.clone))
        except Exception as error:  # a wrong guess may fail in any way, also by asking for too much memory
            reason = (str(error).strip() or "no message").splitlines()[0][:90]
            tried.setdefault((guess.source, f"{type(error).__name__}: {reason}"), []).append(guess.shapes)
        else:
            return guess.args, guess.kwargs, str(guess)
    raise TraceError(
        f"no example inputs could be guessed for {type(model).__name__}: pass example_inputs=\n"
        f"tried:\n{_listed(tried)}"
    )


def _listed(tried: dict[tuple[str, str], list[str]]) -> str:
    """What was tried and how it failed; what failed alike is one line."""
    lines = []
    for (source, reason), shapes in tried.items():
        others = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        lines.append(f"  {shapes[0]}{others}, guessed from {source}: {reason}")
    return "\n".join(lines) or "  nothing: no layer or attribute says what the input is"
