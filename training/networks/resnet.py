"""ResNets and wide ResNets up to layer 3, with torchvision's state-dict key names.

K. He et al., "Deep residual learning for image recognition", CVPR 2016; S. Zagoruyko and N. Komodakis, "Wide residual
networks", BMVC 2016. As in torchvision, the 3×3 convolution of a bottleneck has the stride, not the first 1×1.
"""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + self.downsample(x))
        return out


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution and a shortcut."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(y + self.downsample(x))
        return out


class ResNet(nn.Module):
    """Stem and layers 1–3; by default those of ResNet-18.

    Args:
        block: what the layers consist of.
        depths: blocks in layers 1–3.
        width: channels inside the blocks of layer 1; doubled from layer to layer.
        channels: channels of layer 1's output; doubled from layer to layer.

    Attributes:
        tap_channels: of stem, layer1, layer2, layer3.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck] = BasicBlock,
        depths: tuple[int, int, int] = (2, 2, 2),
        width: int = 64,
        channels: int = 64,
    ) -> None:
        super().__init__()
        self.tap_channels = (64, channels, 2 * channels, 4 * channels)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _layer(block, depths[0], 64, width, channels, 1)
        self.layer2 = _layer(block, depths[1], channels, 2 * width, 2 * channels, 2)
        self.layer3 = _layer(block, depths[2], 2 * channels, 4 * width, 4 * channels, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalised RGB (N, 3, H, W) → stem and layer1 at H/4, layer2 at H/8, layer3 at H/16."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        level1 = self.layer1(stem)
        level2 = self.layer2(level1)
        return stem, level1, level2, self.layer3(level2)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut of a block: identity where shapes agree, else a strided 1×1 convolution."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def _layer(
    block: type[BasicBlock | Bottleneck], depth: int, in_channels: int, width: int, out_channels: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, width, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, width, out_channels, 1) for _ in range(depth - 1)))
