"""One thread and fixed seeds, so that a failure repeats itself."""

import random

import numpy
import pytest
import sentences
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    """``--update`` rewrites the files that tests compare with."""
    parser.addoption("--update", action="store_true", help="rewrite what tests compare with")


def pytest_collection_modifyitems(config, items):
    """With ``--update`` only tests that compare with files are run."""
    if config.getoption("--update"):
        items[:] = [item for item in items if "update" in item.fixturenames]


@pytest.fixture
def update(request) -> bool:
    """Whether the files that tests compare with are written anew."""
    return request.config.getoption("--update")


@pytest.fixture
def said(request, update):
    """Compares what is said with what stands under the name of the test in the snapshots beside it."""
    file, name = request.path.parent / "snapshots" / f"{request.path.stem}.txt", request.node.name

    def compare(*answers) -> None:
        found = "\n\n".join(sentences.stable(str(answer)) for answer in answers)
        texts = sentences.read(file)
        if update:
            sentences.write(file, {**texts, name: found})
        else:
            assert found == texts.get(name), "if it should read so, run 'make snapshots'"

    return compare


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
