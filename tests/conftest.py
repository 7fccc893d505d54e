"""One thread and fixed seeds, so that a failure repeats itself."""

import random

import numpy
import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    """``--update`` rewrites the files that tests compare with."""
    parser.addoption("--update", action="store_true", help="rewrite snapshots and corpus cases")


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random numbers, whichever ran before it."""
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def process_group():
    """torch.distributed with this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
