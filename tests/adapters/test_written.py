"""What a forward writes, and that all of it is put back, bit for bit, whatever ran it."""

from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from prunus import engine
from prunus.engine.witnessing.rerun import output_shapes
from prunus.errors import PrunusError, TraceError
from test_leaks import Snapshot
from test_memory import Live
from torch import nn
from torch.nn import functional as F

X = torch.randn(2, 6)
WORDS = torch.tensor([[1, 2, 3], [0, 4, 5]])


class Holder:
    """An object in slots."""

    __slots__ = ("count", "tensor")

    def __init__(self):
        self.count, self.tensor = 0, torch.ones(3)


class Writing(nn.Module):
    """Two layers, and whatever the forward is to write before the second is used."""

    def __init__(self, write):
        super().__init__()
        self.write = write
        self.a, self.b, self.twin = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(6, 16)
        self.register_buffer("table", torch.randn(5))
        self.plain = torch.randn(7)
        self.count, self.log, self.names, self.kinds = 0, [], {"a": [1]}, {1, 2}
        self.ring, self.counts, self.lists = deque([1, 2], 2), Counter("aab"), defaultdict(list)
        self.ordered, self.array = OrderedDict(b=1, a=2), np.ones(4)
        self.tensors = [torch.zeros(4), (torch.zeros(4), {"x": torch.zeros(4)})]
        self.space, self.holder = SimpleNamespace(count=0, deep=SimpleNamespace(list=[])), Holder()
        self.outside = [nn.Linear(2, 2)]
        self.eval()

    def forward(self, x):
        h = self.a(x).relu()
        self.write(self)
        return self.b(h) + 0 * self.twin(x).sum()


def moving_average(self):
    for own, other in zip(self.twin.parameters(), self.a.parameters()):
        own.data.mul_(0.9).add_(other.data, alpha=0.1)


def max_norm(self):
    with torch.no_grad():
        norms = self.a.weight.norm(dim=1, keepdim=True)
        self.a.weight.copy_(self.a.weight * norms.clamp(max=0.1) / norms)


def set_data(self):
    self.a.weight.data = self.a.weight.data * 2
    self.b.bias.data = torch.zeros(4)
    self.b.bias.data.fill_(7)


def of_other_memory(self):
    with torch.no_grad():
        self.a.bias.set_(torch.zeros(16))
        self.plain.set_(torch.zeros(3).untyped_storage(), 0, (3,), (1,))


def resized(self):
    self.plain.resize_(3).fill_(3)
    self.table.resize_(2).zero_()


def through_views(self):
    self.a.weight.view(-1)[3] = 5
    self.a.weight[0].zero_()
    self.a.weight.T[1, 2:].add_(1)
    self.a.weight.detach()[4] *= 3


def at_once(self):
    torch._foreach_mul_([self.a.weight, self.b.weight], 0.5)
    torch._foreach_add_([one.data for one in self.parameters()], 1)
    torch.add(self.plain, 1, out=self.plain)


def by_init(self):
    nn.init.normal_(self.a.weight)
    numbers = torch.zeros(sum(map(torch.numel, self.parameters())))
    torch.nn.utils.vector_to_parameters(numbers, self.parameters())


def statistics(self):
    F.batch_norm(torch.randn(3, 5), self.table, torch.ones(5), training=True)


def counters(self):
    self.count += 1
    self.new = 3
    self.log.append(self.count)
    self.names["a"].append(2)
    self.names["b"] = 4
    self.kinds.add(3)
    self.ring.append(3)
    self.counts["a"] += 1
    self.lists["new"].append(1)
    self.ordered.move_to_end("b")
    self.array += 1
    self.space.count += 1
    self.space.deep.list.append(1)
    self.holder.count += 1


def lists_of_tensors(self):
    self.tensors[0].add_(1)
    self.tensors[1][1]["x"].data.add_(1)
    self.tensors.append(torch.ones(1))
    self.holder.tensor.zero_()
    self.outside[0].weight.data.zero_()


def replaced(self):
    self.a.weight = nn.Parameter(torch.zeros(16, 6))
    self.table = torch.zeros(5)
    del self.plain
    self.extra = nn.Linear(2, 2)
    self.register_buffer("late", torch.zeros(2))
    self.b.register_forward_hook(lambda *_: None)


def flags(self):
    self.a.weight.requires_grad_(False)
    self.b.weight.grad = torch.ones(4, 16)
    self.twin.weight.grad.add_(1)
    self.twin.bias.grad = None


def backwards(self):
    with torch.enable_grad():
        self.twin(X).sum().backward()


WRITES = [
    *(moving_average, max_norm, set_data, of_other_memory, resized, through_views, at_once, by_init),
    *(statistics, counters, lists_of_tensors, replaced, flags, backwards),
]


def written(write):
    """A model as in the middle of training."""
    torch.manual_seed(0)
    model = Writing(lambda self: None)
    model(X).sum().backward()
    model.write = write
    return model


RUNS = {
    "trace": lambda model: engine.trace(model, X),
    "analyze": lambda model: engine.analyze(model, X),
    "fake": lambda model: engine.analyze(model, X, fake=True),
    "dry run": lambda model: engine.prune(model, example_inputs=X, dry_run=True),
    "verification": lambda model: output_shapes(model, X),
    "cost": lambda model: engine.cost(model, X),
    "recalibrate": lambda model: engine.recalibrate(nn.Sequential(model, nn.BatchNorm1d(4)), [X]),
    "data": lambda model: engine.prune(model, example_inputs=X, criterion="wanda", data=[X], dry_run=True),
    "gradients": lambda model: engine.prune(
        model,
        example_inputs=X,
        criterion="taylor",
        data=[X],
        loss=lambda model, x: model(x).square().sum(),
        dry_run=True,
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_what_is_written_is_put_back(write, run):
    """Parameters, buffers, other tensors, attributes and containers, with identities, flags and gradients."""
    model = written(write)
    before = Snapshot(model)
    try:
        run(model)
    except (PrunusError, RuntimeError) as error:  # no gradients go through what is overwritten
        assert run in (RUNS["fake"], RUNS["gradients"]), error
    assert [path for path in before.changes(model) if path.startswith("model")] == []


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_the_net_sees_the_write(write):
    """Run alone, each of them does change the model."""
    model = written(write)
    before = Snapshot(model)
    with torch.no_grad():
        model(X)
    assert before.changes(model) != []


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_forward_that_fails_has_written_nothing(write):
    """An error after the write leaves as little behind as a success."""

    def failing(self):
        write(self)
        raise RuntimeError("on purpose")

    model = written(failing)
    before = Snapshot(model)
    with pytest.raises(TraceError, match="on purpose"):
        engine.analyze(model, X)
    assert before.changes(model) == []


def test_an_embedding_with_a_largest_norm():
    """``max_norm`` rescales the rows that are looked up, in the table itself; it is pruned all the same."""
    embed, head = nn.Embedding(6, 8, max_norm=0.5), nn.Linear(8, 3)
    model = nn.Sequential(embed, head).eval()
    before = Snapshot(model)
    engine.analyze(model, WORDS)
    assert before.changes(model) == []
    engine.prune(model, example_inputs=WORDS, dry_run=True)
    assert before.changes(model) == []


def test_a_target_network_goes_along():
    """A network, its moving average and a counter: pruned exactly, and nothing has moved meanwhile."""

    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
            self.target = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
            self.steps = 0

        def forward(self, x):
            self.steps += 1
            with torch.no_grad():
                for own, other in zip(self.target.parameters(), self.online.parameters()):
                    own.data.lerp_(other.data, 0.0)
            return self.online(x), self.target(x)

    model = Averaged()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    engine.analyze(model, X)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert model.steps == 0


def test_only_what_is_written_is_copied():
    """A parameter that the forward leaves alone takes no memory, whichever run it is."""

    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(400, 400), nn.Linear(400, 3)
            self.register_buffer("table", torch.zeros(400, 400))
            self.register_buffer("small", torch.zeros(40, 40))

        def forward(self, x):
            self.small.add_(1)
            return self.b(self.a(x).relu() + self.table[0])

    model, x = Large().eval(), torch.randn(2, 400)
    for run in (engine.trace, output_shapes):
        with Live(model) as live:
            run(model, x)
        assert live.peak - live.before < 100_000 < model.a.weight.nbytes


def test_memory_that_is_written_past_torch_is_not_put_back():
    """No operation of torch tells of it; docs/limits.md says so."""
    model = Writing(lambda net: net.a.weight.detach().numpy().fill(7))
    engine.analyze(model, X)
    assert bool((model.a.weight == 7).all())


def test_tied_tensors_stay_tied():
    """Two views of one memory are each put back, and still share it."""

    def write(self):
        self.first.data.add_(1)

    model = written(write)
    memory = torch.randn(10)
    model.first, model.second = memory[:6], memory[4:]
    before = memory.clone()
    engine.analyze(model, X)
    assert torch.equal(memory, before)
    model.first[5] = 7
    assert model.second[1] == 7


def test_a_model_in_inference_mode():
    """Tensors made in inference mode have no version to look at; they are put back as well."""
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).eval()
        model.register_buffer("calls", torch.zeros(2))
        model.register_forward_pre_hook(lambda module, inputs: [module.calls.add_(1), None][1])
        engine.analyze(model, X)
        assert model.calls.tolist() == [0, 0]


def test_pruning_a_model_that_writes():
    """The pruned model holds what the whole one held, sliced, although it ran meanwhile."""
    model, twin = written(counters), written(counters)
    plan = engine.prune(model, example_inputs=X, ratio=0.5).plan
    kept = plan.tensors["a.weight"][0]
    assert torch.equal(model.a.weight, twin.a.weight[kept])
    assert (model.count, model.log, model.ring) == (0, [], deque([1, 2], 2))
    oracle.check(written(counters), X, plan)
