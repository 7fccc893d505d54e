"""Whether a correction does harm: the loss on unseen data after pruning, without ``compensate=`` and with it.

``python benchmarks/correction.py [SMOLLM2] [--models digits minilm smollm2] [--tokens 64 1024] [--seeds 5]``
chooses slots by the same criterion, without a correction and with each. What calibrates is so many tokens,
which the seed picks; what is tested are others of the same source. Shown are losses, and how many
corrections made one worse. The models are a small Llama, trained a minute on the pixels of digits; MiniLM,
by the squared error of its results; and SmolLM2-135M from the folder that ``benchmarks/smollm2.py`` writes.
These two are given Python's manual.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import prose
import prose_models as models
import torch
from perplexity import perplexity
from prunus import engine
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

LENGTH = 256  # tokens of a row, at most
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "lstsq": {"compensate": "lstsq", "sequential": False},
    "in sequence": {"compensate": "lstsq", "sequential": True},
}

# Of the parameters; of the digits' model far more can go before its loss rises.
KEPT = {"digits": 0.45, "minilm": 0.8, "smollm2": 0.8}

Loss = Callable[[nn.Module, Tensor], float]


def language_loss(model: nn.Module, tokens: Tensor) -> float:
    return math.log(perplexity(model, tokens))


@torch.no_grad()
def distance(whole: nn.Module, model: nn.Module, tokens: Tensor) -> float:
    """The squared error of what a model without a loss gives, relative to what it should be."""
    wanted, found = (one(input_ids=tokens).last_hidden_state for one in (whole, model))
    return ((found - wanted).square().mean() / wanted.square().mean()).item()


def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A Llama of four blocks that writes handwritten digits, and digits to calibrate and to test with."""
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy(load_digits().images).flatten(1).long()
    pixels = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=17,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config)
    adam = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(20):
        for batch in pixels[:1024].split(32):
            model(input_ids=batch, labels=batch).loss.backward()
            adam.step()
            adam.zero_grad()
    return model.eval(), pixels[1024:1536], pixels[1536:]


def rows(tokens: Tensor, count: int, seed: int) -> Tensor:
    """So many tokens, of rows that the seed picks; rows that are longer are cut."""
    length = min(count, tokens.shape[1])
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
    return tokens[order[: count // length], :length]


def main() -> None:
    models.quiet()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", help="SmolLM2-135M as benchmarks/smollm2.py writes it")
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 256, 1024, 4096, 16384])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--models", nargs="+", choices=("digits", "minilm", "smollm2"), default=["digits", "minilm"]
    )
    given = parser.parse_args()
    console = Console(width=160)
    for name in given.models:
        whole, calibration, test, loss = model_of(name, given.folder)
        table = Table(name, *METHODS, "worse than none", box=box.MARKDOWN)
        for count in given.tokens:
            found: dict[str, list[float]] = {method: [] for method in METHODS}
            if count > calibration.numel():
                continue
            for seed in range(given.seeds):
                data = rows(calibration, count, seed)
                for method, options in METHODS.items():
                    model = copy.deepcopy(whole)
                    engine.prune(model, params=KEPT[name], data=data, criterion="obs", **options)
                    found[method].append(loss(model, test))
            worse = sum(one > none for method in METHODS for one, none in zip(found[method], found["none"]))
            cells = [" ".join(f"{one:.3f}" for one in values) for values in found.values()]
            table.add_row(f"{count} tokens", *cells, f"{worse} of {2 * given.seeds}")
            console.print(name, count, cells, worse, style="dim")
        console.print(f"{name}, whole {loss(whole, test):.3f}, {KEPT[name]:.0%} of the parameters kept")
        console.print(table)


def model_of(name: str, folder: str | None) -> tuple[nn.Module, Tensor, Tensor, Loss]:
    """A model, tokens to calibrate and to test, and the loss on these."""
    if name == "digits":
        model, calibration, test = digits()
        return model, calibration, test, language_loss
    if name == "minilm":
        whole, tokenizer = models.minilm()
        loss: Loss = partial(distance, whole)
    elif folder is None:
        raise SystemExit("for smollm2 give its folder, as benchmarks/smollm2.py writes it")
    else:
        whole, tokenizer = models.smollm2(folder)
        loss = language_loss
    calibration, test = prose.calibration_and_test("manual", tokenizer, LENGTH, 10**6, 0)
    return whole, calibration, test, loss


if __name__ == "__main__":
    main()
