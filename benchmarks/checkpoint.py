"""What ``engine.prune_checkpoint`` takes: a Llama-shaped checkpoint of 6 GB in bf16, in several files.

``python benchmarks/checkpoint.py [--layers 16] [--folder /tmp]`` writes random checkpoints of that many
layers and of a quarter, and prunes each to half in a process of its own. It prints the most memory that the
process held beyond what it held after its imports, in units of the largest tensor, and the seconds, in turn
with those of a plain copy of the files with safetensors, put to disk as well. It takes Linux, twice the
checkpoint as room in the folder, which is cleared afterwards, and memory for one file of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from memory import Peak
from prunus import engine
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

INDEX = "model.safetensors.index.json"


def write(folder: Path, config: LlamaConfig, layers_in_file: int) -> None:
    """A checkpoint with random weights, made and written a few layers at a time."""
    with torch.device("meta"):
        shapes = {name: one.shape for name, one in LlamaForCausalLM(config).state_dict().items()}
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    files: dict[str, list[str]] = {}
    for name in shapes:
        layer = name.split(".")[2] if ".layers." in name else ""
        files.setdefault(f"layers-{int(layer) // layers_in_file:03}" if layer else "others", []).append(name)
    for file, names in files.items():
        tensors = {name: torch.empty(shapes[name], dtype=torch.bfloat16).normal_(std=0.02) for name in names}
        save_file(tensors, folder / f"{file}.safetensors", metadata={"format": "pt"})
    weight_map = {name: f"{file}.safetensors" for file, names in files.items() for name in names}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def copy(source: Path, target: Path) -> None:
    """The files once more, by the library, one at a time."""
    target.mkdir()
    for file in sorted(source.glob("*.safetensors")):
        save_file(load_file(file), target / file.name)
        with (target / file.name).open("r+b") as written:
            os.fsync(written.fileno())


def prune(source: Path, target: Path) -> None:
    """One run, whose figures are printed as JSON; the classes that it takes are imported before."""
    AutoConfig.from_pretrained(source)
    start = time.perf_counter()
    with Peak() as peak:
        result = engine.prune_checkpoint(source, target, params=0.5, kinds=["stream", "heads", "hidden"])
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {"bytes": peak.bytes - peak.before, "seconds": seconds, "kept": result.after / result.before}
        )
    )


def largest(source: Path) -> int:
    """The bytes of the largest tensor."""
    sizes = []
    for file in source.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # it is no mapping
                sizes.append(torch.Size(opened.get_slice(name).get_shape()).numel() * 2)
    return max(sizes)


def timed(words: list[str]) -> tuple[float, str]:
    """The seconds of a process of this file, and the last line that it prints."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, *words], check=True, text=True, stdout=subprocess.PIPE)
    return time.perf_counter() - start, (done.stdout.strip().splitlines() or [""])[-1]


def measure(folder: Path, layers: int, options: argparse.Namespace) -> None:
    """Print a row for a checkpoint of so many layers."""
    source, target = folder / "source", folder / "half"
    source.mkdir()
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        vocab_size=options.vocabulary,
        num_attention_heads=32,
        num_key_value_heads=8,
        dtype="bfloat16",
    )
    write(source, config, max(1, layers // 4))
    size = sum(file.stat().st_size for file in source.iterdir())
    unit = largest(source)
    for turn in range(options.turns):
        copied, _ = timed(["--copy", str(source), str(folder / "copy")])
        clear(folder / "copy")
        _, told = timed(["--prune", str(source), str(target)])
        found = json.loads(told)
        clear(target)
        print(
            f"{layers:3} layers, {size / 1e9:5.2f} GB, turn {turn + 1}: {found['kept']:.1%} kept, "
            f"peak {found['bytes'] / 1e6:5.0f} MB = {found['bytes'] / unit:.2f} x the largest tensor "
            f"({unit / 1e6:.0f} MB), {found['seconds']:.1f} s; a copy in a process of its own {copied:.1f} s",
            flush=True,
        )
    clear(source)


def clear(folder: Path) -> None:
    """Remove a folder of files."""
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--intermediate", type=int, default=11008)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--folder", default=None, help="where there is room (default: the system's)")
    parser.add_argument("--prune", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--copy", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prune:
        prune(*options.prune)
    elif options.copy:
        copy(*options.copy)
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for layers in (options.layers, max(1, options.layers // 4)):
                measure(Path(folder), layers, options)


if __name__ == "__main__":
    main()
