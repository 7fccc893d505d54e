"""How much memory corrections take, and how long: a Llama of a billion parameters, float32, on the CPU.

``python benchmarks/memory_correcting.py [--blocks 16] [--tokens 512]`` prunes the hidden units to 80 % of the
parameters, by magnitude, in processes of their own: without a correction, by least squares of all blocks at
once, and in sequence. It prints seconds, and the most that a process holds beyond the model, next to what it
must hold: the tensors that are sliced, and in sequence the products at one block's reader.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import torch
from memory import Peak, config
from prunus import engine
from transformers import LlamaForCausalLM

WAYS = {
    "none": {},
    "lstsq": {"compensate": ("lstsq", 0.1), "sequential": False},
    "in sequence": {"compensate": ("lstsq", 0.1), "sequential": True},
}


def measure(way: str, blocks: int, tokens: int) -> None:
    """Prune, and print what it took."""
    shape = config(num_hidden_layers=blocks, vocab_size=32000, tie_word_embeddings=True)
    model = LlamaForCausalLM(shape).float().eval()
    size = sum(parameter.nbytes for parameter in model.parameters())
    data = torch.randint(32000, (4, tokens // 4), generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    with Peak() as peak:
        result = engine.prune(model, params=0.8, data=data, criterion="magnitude", **WAYS[way])
    seconds = time.perf_counter() - start
    plan = result.plan
    sliced = sum(parameter.nbytes for name, parameter in model.named_parameters() if name in plan.tensors)
    kept = min(len(kept) for kept in plan.groups.values())
    products = 4 * (kept + model.config.hidden_size) ** 2
    more = f"at most {_gib(peak.bytes - peak.before)} more"
    parts = f"sliced {_gib(sliced)}, products of a block {_gib(products)}"
    print(f"{way}: {seconds:.0f} s; model {_gib(size)}, {more}; {parts}", flush=True)


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for way in given.ways:
        if given.here:
            measure(way, given.blocks, given.tokens)
        else:
            sizes = ["--blocks", str(given.blocks), "--tokens", str(given.tokens)]
            subprocess.run([sys.executable, __file__, "--here", "--ways", way, *sizes], check=True)


if __name__ == "__main__":
    main()
