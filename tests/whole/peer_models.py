"""Models that both Torch-Pruning and prunus are to prune, with what lets them be compared slot by slot."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class Gain(nn.Module):
    """What the page says that it is."""

    def __init__(self, channels):
        super().__init__()
        self.gain, self.channels = nn.Parameter(torch.ones(channels)), channels

    def forward(self, x):
        return x * self.gain.view(1, self.channels, 1, 1)


class Net(nn.Module):
    """A convolution and a linear layer; what lies between them, and around it, is that of its kinds."""

    def __init__(self, **parts):
        super().__init__()
        self.conv, self.head, self.groups = nn.Conv2d(3, 16, 3), nn.Linear(16, 10), 4
        for name, part in parts.items():
            setattr(self, name, part)

    def between(self, y):
        return y

    def forward(self, x):
        return self.head(self.between(self.conv(x)).mean((2, 3)))


class Own(Net):
    def between(self, y):
        return self.layer(y)


class Bare(Net):
    def between(self, y):
        return y * self.gain


class Grouped(Net):
    def between(self, y):
        batch, channels, *size = y.shape
        return y.view(batch, self.groups, channels // self.groups, *size).softmax(2).flatten(1, 2)


class Keywords(Net):
    def forward(self, *, images, mask):
        return super().forward(images) * mask, None


class InTheSource(Net):
    def between(self, y):
        return y.view(-1, 16, *y.shape[2:])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = IMAGES[..., :32, :32]
MODELS = {
    "cnn": (lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10), IMAGES),
    "vit": (lambda: VisionTransformer(32, 8, embed_dim=48, depth=2, num_heads=4, num_classes=10), SMALL),
    "own": (lambda: Own(layer=Gain(16)), SMALL),
    "bare": (lambda: Bare(gain=nn.Parameter(torch.ones(16, 1, 1))), SMALL),
    "grouped": (Grouped, SMALL),
    "keywords": (Keywords, {"images": SMALL, "mask": torch.ones(2, 1)}),
}


def random_model(name):
    """One whose slots differ enough for no two scores to tie but for rounding; with gradients."""
    model = MODELS[name][0]().eval()
    for tensor in model.parameters():
        if tensor.dim() > 1:
            nn.init.normal_(tensor, std=0.1)
            tensor.data.mul_(torch.empty(len(tensor)).uniform_(0.5, 1.5).view(-1, *[1] * (tensor.dim() - 1)))
        else:
            nn.init.uniform_(tensor, 0.5, 1.5)
    if name == "cnn":
        loss(model, IMAGES).backward()
    return model


def loss(model, batch):
    return model(batch).log_softmax(1)[:, 0].mean()
