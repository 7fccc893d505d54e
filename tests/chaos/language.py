"""The operations of language models: pruned with data and corrected, written as a folder, read from one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from prunus import engine
from torch import Tensor, nn

from .cases import Case
from .disturbances import user_code

_SMALL = {
    "vocab_size": 20,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8,
}


def _llama(**settings: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM  # which most kinds of malice need not load

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**_SMALL, **settings)).eval()
    model.register_forward_hook(lambda module, args, output: user_code())
    return model


NETS: dict[str, Callable[[], nn.Module]] = {
    "language": _llama,
    "tied language": lambda: _llama(tie_word_embeddings=True, attention_bias=True),
}


class _Texts:
    """Rows of tokens, of a loader that may fail."""

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(1)
        for _ in range(2):
            user_code()
            yield torch.randint(0, 20, (4, 8), generator=generator)


def _watched(model: nn.Module) -> dict[str, Any]:
    return {"model": model, "config": vars(model.config)}


def _pruning(**options: Any) -> Callable[[str], Case]:
    def prepare(net: str) -> Case:
        model = NETS[net]()
        return Case(lambda: str(engine.prune(model, data=_Texts(), **options)), _watched(model))

    return prepare


def _result(net: str, ratio: float) -> Any:
    x = torch.arange(8).view(1, 8)
    return engine.prune(NETS[net](), example_inputs=x, ratio=ratio)


def save(net: str) -> Case:
    """A folder takes the place of an older one."""
    folder = Path(mkdtemp())
    _result(net, 0.25).save(folder / "model")
    result = _result(net, 0.5)
    return Case(lambda: str(result.save(folder / "model")), _watched(result.model), folder)


@cache
def _saved(net: str) -> Path:
    folder = Path(mkdtemp())
    _result(net, 0.5).save(folder / "model")
    return folder


def load(net: str) -> Case:
    """A model is made of a folder."""
    folder = _saved(net)

    def run() -> str:
        model = engine.load(folder / "model")
        return str([(name, one.shape, float(one.detach().sum())) for name, one in model.named_parameters()])

    return Case(run, {}, folder)


OPERATIONS: dict[str, Callable[[str], Case]] = {
    "prune language": _pruning(compensate="lstsq", sequential=False),
    "prune sequential": _pruning(compensate="lstsq", sequential=True),
    "prune leverage sequential": _pruning(criterion="leverage", compensate="lstsq", sequential=True),
    "save folder": save,
    "load folder": load,
}
