"""Prunes small models of many architectures of transformers, saves them, and loads them in fresh processes.

``python benchmarks/folders.py`` prints a line for each: plain or shaped, and why. Plain ones are loaded where
prunus cannot be imported; parameters must be equal bit for bit, outputs to rounding, generated tokens equal.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from prunus import PrunusError, engine

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from zoo_models import build_transformers
from zoo_transformers import TRANSFORMERS

TOKENS = torch.arange(3, 19).view(2, 8)
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 48, "attn_implementation": "eager", "initializer_range": 0.3,
}  # fmt: skip
CAUSAL = (
    *(
        "llama",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi",
        "phi3",
        "falcon",
        "bloom",
        "gptj",
        "qwen2",
    ),
    *("olmo", "olmo2", "stablelm", "cohere", "starcoder2", "granite", "helium", "glm", "smollm3", "nemotron"),
    *("persimmon", "codegen", "mixtral", "qwen2_moe", "olmoe", "granitemoe", "ernie4_5", "seed_oss", "arcee"),
)

LOADED = """
import sys
if {blocked}: sys.modules["prunus"] = None
else: import prunus
import torch, transformers
transformers.utils.logging.set_verbosity_error()
for folder in {folders}:
    kind, inputs, outputs, state, tokens = torch.load(folder + "/expected.pt", weights_only=False)
    try:
        model = getattr(transformers, kind).from_pretrained(folder, dtype="auto").eval()
        same = all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        with torch.no_grad():
            found = [one for one in model(**inputs).to_tuple() if isinstance(one, torch.Tensor)]
        near = all(torch.allclose(one, two, 1e-4, 1e-5, True) for one, two in zip(found, outputs))
        bits = all(torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in zip(found, outputs))
        options = dict(max_new_tokens=6, do_sample=False)
        write = tokens is None or torch.equal(model.generate(inputs["input_ids"], **options), tokens)
        print(folder, same and near and write, bits, sep="\\t")
    except Exception as error:
        print(folder, False, str(error).splitlines()[0], sep="\\t")
"""


def causal(kind: str) -> tuple[Any, dict[str, Any]]:
    """A small causal language model of that kind."""
    config = transformers.AutoConfig.for_model(kind, **SMALL)
    return transformers.AutoModelForCausalLM.from_config(config), {"input_ids": TOKENS, "use_cache": False}


def saved(name: str, folder: Path) -> Any:
    """Prune a model, and save it with what it gives; the folder's form and why."""
    torch.manual_seed(0)
    model, inputs = causal(name) if name in CAUSAL else build_transformers(name)
    result = engine.prune(model.eval(), example_inputs=inputs, params=0.7)
    form = result.save(folder)
    with torch.no_grad():
        outputs = [one for one in model(**inputs).to_tuple() if isinstance(one, torch.Tensor)]
    writes = "input_ids" in inputs and "pixel_values" not in inputs and model.can_generate()
    tokens = model.generate(inputs["input_ids"], max_new_tokens=6, do_sample=False) if writes else None
    expected = (type(model).__name__, inputs, outputs, model.state_dict(), tokens)
    torch.save(expected, folder / "expected.pt")
    return form


def loaded(folders: list[str], blocked: bool) -> dict[str, list[str]]:
    """What a fresh process finds: the same or not, and bit for bit or not."""
    code = LOADED.format(blocked=blocked, folders=folders)
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout
    return {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines() if "\t" in line}


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as room:
        forms: dict[str, Any] = {}
        for name in [*CAUSAL, *TRANSFORMERS]:
            try:
                forms[name] = saved(name, Path(room) / name)
            except (PrunusError, ValueError, TypeError) as error:  # or a config that wants other numbers
                print(f"{name:28} cannot: {str(error).splitlines()[0][:120]}")
        found: dict[str, list[str]] = {}
        for form in ("plain", "shaped"):
            folders = [f"{room}/{name}" for name, one in forms.items() if one.form == form]
            found |= loaded(folders, blocked=form == "plain")
        for name, one in forms.items():
            same, *bits = found.get(f"{room}/{name}", ["False"])
            print(f"{name:28} {'same' if same == 'True' else 'OTHER'} {' '.join(bits):6} {str(one)[:150]}")
        plain = sum(one.form == "plain" for one in forms.values())
        held = sum(found.get(f"{room}/{name}", [""])[0] == "True" for name in forms)
        print(f"{len(forms)} saved, {plain} of them plain; {held} come back the same")


if __name__ == "__main__":
    main()
