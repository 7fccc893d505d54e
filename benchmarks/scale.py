"""How analysis grows with depth: a Llama of 70 billion parameters, without its weights.

``python benchmarks/scale.py [--layers 20 40 80]`` prints a line for each depth: calls, seconds, and the
ratio to the first row, both of the calls and of the seconds; last the peak memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from prunus import engine
from transformers import LlamaConfig, LlamaForCausalLM


def llama(layers: int) -> torch.nn.Module:
    """A Llama 3 of 70 billion parameters at 80 layers, on the meta device."""
    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=layers,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
        use_cache=False,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config).eval()


def main() -> None:
    """Analyse each depth once, after a small one to warm up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[20, 40, 80])
    inputs = {"input_ids": torch.zeros(1, 16, dtype=torch.long)}
    engine.analyze(llama(1), inputs, fake=True)
    before = peak()
    first = None
    for layers in parser.parse_args().layers:
        model = llama(layers)
        start = time.perf_counter()
        graph = engine.analyze(model, inputs, fake=True)
        seconds, calls = time.perf_counter() - start, len(graph.trace.calls)
        first = first or (seconds, calls)
        billions = sum(parameter.numel() for parameter in model.parameters()) / 1e9
        print(
            f"{layers:3} layers  {billions:5.1f} billion parameters  "
            f"{calls:5} calls ({calls / first[1]:.2f} x)  "
            f"{seconds:5.2f} s ({seconds / first[0]:.2f} x)  {len(graph.groups)} groups"
        )
    print(f"peak memory {peak():.2f} GB, of which {before:.2f} GB are the libraries")


def peak() -> float:
    """The most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
