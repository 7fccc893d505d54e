"""A checkpoint on disk loses two fifths of its parameters, one tensor at a time; its plan serves another."""

import tempfile
from pathlib import Path

import torch
from prunus import engine
from transformers import LlamaConfig, LlamaForCausalLM

folder = Path(tempfile.mkdtemp())
config = LlamaConfig(
    vocab_size=500, hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8
)
for name in ("base", "tuned"):
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / name, max_shard_size="2MB")

result = engine.prune_checkpoint(folder / "base", folder / "base-half", params=0.6, shard_size="2MB")
print(f"{result.before:,} parameters, now {result.after:,}; {result.folder}")

engine.prune_checkpoint(folder / "tuned", folder / "tuned-half", plan=folder / "base-half/plan.json")
model = LlamaForCausalLM.from_pretrained(folder / "tuned-half", dtype="auto")
print(f"{model.num_parameters():,} parameters in {model.dtype}")
print(", ".join(sorted(file.name for file in (folder / "base-half").iterdir())))
