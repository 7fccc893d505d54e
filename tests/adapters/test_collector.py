"""The garbage collector rests while a graph is built, and goes on as it was afterwards."""

import gc
import threading
import traceback
from pathlib import Path

import pytest
import torch
from prunus import engine
from prunus.adapters.collector import paused


@pytest.fixture(autouse=True)
def collecting():
    """The collector is on before and after, whatever a test does."""
    gc.enable()
    yield
    gc.enable()


def test_it_rests_within_and_goes_on_afterwards():
    """Also where one is inside of another."""
    with paused():
        assert not gc.isenabled()
        with paused():
            assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_error():
    """Whatever the error is."""
    with pytest.raises(KeyboardInterrupt), paused():
        raise KeyboardInterrupt
    assert gc.isenabled()


def test_a_user_who_has_turned_it_off_keeps_it_off():
    """It is not for us to turn it on."""
    gc.disable()
    with paused():
        pass
    engine.prune(
        torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4)), example_inputs=torch.ones(1, 4)
    )
    assert not gc.isenabled()


def test_threads_that_overlap_leave_it_on():
    """The one that comes first and goes first, and the one in between."""
    inside, gone = threading.Event(), threading.Event()

    def other():
        with paused():
            inside.set()
            gone.wait(10)

    thread = threading.Thread(target=other)
    with paused():
        thread.start()
        assert inside.wait(10)
    gone.set()
    thread.join()
    assert gc.isenabled()


def _place(frame):
    return f"{Path(frame.filename).stem}.{frame.name}"


def test_it_rests_while_a_model_is_sliced():
    """A pass over all that the process has takes longer than to slice a few thousand tensors."""
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(20)))
    plan = engine.prune(model, example_inputs=torch.ones(1, 8), dry_run=True).plan
    around: set[str] = set()  # the functions in which it starts, and those that call them
    before = gc.get_threshold()
    gc.callbacks.append(lambda phase, info: around.update(map(_place, traceback.extract_stack())))
    gc.set_threshold(1)
    try:
        engine.apply(model, plan)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.pop()
    assert "apply.carry_out" in around and "tensors.sliced" not in around


@pytest.mark.parametrize("data", [None, [torch.ones(1, 8)]])
def test_it_rests_while_slots_are_chosen_unless_models_run_on_data(data):
    """What those leave behind may be much, and has to be collected."""
    seen = []

    def criterion(group, tensors):
        seen.append(gc.isenabled())
        return torch.arange(float(group.size))

    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 4))
    engine.prune(model, example_inputs=torch.ones(1, 8), criterion=criterion, data=data)
    assert seen == [data is not None] * len(seen) != []
