"""A net that uses the width of its first layer as a number, in a way that no traced integer can follow."""

from torch import Tensor, nn


class Net(nn.Module):
    """A convolution, the average over its channels, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3)
        self.head = nn.Conv2d(1, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify a batch of images, (n, 3, h, w)."""
        y = self.conv(x)
        y = y.sum(1, keepdim=True) / float(str(y.shape[1]))
        return self.head(y).mean((2, 3))
