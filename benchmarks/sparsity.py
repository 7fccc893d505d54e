"""Two claims of DepGraph (Fang et al., CVPR 2023) at small scale, on real data that ships inside packages.

    python benchmarks/sparsity.py                     # all tasks and seeds; writes docs/sparsity.md
    python benchmarks/sparsity.py --only digits-vgg --seeds 2 --no-page

1. Sparse training by groups against sparse training layer by layer, pruned to the same multiply-accumulates.
2. Slots ranked by the weights of all layers that hold them against those of the one layer that makes them.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import task_data
import task_models
import torch
from attrs import frozen
from prunus import engine
from prunus.engine.scoring.criteria import Criterion
from prunus.engine.scoring.slot_tensors import Tensors
from sparsity_page import Accuracies, page
from task_data import Data, Split
from torch import Tensor, nn
from torch.nn import functional as F

BUDGETS = (0.5, 0.25)
MILDER = (0.75, 0.5, 0.25)  # for nets without sparse training
STRENGTHS = (1e-3, 3e-3)
KINDS = ("layer", "group")
DENSE, SPARSE, TUNING = 8, 10, 2  # epochs
RATES = {DENSE: 0.1, SPARSE: 0.05, TUNING: 0.01}
MOMENTUM, BATCH = 0.9, 32
PAGE = Path(__file__).parent.parent / "docs" / "sparsity.md"


def vgg(widths: tuple[int | None, ...], classes: int) -> nn.Module:
    """Convolutions in a row (Simonyan and Zisserman, 2015); `None` halves the image."""
    layers: list[nn.Module] = []
    inputs = 1
    for width in widths:
        if width is None:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def small_mnist() -> Data:
    """The first 1,000 training images, all averaged to 14 x 14 pixels."""
    data = task_data.mnist()
    parts = [Split((F.avg_pool2d(part.inputs[0], 2),), part.labels) for part in (data.validation, data.test)]
    train = Split((F.avg_pool2d(data.train.inputs[0][:1000], 2),), data.train.labels[:1000])
    return Data(train, *parts, classes=data.classes)


@frozen
class Task:
    """A net and its data."""

    name: str
    title: str
    load: Callable[[], Data]
    build: Callable[[int], nn.Module]


TASKS = (
    Task("digits-vgg", "VGG, digits", task_data.digits, lambda n: vgg((24, 24, None, 48, 48), n)),
    Task("digits-resnet", "ResNet, digits", task_data.digits, lambda n: task_models.ResNet(n, (12, 24))),
    Task("mnist-resnet", "ResNet, MNIST", small_mnist, lambda n: task_models.ResNet(n, (8, 16))),
)


def fit(model: nn.Module, split: Split, epochs: int, seed: int, **sparsity: object) -> nn.Module:
    """SGD with a cosine schedule; with a regularizer if `sparsity` gives its options."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATES[epochs], momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    regularizer = None
    if sparsity:
        regularizer = engine.Regularizer(engine.analyze(model, split.example()), **sparsity)  # type: ignore[arg-type]
    model.train()
    for _ in range(epochs):
        for (x,), labels in split.batches(BATCH, order):
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            if regularizer is not None:
                regularizer.step()
            optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """In percent."""
    (x,) = split.inputs
    return 100 * float((model(x).argmax(1) == split.labels).float().mean())


def pruned(model: nn.Module, data: Data, macs: float, criterion: str | Criterion = "magnitude") -> nn.Module:
    """A copy with that fraction of the multiply-accumulates."""
    small = copy.deepcopy(model)
    engine.prune(small, example_inputs=data.train.example(), macs=macs, criterion=criterion)
    return small


def one_layer(group: engine.Group, tensors: Tensors) -> Tensor:
    """The L2 norm of a slot in the weight of the first layer that makes it, as if nothing else held it."""
    maker = group.producers[0].rpartition(".")[0]
    made = next(member for member in tensors.weights(group) if member.layer == maker and member.axis == 0)
    return tensors.slots(group, made).square().sum(1)


CRITERIA = {"one layer": one_layer, "all layers": "magnitude"}


def measure(task: Task, seed: int) -> Accuracies:
    """The accuracies on the test data, of one seed."""
    data = task.load()
    torch.manual_seed(seed)
    dense = fit(task.build(data.classes), data.train, DENSE, seed)
    found = {("dense", 1.0, False): accuracy(dense, data.test)}
    for name, criterion in CRITERIA.items():
        found |= after_pruning(name, dense, data, seed, MILDER, criterion)
    sparsities: dict[str, dict[str, object]] = {"none": {}}
    sparsities |= {
        f"{kind} {strength:g}": {"kind": kind, "strength": strength}
        for kind in KINDS
        for strength in STRENGTHS
    }
    for name, sparsity in sparsities.items():
        model = fit(copy.deepcopy(dense), data.train, SPARSE, seed, **sparsity)
        found[name, 1.0, False] = accuracy(model, data.test)
        found |= after_pruning(name, model, data, seed, BUDGETS)
    return found


def after_pruning(
    name: str,
    model: nn.Module,
    data: Data,
    seed: int,
    budgets: Sequence[float],
    criterion: str | Criterion = "magnitude",
) -> Accuracies:
    """Test accuracy at each budget, right after pruning and after fine-tuning."""
    found: Accuracies = {}
    for macs in budgets:
        small = pruned(model, data, macs, criterion)
        found[name, macs, False] = accuracy(small, data.test)
        found[name, macs, True] = accuracy(fit(small, data.train, TUNING, seed), data.test)
    return found


def overhead() -> list[tuple[str, float, float]]:
    """Seconds of a training step of resnet18 and of the regularizer's, by the form of the batch."""
    from torchvision.models import resnet18

    rows = []
    for batch, pixels in ((8, 224), (128, 32)):
        model, x = resnet18(), torch.randn(batch, 3, pixels, pixels)
        labels = torch.randint(1000, (batch,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=MOMENTUM)
        regularizer = engine.Regularizer(engine.analyze(model, x[:1]))
        training, pressing = [], []
        for _ in range(5):
            start = time.process_time()
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            middle = time.process_time()
            regularizer.step()
            end = time.process_time()
            optimizer.step()
            pressing.append(end - middle)
            training.append(middle - start + time.process_time() - end)
        rows.append((f"{batch} x 3 x {pixels} x {pixels}", median(training), median(pressing)))
    return rows


def main() -> None:
    names = [task.name for task in TASKS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=names, help="a task; may be given again")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-page", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    results = {
        task.title: [measure(task, seed) for seed in range(options.seeds)]
        for task in TASKS
        if task.name in (options.only or names)
    }
    text = page(
        results,
        f"python benchmarks/sparsity.py --seeds {options.seeds}",
        STRENGTHS,
        [*CRITERIA],
        overhead(),
        dense_epochs=DENSE,
        sparse_epochs=SPARSE,
        tuning_epochs=TUNING,
        momentum=MOMENTUM,
    )
    print(text)
    print(f"{time.process_time() - start:.0f} s on one core")
    if not (options.no_page or options.only):
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
