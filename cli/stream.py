"""``prune --stream``: a checkpoint that need not fit in memory."""

from __future__ import annotations

import argparse

from .. import engine
from ..errors import PrunusError
from .inputs import example_inputs
from .modules import import_installed, of_the_user
from .output import counting
from .parser import CHOICE

# What asks for a model in memory, and its value if it is not asked for.
_NOT_STREAMED = {
    "data": None,
    "compensate": None,
    "sequential": None,
    "weights": None,
    "dtype": None,
    "device": None,
    "latency": None,
    "dry_run": False,
}


def expect_streamable(options: argparse.Namespace) -> None:
    """Before the work: what goes with --stream, and what without."""
    if not options.stream:
        if options.shard_size is not None:
            raise PrunusError("--shard-size goes with --stream")
        return
    if not options.model.startswith("hf:"):
        raise PrunusError("--stream is for a folder of transformers, hf:FOLDER")
    if options.output is None or options.output.endswith(".safetensors"):
        raise PrunusError("--stream writes a folder: name it with --output")
    for name, not_given in _NOT_STREAMED.items():
        if getattr(options, name) != not_given:
            raise PrunusError(
                f"--{name.replace('_', '-')} needs a model in memory, and --stream has none; leave one out"
            )


def prune_streamed(options: argparse.Namespace) -> engine.Result:
    """Prune the checkpoint tensor by tensor, and write it."""
    import_installed("transformers")
    chosen = {name: getattr(options, name) for name in CHOICE if name != "latency"}
    if chosen["criterion"] is None:
        del chosen["criterion"]
    if options.shard_size is not None:
        chosen["shard_size"] = options.shard_size
    inputs = example_inputs(options.input)
    with of_the_user("pruning"), counting("pruning ...") as progress:
        return engine.prune_checkpoint(
            options.model.removeprefix("hf:"),
            options.output,
            options.rules or "default",
            example_inputs=inputs,
            progress=progress,
            **chosen,
        )
