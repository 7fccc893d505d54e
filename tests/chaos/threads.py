"""Threads that prune a model each, beside threads that serve others: all as if each were alone."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from prunus import engine
from torch import Tensor, nn

from . import shared
from .tally import Tally

PRUNERS = SERVERS = 4
_KINDS = list(shared.NETS)


def run(seed: int, count: int) -> list[Tally]:
    """`count` models are pruned by four threads, while four others run models of the same classes."""
    alone = [_pruned(seed + number) for number in range(count)]
    served = [_Served(kind, how) for how in _HOW.values() for kind in _KINDS]
    before = _state_of_the_process()
    prunes, forwards = Tally("prune beside threads"), Tally("forward beside a prune")
    done = threading.Event()
    with ThreadPoolExecutor(PRUNERS + SERVERS) as pool:
        servers = [pool.submit(_serve, served[start::SERVERS], done) for start in range(SERVERS)]
        together = pool.map(_tried, [seed + number for number in range(count)])
        try:
            for number, (found, wanted) in enumerate(zip(together, alone)):
                prunes.count(None if found == wanted else f"seed {seed + number}: {found}, alone {wanted}")
        finally:
            done.set()
        for server in servers:
            forwards.add(server.result())
    after = Tally("the process afterwards")
    for name, value in _state_of_the_process().items():
        after.count(None if value == before[name] else f"{name} is {value}, was {before[name]}")
    return [prunes, forwards, after]


def _tried(seed: int) -> Any:
    try:
        return _pruned(seed) if seed % 5 else asyncio.run(asyncio.to_thread(_pruned, seed))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _pruned(seed: int) -> Any:
    """What comes of pruning the network of that seed: the plan, and the outputs of the pruned network."""
    kind = _KINDS[seed % len(_KINDS)]
    model, inputs = shared.made(kind, seed), shared.NETS[kind]
    result = engine.prune(model, example_inputs=inputs, ratio=0.3 + seed % 3 / 10)
    with torch.no_grad():
        return result.plan.to_json(), model(inputs).flatten().tolist()


def _eager(model: nn.Module) -> Callable[..., Tensor]:
    return model


def _compiled(model: nn.Module) -> Callable[..., Tensor]:
    return torch.compile(model, backend="eager", fullgraph=not isinstance(model, shared.Recurrent))


def _trained(model: nn.Module) -> Callable[..., Tensor]:
    """The gradients of the weights, too, as a thread that trains would have them."""

    def run(inputs: Tensor) -> Tensor:
        with torch.enable_grad():
            output = model(inputs)
            gradients = torch.autograd.grad(output.sum(), list(model.parameters()), allow_unused=True)
        return torch.cat([output.flatten(), *(one.flatten() for one in gradients if one is not None)])

    return run


_HOW = {"eager": _eager, "compiled": _compiled, "trained": _trained}


class _Served:
    """A network that a thread runs again and again, and what it gives where nothing else runs."""

    def __init__(self, kind: type[nn.Module], how: Callable[[nn.Module], Callable[..., Tensor]]) -> None:
        self.name = f"{kind.__name__}, {how.__name__}"
        self._inputs = shared.NETS[kind]
        self._run = how(shared.made(kind, 0))
        self._wanted = self._output()

    def fault(self) -> str | None:
        """What is wrong with one more forward."""
        try:
            output = self._output()
        except Exception as error:
            return f"{self.name}: {type(error).__name__}: {error}"
        if type(output) is not Tensor or not torch.equal(output, self._wanted):
            return f"{self.name}: another result"
        return None

    def _output(self) -> Tensor:
        with torch.no_grad():
            return self._run(self._inputs)


def _serve(served: list[_Served], done: threading.Event) -> Tally:
    """Run these in turn until `done`, or a little longer, so that each has run."""
    tally = Tally("forward beside a prune")
    while not done.is_set() or tally.tried < len(served):
        tally.count(served[tally.tried % len(served)].fault())
    return tally


def _state_of_the_process() -> dict[str, Any]:
    """What a prune may touch, and must give back."""
    compiler = torch._dynamo.eval_frame
    return {
        "nn.Module.__call__": nn.Module.__call__,
        "autograd.Function.apply": vars(torch.autograd.Function)["apply"],
        "the hooks of all modules": torch.nn.modules.module._has_any_global_hook(),
        "the fast path": torch.backends.mha.get_fastpath_enabled(),
        "the compiler's stance": compiler._stance,
        "cached functions": shared.angles,
        "classes": [vars(kind).copy() for kind in (*_KINDS, shared.Cubed)],
        "the garbage collector": (gc.isenabled(), gc.get_threshold()),
        "filters of warnings": list(warnings.filters),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }
