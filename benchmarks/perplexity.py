"""How well language models do right after pruning, next to other ways to prune them.

``python benchmarks/perplexity.py SMOLLM2 [--kept 0.9 0.8 0.7] [--tokens 6144] [--methods NAME ...]``, where
``SMOLLM2`` is the folder that ``python benchmarks/smollm2.py SMOLLM2`` writes. Each of two texts, Python's
manual and news of the BBC, calibrates, and both are tested on rows that calibrate nothing; all methods are
given the same tokens, and remove as many parameters, none of them embeddings. Perplexity is shown of
SmolLM2-135M; with ``--minilm`` it is the cosine of MiniLM's sentence vectors to those before.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import prose
import prose_models as models
import prose_peers as peers
import torch
from prose_models import Seen
from prunus import engine
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

LENGTH = 512  # tokens of a row
ROWS = 4  # rows of a batch

Method = Callable[[nn.Module, Seen, float, Tensor], Any]


def by_peer(prune: Callable[[nn.Module, Seen, float], None]) -> Method:
    """A peer prunes without the tokens: it has seen them."""

    @torch.no_grad()
    def pruned(model: nn.Module, seen: Seen, kept: float, tokens: Tensor) -> None:
        prune(model, seen, 1 - kept)

    return pruned


def by_prunus(**options: Any) -> Method:
    """What a user calls: `engine.prune` with the tokens."""

    def prune(model: nn.Module, seen: Seen, kept: float, tokens: Tensor) -> None:
        engine.prune(model, params=kept, data=tokens, **options)

    return prune


METHODS: dict[str, Method] = {
    "random units": by_peer(partial(peers.hidden_units, score=peers.random_scores)),
    "magnitude": by_peer(partial(peers.hidden_units, score=peers.magnitude)),
    "Wanda, units alone": by_peer(partial(peers.hidden_units, score=peers.wanda)),
    "Wanda-sp": by_peer(peers.wanda_sp),
    "Wanda and ridge (GRAIL)": by_peer(partial(peers.hidden_units, score=peers.wanda, ridge=1e-3)),
    "FLAP": by_peer(peers.flap),
    "SliceGPT": by_peer(peers.slice_gpt),
    "ShortGPT": by_peer(peers.short_gpt),
    "prunus, no correction": by_prunus(),
    "prunus, not in sequence": by_prunus(compensate="lstsq", sequential=False),
    "prunus": by_prunus(compensate="lstsq"),
    "prunus, other widths": by_prunus(compensate="lstsq", scope="global"),
}
# Whose models have a norm before each block, and no bias.
PRE_NORM = ("SliceGPT",)


@torch.no_grad()
def perplexity(model: nn.Module, tokens: Tensor) -> float:
    """Of each token after the first of its row."""
    total = 0.0
    for batch in tokens.split(ROWS):
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
        total += nn.functional.cross_entropy(
            logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"
        ).item()
    return math.exp(total / tokens[:, 1:].numel())


@torch.no_grad()
def vectors(model: nn.Module, tokens: Tensor) -> Tensor:
    """The mean over the tokens of each row, as sentence encoders are used."""
    return torch.cat([model(input_ids=batch).last_hidden_state.mean(1) for batch in tokens.split(ROWS)])


def cosine(whole: nn.Module, model: nn.Module, tokens: Tensor) -> float:
    """How alike the rows' vectors are to those of the whole model."""
    return torch.cosine_similarity(vectors(whole, tokens), vectors(model, tokens)).mean().item()


def compare(
    whole: nn.Module,
    tokenizer: Any,
    measure: Callable[[nn.Module, Tensor], float],
    given: argparse.Namespace,
    methods: Sequence[str],
    console: Console,
) -> None:
    """A table for each text that calibrates: rows are methods, columns what is kept and what is tested."""
    texts = {
        name: prose.calibration_and_test(name, tokenizer, given.length, given.tokens, given.seed)
        for name in prose.TEXTS
    }
    for name in given.texts:
        tokens, _ = texts[name]
        seen = models.seen(whole, tokens.split(ROWS))
        table = Table("calibrated on " + name, box=box.MARKDOWN)
        for kept in given.kept:
            for test in texts:
                table.add_column(f"{kept:.0%}, {test}", justify="right")
        table.add_column("seconds", justify="right")
        unpruned = [measure(whole, test) for _, test in texts.values()]
        table.add_row("whole", *[f"{one:.2f}" for one in unpruned * len(given.kept)], "")
        for method in methods:
            cells, seconds = [], []
            for kept in given.kept:
                model = copy.deepcopy(whole)
                start = time.perf_counter()
                METHODS[method](model, seen, kept, tokens)
                seconds.append(time.perf_counter() - start)
                gone = (models.inside(whole) - models.inside(model)) / models.total(whole)
                off = "" if abs(1 - gone - kept) < 0.005 else f" ({1 - gone:.1%})"
                cells += [f"{measure(model, test):.2f}{off}" for _, test in texts.values()]
                console.print(f"{method}: {cells[-len(texts) :]}", style="dim")
            table.add_row(method, *cells, f"{sum(seconds) / len(seconds):.0f}")
        console.print(table)


def main() -> None:
    models.quiet()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", help="SmolLM2-135M as benchmarks/smollm2.py writes it")
    parser.add_argument("--minilm", action="store_true", help="MiniLM instead")
    parser.add_argument("--kept", nargs="+", type=float, default=[0.9, 0.8, 0.7])
    parser.add_argument("--tokens", type=int, default=6144, help="to calibrate with")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a row")
    parser.add_argument("--seed", type=int, default=0, help="which rows calibrate")
    parser.add_argument(
        "--texts", nargs="+", choices=prose.TEXTS, default=list(prose.TEXTS), help="to calibrate with"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    given = parser.parse_args()
    console = Console(width=200)
    console.print(
        f"torch {torch.__version__}; {given.tokens} tokens calibrate, {prose.TEST} x {given.length} test"
    )
    if given.minilm:
        whole, tokenizer = models.minilm()
        measure: Callable[[nn.Module, Tensor], float] = partial(cosine, whole)
        methods = [method for method in given.methods if method not in PRE_NORM]
    elif given.folder is not None:
        whole, tokenizer = models.smollm2(given.folder)
        measure, methods = perplexity, given.methods
    else:
        parser.error("give the folder of SmolLM2-135M, or --minilm")
    compare(whole, tokenizer, measure, given, methods, console)


if __name__ == "__main__":
    main()
