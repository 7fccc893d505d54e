"""How much memory ``engine.apply`` takes: a Llama of a billion parameters, bf16, on the CPU.

``python benchmarks/memory.py [--ratios 0.2 0.5]`` prints a line for each model and ratio: what the process
holds before, the most that it holds while the plan is carried out, and the difference in units of the model's
largest tensor. Each is measured in a process of its own, whose pages every millisecond's sample reads from
``/proc``; so it takes Linux, and as much memory as the model and twice its largest tensor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time

import torch
from prunus import engine
from transformers import LlamaConfig, LlamaForCausalLM

VARIANTS = {
    "a large vocabulary, tied": {"vocab_size": 128256, "tie_word_embeddings": True},
    "a small vocabulary, untied": {"vocab_size": 32000, "tie_word_embeddings": False},
}


class Peak:
    """The most resident memory of this process inside a ``with``, in bytes."""

    def __enter__(self) -> Peak:
        self.before = self.bytes = resident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.001):
            self.bytes = max(self.bytes, resident())


def resident() -> int:
    """The memory of this process that is in use, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def config(**options) -> LlamaConfig:
    """That of Llama 3.2 1B, but for the options."""
    shape = {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    return LlamaConfig(use_cache=False, dtype=torch.bfloat16, **{**shape, **options})


def llama(**options) -> torch.nn.Module:
    """A Llama of a billion parameters, with weights that are there but mean nothing."""
    with torch.device("meta"):
        model = LlamaForCausalLM(config(**options)).to(torch.bfloat16).eval()
    model = model.to_empty(device="cpu")
    model.tie_weights()
    for parameter in model.parameters():
        parameter.data.fill_(0.01)
    return model


def measure(variant: str, ratio: float) -> str:
    """One row: plan first, on fake tensors, then watch the memory while it is carried out."""
    model = llama(**VARIANTS[variant])
    inputs = {"input_ids": torch.zeros(1, 16, dtype=torch.long)}
    plan = engine.analyze(model, inputs, fake=True).choose(ratio=ratio, criterion="random")
    largest = max(parameter.nbytes for parameter in model.parameters())
    whole = sum(parameter.nbytes for parameter in model.parameters())
    with Peak() as peak:
        start = time.perf_counter()
        engine.apply(model, plan)
        seconds = time.perf_counter() - start
    extra = peak.bytes - peak.before
    return (
        f"{variant:27} ratio {ratio}: model {whole / 1e6:5.0f} MB, largest tensor {largest / 1e6:3.0f} MB; "
        f"resident {peak.before / 1e6:5.0f} MB, at most {peak.bytes / 1e6:5.0f} MB: "
        f"{extra / largest:+.2f} largest tensors; {seconds:.1f} s"
    )


def main() -> None:
    """Measure every variant at every ratio, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.2, 0.5])
    parser.add_argument("--one", choices=VARIANTS, help="this one only, and in this process")
    options = parser.parse_args()
    for ratio in options.ratios:
        for variant in [options.one] if options.one else VARIANTS:
            if options.one:
                print(measure(variant, ratio), flush=True)
            else:
                command = [sys.executable, __file__, "--one", variant, "--ratios", str(ratio)]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
