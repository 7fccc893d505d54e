"""The operations that are disturbed, each on a small network, and what may not change by halves."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from attrs import define, field
from prunus import engine
from torch import Tensor, nn

from . import language
from .cases import Case
from .disturbances import user_code
from .nets import NETS


@define
class Start:
    """A fresh model that has been trained a little, with what belongs to it."""

    model: nn.Module
    x: Tensor
    optimizer: torch.optim.Optimizer
    alias: Tensor = field(init=False)  # somebody else's view of a weight

    def __attrs_post_init__(self) -> None:
        self.alias = next(self.model.parameters()).data.view(-1)

    @property
    def watched(self) -> dict[str, Any]:
        return {"model": self.model, "x": self.x, "optimizer": self.optimizer, "alias": self.alias}


def loss(model: nn.Module, batch: Any) -> Tensor:
    """A loss of inputs alone."""
    user_code()
    return model(batch if isinstance(batch, Tensor) else batch[0]).square().mean()


def start(net: str) -> Start:
    """The same each time."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    model, x = NETS[net]()
    model.register_forward_hook(lambda module, args, output: user_code())
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        loss(model, x).backward()
        optimizer.step()
    list(model.children())[-1].eval()
    if hasattr(model, "cache"):
        model.cache.clear()
        model.last = None
    return Start(model, x, optimizer)


def _described(graph: Any) -> str:
    return str(
        [(g.name, g.size, g.exact, g.blocked, str(g.members)) for g in [*graph.groups, *graph.blocked]]
    )


def analyze(net: str) -> Case:
    one = start(net)
    return Case(lambda: _described(engine.analyze(one.model, one.x)), one.watched)


def analyze_fake(net: str) -> Case:
    one = start(net)
    return Case(lambda: _described(engine.analyze(one.model, one.x, fake=True)), one.watched)


def _pruning(**options: Any) -> Callable[[str], Case]:
    def prepare(net: str) -> Case:
        one = start(net)
        given = {name: made(one) for name, made in options.items()}
        return Case(lambda: str(engine.prune(one.model, example_inputs=one.x, **given)), one.watched)

    return prepare


_plans: dict[str, str] = {}


def _plan(net: str) -> Any:
    """A plan for what `start` gives, which is found out once."""
    if net not in _plans:
        one = start(net)
        _plans[net] = engine.prune(one.model, example_inputs=one.x, ratio=0.4, dry_run=True).plan.to_json()
    return engine.Plan.from_json(_plans[net])


def apply(net: str) -> Case:
    plan = _plan(net)
    one = start(net)
    return Case(lambda: str(engine.apply(one.model, plan, optimizer=one.optimizer)), one.watched)


def mask(net: str) -> Case:
    plan = _plan(net)
    one = start(net)

    def run() -> str:
        with engine.mask(one.model, plan):
            return str([value.detach().abs().sum() for value in one.model.parameters()])

    return Case(run, one.watched)


def _schedule(one: Start) -> Any:
    return engine.Schedule(
        one.model, optimizer=one.optimizer, example_inputs=one.x, params=0.5, steps=2, every=2
    )


def schedule(net: str) -> Case:
    one = start(net)
    return Case(lambda: str(_schedule(one)), one.watched)


def schedule_step(net: str) -> Case:
    one = start(net)
    made = _schedule(one)
    return Case(lambda: str(made.step()), one.watched, shown=lambda: f"{made}, {made.state_dict()}")


def schedule_state(net: str) -> Case:
    one = start(net)
    made = _schedule(one)
    made.step()
    return Case(lambda: str(made.state_dict()), one.watched, shown=lambda: f"{made}, {made.state_dict()}")


def schedule_load(net: str) -> Case:
    one, other = start(net), start(net)
    before = _schedule(other)
    before.step()
    state, made = before.state_dict(), _schedule(one)
    run = partial(made.load_state_dict, state)
    return Case(run, one.watched, shown=lambda: f"{made}, {made.state_dict()}")


def _regularizer(kind: str) -> Callable[[str], Case]:
    def prepare(net: str) -> Case:
        one = start(net)
        made = engine.Regularizer(engine.analyze(one.model, one.x), kind, strength=0.1)
        return Case(made.step, one.watched, shown=lambda: str(made.state_dict()))

    return prepare


def recalibrate(net: str) -> Case:
    one = start(net)
    return Case(lambda: str(engine.recalibrate(one.model, _data(one))), one.watched)


def save(net: str) -> Case:
    one = start(net)
    folder = Path(mkdtemp())
    result = engine.prune(one.model, example_inputs=one.x)
    path = folder / "model.safetensors"
    path.write_bytes(b"older")
    return Case(lambda: result.save(path), one.watched, folder)


def load(net: str) -> Case:
    one, other = start(net), start(net)
    folder = Path(mkdtemp())
    engine.prune(other.model, example_inputs=other.x).save(folder / "model.safetensors")
    return Case(lambda: str(engine.load(folder / "model.safetensors", one.model)), one.watched, folder)


class _Data:
    """Batches of a loader that may fail."""

    def __init__(self, x: Tensor):
        self.batches = [x, x.flip(0)]

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.batches:
            user_code()
            yield batch


def _data(one: Start) -> _Data:
    return _Data(one.x)


def _criterion(group: Any, tensors: Any) -> Tensor:
    user_code()
    return torch.arange(float(group.size))


def _curve(done: float, final: float) -> float:
    user_code()
    return final**done


OPERATIONS: dict[str, Callable[[str], Case]] = {
    "analyze": analyze,
    "analyze fake": analyze_fake,
    "prune": _pruning(),
    "prune macs": _pruning(macs=lambda one: 0.6, scope=lambda one: "global"),
    "prune optimizer": _pruning(optimizer=lambda one: one.optimizer),
    "prune compensate": _pruning(data=_data, compensate=lambda one: "lstsq"),
    "prune taylor": _pruning(data=_data, loss=lambda one: loss, criterion=lambda one: "taylor"),
    "prune wanda": _pruning(data=_data, criterion=lambda one: "wanda", prefer=lambda one: "inner"),
    "prune obs": _pruning(data=_data, criterion=lambda one: "obs", compensate=lambda one: "lstsq"),
    "prune leverage": _pruning(data=_data, criterion=lambda one: "leverage"),
    "prune criterion": _pruning(criterion=lambda one: _criterion, ratio=lambda one: 0.3),
    "apply": apply,
    "mask": mask,
    "schedule": schedule,
    "schedule step": schedule_step,
    "schedule state": schedule_state,
    "schedule load": schedule_load,
    "regularizer": _regularizer("group"),
    "regularizer growing": _regularizer("growing"),
    "recalibrate": recalibrate,
    "save": save,
    "load": load,
    **language.OPERATIONS,
}


def nets_of(operation: str) -> list[str]:
    """The networks that an operation is tried on."""
    return list(language.NETS if operation in language.OPERATIONS else NETS)
