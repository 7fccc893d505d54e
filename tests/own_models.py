"""Models written from their papers in plain torch: what no model library brings along."""

from __future__ import annotations

import torch
from enet import ENet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm


def neighbours(x: Tensor, k: int) -> Tensor:
    """The indices [batch, points, k] of the points nearest to each point of [batch, channels, points]."""
    inner = x.transpose(2, 1) @ x
    square = (x**2).sum(1, keepdim=True)
    return (2 * inner - square - square.transpose(2, 1)).topk(k, dim=-1).indices


def edges(x: Tensor, k: int) -> Tensor:
    """From [batch, channels, points] the edges (neighbour - point, point), [batch, 2 channels, points, k]."""
    batch, channels, points = x.shape
    index = neighbours(x, k) + torch.arange(batch).view(-1, 1, 1) * points
    rows = x.transpose(2, 1).contiguous()
    near = rows.view(batch * points, -1)[index.view(-1), :].view(batch, points, k, channels)
    own = rows.view(batch, points, 1, channels).repeat(1, 1, k, 1)
    return torch.cat((near - own, own), dim=3).permute(0, 3, 1, 2).contiguous()


class EdgeConv(nn.Module):
    """Convolve the edges to the k nearest neighbours in feature space, and take the maximum."""

    def __init__(self, inputs: int, outputs: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.conv = nn.Conv2d(2 * inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(edges(x, self.k))), 0.2).max(dim=-1).values


class DGCNN(nn.Module):
    """Dynamic Graph CNN for classification (Wang et al., 2019, arXiv 1801.07829)."""

    def __init__(self, k: int = 6, classes: int = 10) -> None:
        super().__init__()
        self.edge1 = EdgeConv(3, 24, k)
        self.edge2 = EdgeConv(24, 28, k)
        self.edge3 = EdgeConv(28, 48, k)
        self.edge4 = EdgeConv(48, 64, k)
        self.embed = nn.Sequential(nn.Conv1d(164, 96, 1, bias=False), nn.BatchNorm1d(96), nn.LeakyReLU(0.2))
        self.hidden = nn.Sequential(nn.Linear(192, 56, bias=False), nn.BatchNorm1d(56), nn.LeakyReLU(0.2))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(56, classes)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.edge1(x)
        x2 = self.edge2(x1)
        x3 = self.edge3(x2)
        x4 = self.edge4(x3)
        x = self.embed(torch.cat((x1, x2, x3, x4), dim=1))
        largest = F.adaptive_max_pool1d(x, 1).view(x.size(0), -1)
        average = F.adaptive_avg_pool1d(x, 1).view(x.size(0), -1)
        return self.head(self.dropout(self.hidden(torch.cat((largest, average), 1))))


class GraphAttention(nn.Module):
    """One layer of a graph attention network, heads concatenated."""

    def __init__(self, inputs: int, size: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.project = nn.Linear(inputs, heads * size, bias=False)
        self.source = nn.Parameter(torch.randn(1, heads, size) * 0.3)
        self.target = nn.Parameter(torch.randn(1, heads, size) * 0.3)
        self.bias = nn.Parameter(torch.zeros(heads * size))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index[0], edge_index[1]
        h = self.project(x).view(-1, self.heads, self.size)
        score = (h * self.source).sum(-1)[source] + (h * self.target).sum(-1)[target]
        weight = segment_softmax(F.leaky_relu(score, 0.2), target, x.shape[0])
        messages = h[source] * weight.unsqueeze(-1)
        summed = torch.zeros(x.shape[0], self.heads, self.size).index_add(0, target, messages)
        return summed.view(-1, self.heads * self.size) + self.bias


def segment_softmax(score: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Softmax of ``score`` [edges, heads] over all edges of the same segment."""
    index = segment.unsqueeze(-1).expand_as(score)
    largest = torch.full((segments, score.shape[1]), -1e9).scatter_reduce(0, index, score, "amax")
    exponent = (score - largest[segment]).exp()
    total = torch.zeros(segments, score.shape[1]).scatter_add(0, index, exponent)
    return exponent / total[segment]


class GAT(nn.Module):
    """Graph attention network (Velickovic et al., 2018, arXiv 1710.10903)."""

    def __init__(self, inputs: int = 12, classes: int = 7) -> None:
        super().__init__()
        self.first = GraphAttention(inputs, 10, 4)
        self.second = GraphAttention(40, 6, 8)
        self.head = nn.Linear(48, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.elu(self.first(x, edge_index))
        return self.head(F.elu(self.second(x, edge_index)))


class TNet(nn.Module):
    """Predicts a matrix [batch, size, size] near the identity from a cloud [batch, size, points]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.conv1 = nn.Conv1d(size, 20, 1)
        self.conv2 = nn.Conv1d(20, 72, 1)
        self.norm1, self.norm2 = nn.BatchNorm1d(20), nn.BatchNorm1d(72)
        self.linear1 = nn.Linear(72, 36)
        self.linear2 = nn.Linear(36, size * size)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.linear1(x.max(2)[0]))
        x = self.linear2(x) + torch.eye(self.size).flatten()
        return x.view(-1, self.size, self.size)


class PointNet(nn.Module):
    """PointNet for classification, with both transforms (Qi et al., 2017, arXiv 1612.00593)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.input_transform = TNet(3)
        self.feature_transform = TNet(16)
        self.conv1 = nn.Conv1d(3, 16, 1)
        self.conv2 = nn.Conv1d(16, 80, 1)
        self.conv3 = nn.Conv1d(80, 144, 1)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm1d(16), nn.BatchNorm1d(80), nn.BatchNorm1d(144)
        self.head = nn.Sequential(
            nn.Linear(144, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.bmm(x.transpose(2, 1), self.input_transform(x)).transpose(2, 1)
        x = F.relu(self.norm1(self.conv1(x)))
        x = torch.bmm(x.transpose(2, 1), self.feature_transform(x)).transpose(2, 1)
        x = F.relu(self.norm2(self.conv2(x)))
        x = self.norm3(self.conv3(x))
        return self.head(torch.max(x, 2)[0])


class TextLSTM(nn.Module):
    """Embedding, bidirectional LSTM, and the final states of both directions into a linear layer."""

    def __init__(self, words: int = 100, classes: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 24)
        self.lstm = nn.LSTM(24, 40, num_layers=2, batch_first=True, bidirectional=True, dropout=0.3)
        self.head = nn.Linear(80, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(self.embedding(tokens))
        return self.head(torch.cat((hidden[-2], hidden[-1]), dim=1))


class SequenceGRU(nn.Module):
    """Two GRU layers over a series, the mean of all states into a linear layer."""

    def __init__(self, inputs: int = 6, classes: int = 5) -> None:
        super().__init__()
        self.lift = nn.Linear(inputs, 20)
        self.gru = nn.GRU(20, 44, num_layers=2)
        self.head = nn.Linear(44, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(torch.tanh(self.lift(x)))
        return self.head(states.mean(0))


class ProjectedLSTM(nn.Module):
    """A LSTM whose states are projected to another size, the last one into a linear layer."""

    def __init__(self, words: int = 100, classes: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 24)
        self.lstm = nn.LSTM(24, 56, num_layers=2, batch_first=True, proj_size=28)
        self.head = nn.Linear(28, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 2015, arXiv 1505.04597): skip connections by concatenation."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = double_conv(3, 12), double_conv(12, 20), double_conv(20, 36)
        self.raise2 = nn.ConvTranspose2d(36, 20, 2, stride=2)
        self.raise1 = nn.ConvTranspose2d(20, 12, 2, stride=2)
        self.up2, self.up1 = double_conv(40, 20), double_conv(24, 12)
        self.head = nn.Conv2d(12, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip1 = self.down1(x)
        skip2 = self.down2(F.max_pool2d(skip1, 2))
        x = self.bottom(F.max_pool2d(skip2, 2))
        x = self.up2(torch.cat([skip2, self.raise2(x)], dim=1))
        x = self.up1(torch.cat([skip1, self.raise1(x)], dim=1))
        return self.head(x)


class GatedCNN(nn.Module):
    """Gated convolutions over words (Dauphin et al., 2017, arXiv 1612.08083)."""

    def __init__(self, words: int = 100, classes: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 28)
        self.conv1 = nn.Conv1d(28, 2 * 36, 3, padding=1)
        self.conv2 = nn.Conv1d(36, 2 * 36, 3, padding=1)
        self.conv3 = nn.Conv1d(36, 2 * 52, 3, padding=1)
        self.head = nn.Linear(52, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.glu(self.conv1(self.embedding(tokens).transpose(1, 2)), dim=1)
        x = x + F.glu(self.conv2(x), dim=1)
        left, gate = self.conv3(x).chunk(2, dim=1)
        return self.head((left * torch.sigmoid(gate)).amax(2))


class Reparametrized(nn.Module):
    """Convolutions behind weight norm and spectral norm, in the old and the parametrized spelling."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = weight_norm_old(nn.Conv2d(3, 20, 3, padding=1))
        self.conv2 = parametrizations.weight_norm(nn.Conv2d(20, 28, 3, padding=1))
        self.conv3 = spectral_norm(nn.Conv2d(28, 36, 3, padding=1))
        self.conv4 = parametrizations.spectral_norm(nn.Conv2d(36, 44, 3, padding=1))
        self.head = nn.Linear(44, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        return self.head(x.mean((2, 3)))


def weight_norm_old(module: nn.Module) -> nn.Module:
    """``torch.nn.utils.weight_norm``, with its computed weight free of a graph, so that it can be copied."""
    with torch.no_grad():
        return weight_norm(module)


class Shared(nn.Module):
    """One module called twice, and an embedding tied with the head."""

    def __init__(self, words: int = 100) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 32)
        self.enter = nn.Linear(32, 56)
        self.twice = nn.Linear(56, 56)
        self.leave = nn.Linear(56, 32)
        self.head = nn.Linear(32, words, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.gelu(self.enter(self.embedding(tokens)))
        x = F.gelu(self.twice(x))
        x = F.gelu(self.twice(x))
        return self.head(self.leave(x))


def graph_inputs(features: int = 12, nodes: int = 15, links: int = 40) -> dict[str, Tensor]:
    """A random graph: node features and edge indices."""
    return {"x": torch.randn(nodes, features), "edge_index": torch.randint(0, nodes, (2, links))}


# name: (model class, its example inputs)
MODELS = {
    "dgcnn": (DGCNN, lambda: torch.randn(2, 3, 32)),
    "gat": (GAT, graph_inputs),
    "pointnet": (PointNet, lambda: torch.randn(2, 3, 32)),
    "lstm-text": (TextLSTM, lambda: torch.randint(0, 100, (3, 9))),
    "gru": (SequenceGRU, lambda: torch.randn(9, 3, 6)),
    "lstm-proj": (ProjectedLSTM, lambda: torch.randint(0, 100, (3, 9))),
    "unet": (UNet, lambda: torch.randn(1, 3, 16, 16)),
    "enet": (ENet, lambda: torch.randn(1, 3, 32, 32)),
    "gated-cnn": (GatedCNN, lambda: torch.randint(0, 100, (3, 9))),
    "weight-norm": (Reparametrized, lambda: torch.randn(2, 3, 8, 8)),
    "shared": (Shared, lambda: torch.randint(0, 100, (3, 9))),
}
