"""Threads that prune and threads that serve do not notice each other; what a forward hands over is told."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from chaos import shared, threads
from oracle import distance, run
from prunus import TraceError, engine
from prunus.engine.proving import child
from prunus.engine.tracing.alone import alone
from torch import nn
from torch.nn import functional as F

X = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)
POOL = ThreadPoolExecutor(2)


def test_threads_prune_and_serve_as_if_each_were_alone():
    """Plans, results, gradients and the state of the process are those of one thread."""
    for tally in threads.run(seed=0, count=6):
        assert tally.tried and not tally.broken, tally


def test_a_serving_thread_waits_for_nobody():
    """It runs its models to the end while another thread is in the middle of a trace."""
    served = [(shared.made(kind, 0), x) for kind, x in shared.NETS.items()]
    outputs = []

    class Waiting(nn.Linear):
        def forward(self, x):
            with torch.no_grad():
                served_there = threading.Thread(target=lambda: outputs.append([m(x) for m, x in served]))
                served_there.start()
                served_there.join(timeout=60)
            assert outputs, "the serving thread was blocked"
            return super().forward(x)

    engine.analyze(nn.Sequential(Waiting(4, 6), nn.Linear(6, 2)), torch.ones(1, 4))
    for output, (model, x) in zip(outputs[0], served):
        assert torch.equal(output, model(x))


def test_another_thread_waits_for_a_prune_to_end():
    """One call of prunus runs at a time."""
    entered, over, order = threading.Event(), threading.Event(), []

    @alone
    def long():
        entered.set()
        over.wait(60)
        order.append("first")

    first = threading.Thread(target=long)
    first.start()
    entered.wait(60)
    second = threading.Thread(
        target=lambda: order.append(engine.cost(nn.Linear(2, 2), torch.ones(1, 2)) and "second")
    )
    second.start()
    over.set()
    second.join(60)
    assert order == ["first", "second"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_thread_that_it_does_not_have():
    """The locks that another thread holds at the fork are free in the child."""
    entered, over = threading.Event(), threading.Event()

    @alone
    def long():
        with child._lock:
            entered.set()
            over.wait(60)

    holder = threading.Thread(target=long)
    holder.start()
    entered.wait(60)
    forked = multiprocessing.get_context("fork").Process(target=alone(lambda: child._lock.acquire()))
    forked.start()
    forked.join(30)
    over.set()
    holder.join()
    assert forked.exitcode == 0


class Branches(nn.Module):
    """What subclasses compute elsewhere comes beside what is computed here."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        y = F.relu(self.stem(x))
        return self.head((self.a(F.relu(y)) + self.elsewhere(y)).mean((2, 3)))


class Modules(Branches):
    def elsewhere(self, y):
        return POOL.submit(self.b, y).result()


class Functions(Branches):
    def elsewhere(self, y):
        return POOL.submit(torch.mean, y, 1, keepdim=True).result()


class Weights(Branches):
    def elsewhere(self, y):
        with ThreadPoolExecutor() as pool:
            return next(pool.map(F.conv2d, [y], [self.b.weight]))


class Started(Branches):
    def elsewhere(self, y):
        found = []
        thread = threading.Thread(target=lambda: found.append(y.sum(1, keepdim=True)))
        thread.start()
        thread.join()
        return found[0]


@pytest.mark.parametrize("kind", [Modules, Functions, Weights, Started])
def test_what_the_forward_uses_from_another_thread_is_an_error(kind):
    """Nobody saw how it came about: the message says on which line, and the model is as it was."""
    model = kind()
    before = deepcopy(model.state_dict())
    with pytest.raises(TraceError, match=r"work to another thread or process\n.*test_chaos_threads.py:"):
        engine.prune(model, example_inputs=X)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_work_that_gives_nothing_back_is_noted():
    """A thread that only logs holds nothing."""

    class Logging(Branches):
        def elsewhere(self, y):
            POOL.submit(str, y.shape).result()
            return y

    model = Logging()
    whole = deepcopy(model)
    result = engine.prune(model, example_inputs=X)
    assert [note for note in result.notes if "hands work to another thread" in note]
    assert model.stem.out_channels == 4
    with engine.mask(whole, result.plan):
        assert distance(run(model, X), run(whole, X)) < 1e-5


def test_a_model_that_another_thread_uses_is_not_traced():
    """Whatever that thread did to it, nobody knows: the message says so, and the other thread is served."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    wanted, outputs = model(X), []

    class Meanwhile(nn.Module):
        def forward(self, x):
            outputs.append(CALLER.submit(model[0], X).result())
            return x

    with pytest.raises(TraceError, match="another thread"), ThreadPoolExecutor(1) as CALLER:
        CALLER.submit(int).result()
        engine.analyze(nn.Sequential(model, Meanwhile()), X)
    assert torch.equal(model[1](outputs[0]), wanted)
