"""Two processes that torch.distributed joins on the CPU, each with data of its own: what every rank found.

Starting them takes seconds, so they run all scenarios one after the other.
"""

import json
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from prunus import PrunusError, engine
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

SIZE = 2


class Net(nn.Module):
    """Two hidden layers, one norm, and a head that only training on `both` uses."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 24)
        self.norm = nn.BatchNorm1d(24)
        self.head, self.other = nn.Linear(24, 8), nn.Linear(24, 3)

    def forward(self, x, both=False):
        h = self.norm(self.second(self.first(x).relu())).relu()
        return (self.head(h), self.other(h)) if both else self.head(h)


def two_ranks() -> list[dict]:
    """What each rank found, by the name of the scenario."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_run, (folder,), nprocs=SIZE)
        return [json.loads(Path(folder, str(rank)).read_text()) for rank in range(SIZE)]


def _run(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=SIZE)
    found = {}
    for scenario in SCENARIOS:
        torch.manual_seed(0)
        model = Net()
        torch.manual_seed(1 + rank)  # the data are other ones on each
        found[scenario.__name__] = scenario(model)
    Path(folder, str(rank)).write_text(json.dumps(found))
    dist.destroy_process_group()


def batch():
    """Data that no other rank has."""
    return torch.randn(6, 16)


def example():
    """Inputs that reach both heads."""
    return {"x": batch(), "both": True}


def loss(model, inputs):
    return model(inputs).square().mean()


def trained(wrapper, optimizer, steps=3, after_backward=lambda: None):
    """Train a wrapper on own data, every other step without one of the heads."""
    for step in range(steps):
        outputs = wrapper(batch(), both=step % 2 == 0)
        sum(one.square().mean() for one in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
        after_backward()
        optimizer.step()
        optimizer.zero_grad()


def values(model):
    """All parameters, to compare between ranks bit for bit."""
    return [parameter.detach().flatten().tolist() for parameter in model.parameters()]


def told(action):
    """The error that an action ends in, as text with its kind."""
    try:
        action()
    except PrunusError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


# --- scenarios ---------------------------------------------------------------------------------------------


def pruned_in_training(model):
    """Train, prune what is wrapped, wrap it again, and train on."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapper = DistributedDataParallel(model, find_unused_parameters=True)
    trained(wrapper, optimizer)
    engine.prune(model, example_inputs=example(), optimizer=optimizer)
    old = told(lambda: wrapper(batch()))
    again = DistributedDataParallel(model, find_unused_parameters=True)
    trained(again, optimizer)
    return {"old": old, "hidden": model.first.out_features, "values": values(model)}


def by_schedule(model):
    """Prune twice in sparse training, which analyses the model while it is wrapped."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = engine.Schedule(
        model, optimizer=optimizer, example_inputs=example(), ratio=0.5, steps=2, every=1
    )
    for _ in range(2):
        wrapper = DistributedDataParallel(model, find_unused_parameters=True)
        trained(wrapper, optimizer)
        regularizer = engine.Regularizer(engine.analyze(model, example()), strength=1e-2)
        trained(wrapper, optimizer, after_backward=regularizer.step)
        schedule.step()
    return {"hidden": model.first.out_features, "values": values(model)}


def optimizer_in_parts(model):
    """Prune and train on with an optimizer of whose state each rank has a part."""
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01)
    trained(DistributedDataParallel(model, find_unused_parameters=True), optimizer)
    engine.prune(model, example_inputs=example(), optimizer=optimizer)
    trained(DistributedDataParallel(model, find_unused_parameters=True), optimizer)
    return {"hidden": model.first.out_features, "values": values(model)}


def by_weights_alone(model):
    """What each rank decides by itself."""
    return {
        name: engine.prune(model, criterion=name, dry_run=True).plan.to_json()
        for name in ("magnitude", "random", "fpgm")
    }


def by_data(model):
    """What each rank would decide otherwise."""
    before = values(model)
    x, data = batch(), [batch()]
    (model(x).square().mean()).backward()  # gradients that are in no way averaged
    options = {
        "wanda": {"criterion": "wanda", "data": data},
        "taylor": {"criterion": "taylor", "data": data, "loss": loss},
        "gradients": {"criterion": "taylor"},
        "own": {"criterion": lambda group, tensors: torch.rand(group.size), "data": data},
        "compensate": {"compensate": "mean", "data": data},
        "latency": {"latency": 0.5},
    }
    found = {
        name: told(lambda given=given: engine.prune(model, example_inputs=x, **given))
        for name, given in options.items()
    }
    found["schedule"] = told(lambda: engine.Schedule(model, example_inputs=x, criterion="flap", data=data))
    found["recalibrate"] = told(lambda: engine.recalibrate(model, data))
    return {"errors": found, "unchanged": values(model) == before}


def by_one_plan(model):
    """Each decides by its data, and all carry out what the first has decided."""
    options = {"criterion": "wanda", "data": [example()], "dry_run": True}
    result = engine.prune(model, example_inputs=example(), **options)
    texts = [result.plan.to_json()]
    dist.broadcast_object_list(texts)
    engine.apply(model, engine.Plan.from_json(texts[0]))
    return {"own": result.plan.to_json(), "hidden": model.first.out_features, "values": values(model)}


SCENARIOS = (pruned_in_training, by_schedule, optimizer_in_parts, by_weights_alone, by_data, by_one_plan)
