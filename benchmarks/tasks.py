"""The tasks of the accuracy benchmark: a model, its data, and how long it is trained and fine-tuned."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import task_data
import task_models
import torch
from attrs import frozen
from task_data import ELSEWHERE, Data, Inputs, Split
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


@frozen
class Task:
    """Training is Adam with a cosine schedule; fine-tuning is the same, shorter, at a lower rate."""

    name: str
    title: str
    load: Callable[[], Data]
    build: Callable[[Data], nn.Module]
    epochs: int
    rate: float
    tuning_epochs: int
    tuning_rate: float
    batch: int = 64


TASKS = {
    task.name: task
    for task in (
        Task(
            "karate",
            "GAT, karate club",
            task_data.karate,
            lambda data: task_models.GAT(data.classes, features=data.train.inputs[0].shape[1]),
            epochs=100,
            rate=5e-3,
            tuning_epochs=30,
            tuning_rate=2e-3,
        ),
        Task(
            "communities",
            "GAT, block model",
            task_data.communities,
            lambda data: task_models.GAT(data.classes, features=data.train.inputs[0].shape[1]),
            epochs=60,
            rate=5e-3,
            tuning_epochs=20,
            tuning_rate=2e-3,
        ),
        Task(
            "digits",
            "ResNet, digits",
            task_data.digits,
            lambda data: task_models.ResNet(data.classes, widths=(24, 48)),
            epochs=10,
            rate=3e-3,
            tuning_epochs=3,
            tuning_rate=1e-3,
        ),
        Task(
            "news",
            "BiLSTM, BBC news",
            task_data.news,
            lambda data: task_models.BiLSTM(data.classes, words=1 + int(data.train.inputs[0].max())),
            epochs=10,
            rate=1e-2,
            tuning_epochs=3,
            tuning_rate=3e-3,
        ),
        Task(
            "mnist",
            "ResNet, MNIST",
            task_data.mnist,
            lambda data: task_models.ResNet(data.classes, widths=(16, 32, 64), stem_stride=2),
            epochs=6,
            rate=3e-3,
            tuning_epochs=2,
            tuning_rate=1e-3,
        ),
        Task(
            "vit",
            "ViT, MNIST",
            task_data.mnist,
            lambda data: task_models.vision_transformer(data.classes),
            epochs=18,
            rate=1e-3,
            tuning_epochs=6,
            tuning_rate=5e-4,
        ),
        Task(
            "minilm",
            "MiniLM, BBC news",
            task_data.news_in_pieces,
            lambda data: task_models.Encoder(data.classes),
            epochs=2,
            rate=1e-4,
            tuning_epochs=1,
            tuning_rate=1e-4,
            batch=16,
        ),
    )
}


def dense(task: Task, seed: int, cache: Path) -> nn.Module:
    """The model of this seed, trained; kept in `cache` from one run to the next."""
    file = cache / f"{task.name}-{seed}.pt"
    data = task.load()
    torch.manual_seed(seed)
    model = task.build(data)
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval()
    fit(model, data.train, task.epochs, task.rate, task.batch, seed)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), file)
    return model


def tune(task: Task, model: nn.Module, seed: int) -> None:
    """Fine-tune a pruned model: for all methods the same number of epochs, rate and batches."""
    fit(model, task.load().train, task.tuning_epochs, task.tuning_rate, task.batch, seed)


def fit(model: nn.Module, split: Split, epochs: int, rate: float, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for inputs, labels in split.batches(batch, order):
            optimizer.zero_grad()
            F.cross_entropy(model(*inputs), labels).backward()
            optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """The fraction of the split's own labels that the model guesses."""
    right = total = 0
    for inputs, labels in split.batches(128):
        own = labels != ELSEWHERE
        right += int((model(*inputs).argmax(1) == labels)[own].sum())
        total += int(own.sum())
    return right / total


@torch.no_grad()
def macs(model: nn.Module, inputs: Inputs) -> int:
    """Multiply-accumulates of a forward pass, by torch's own counter: half of its FLOPs."""
    # The fused LSTM of oneDNN is one operation, which the counter does not know.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def calibration(task: Task) -> list[tuple[Inputs, torch.Tensor]]:
    """1,024 samples to train on, the same for all seeds, to look at activations or gradients with."""
    batches = task.load().train.batches(64, torch.Generator().manual_seed(0))
    return list(islice(batches, 16))
