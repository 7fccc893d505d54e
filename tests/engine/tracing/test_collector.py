"""The garbage collector rests while a graph is built, and goes on as it was afterwards."""

import gc
import threading

import pytest
import torch
from prunus import engine
from prunus.engine.tracing.collector import paused


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
