"""``prunus demo``: a residual network learns handwritten digits, loses half its channels, and recovers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from .. import engine
from ..errors import PrunusError
from .output import working
from .tables import console, groups_table


class Block(nn.Module):
    """Two convolutions and the shortcut around them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, hidden, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(x + y)


class DigitNet(nn.Module):
    """A stem, three residual blocks, global average pooling and a classifier, for images of 1 x 8 x 8."""

    def __init__(self, width: int = 32, hidden: int = 48) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*(Block(width, hidden) for _ in range(3)))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = self.blocks(x)
        return self.head(x.mean((2, 3)))


class Digits:
    """scikit-learn's 1797 handwritten digits of 8 x 8 pixels: three quarters to learn, a quarter to test."""

    def __init__(self) -> None:
        try:
            from sklearn.datasets import load_digits  # an extra
        except ModuleNotFoundError as error:
            raise PrunusError("the demo needs scikit-learn: pip install scikit-learn") from error
        images, labels = load_digits(return_X_y=True)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)[order] / 16
        y = torch.tensor(labels)[order]
        cut = len(y) * 3 // 4
        self.train_images, self.test_images = x[:cut], x[cut:]
        self.train_labels, self.test_labels = y[:cut], y[cut:]


def train(model: nn.Module, digits: Digits, epochs: int, learning_rate: float) -> None:
    """Adam with a cosine schedule, in batches of 64."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(digits.train_labels)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(digits.train_images[batch]), digits.train_labels[batch]).backward()
            optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def measure(model: nn.Module, digits: Digits) -> tuple[str, str, str]:
    """Accuracy on the test images, number of parameters, multiply-accumulates for one image."""
    guesses = model(digits.test_images).argmax(1)
    accuracy = (guesses == digits.test_labels).double().mean().item()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with FlopCounterMode(display=False) as counter:
        model(digits.test_images[:1])
    return f"{accuracy:.1%}", f"{parameters:,}", f"{counter.get_total_flops() // 2:,}"


def run() -> None:
    """Train, explain, prune by half, correct, fine-tune, and print what happened on the way."""
    torch.manual_seed(0)
    digits = Digits()
    out = console()
    model = DigitNet()

    out.print("Training a residual network on scikit-learn's handwritten digits ...")
    with working("training ..."):
        train(model, digits, epochs=8, learning_rate=3e-3)
    rows: dict[str, Any] = {"trained": measure(model, digits)}

    image = digits.test_images[:1]
    graph = engine.analyze(model, image)
    out.print("\nWhat shrinks together:")
    out.print(groups_table(graph))
    out.print("Why do two layers of different blocks shrink together?\n")
    out.print(str(graph.why("blocks.0.conv2", "blocks.1.conv2")), soft_wrap=True)

    out.print("\nKeeping half of the multiply-accumulates; the same with corrected weights; fine-tuning ...")
    plain = copy.deepcopy(model)
    batches = digits.train_images.split(256)
    with working("pruning ..."):
        engine.prune(plain, example_inputs=image, macs=0.5)
        rows["pruned"] = measure(plain, digits)
        engine.prune(model, example_inputs=image, macs=0.5, data=batches, compensate="lstsq")
        engine.recalibrate(model, batches)
        rows["corrected"] = measure(model, digits)
    with working("training on ..."):
        train(model, digits, epochs=4, learning_rate=2e-3)
    rows["fine-tuned"] = measure(model, digits)

    out.print(f"\n{'':12}{'accuracy':>10}{'parameters':>13}{'MACs':>13}")
    for stage, (accuracy, parameters, macs) in rows.items():
        out.print(f"{stage:12}{accuracy:>10}{parameters:>13}{macs:>13}")
