"""ResNet-50 v2 up to stage 3: activation before convolution.

K. He et al., "Identity mappings in deep residual networks", ECCV 2016, as in the ONNX model zoo: a batch normalisation
on the input, and the stride of a stage in the 3×3 convolution of its first unit.
"""

from __future__ import annotations

from torch import Tensor, nn


class PreActivationUnit(nn.Module):
    """Three times normalise, activate, convolve; the first unit of a stage projects its activated input."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.down = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H/stride, W/stride), not activated."""
        activated = self.relu(self.bn1(x))
        y = self.relu(self.bn2(self.conv1(activated)))
        y = self.relu(self.bn3(self.conv2(y)))
        out: Tensor = self.conv3(y) + (x if self.down is None else self.down(activated))
        return out


class ResNet50V2(nn.Module):
    """Stem and stages 1–3.

    Attributes:
        tap_channels: of the stem and the activated outputs of stages 1–3.
    """

    tap_channels = (64, 256, 512, 1024)

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(3)
        self.conv0 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(3, 64, 64, 256, 1)
        self.layer2 = _stage(4, 256, 128, 512, 2)
        self.layer3 = _stage(6, 512, 256, 1024, 2)
        self.post3 = nn.BatchNorm2d(1024)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalised RGB (N, 3, H, W) → stem and stage 1 at H/4, stage 2 at H/8, stage 3 at H/16."""
        x = self.maxpool(self.relu(self.bn1(self.conv0(self.bn0(x)))))
        taps = [x]
        # What follows a stage begins with the normalisation that its output is activated by.
        followers = (self.layer2.get_submodule("0.bn1"), self.layer3.get_submodule("0.bn1"), self.post3)
        for stage, norm in zip((self.layer1, self.layer2, self.layer3), followers, strict=True):
            x = stage(x)
            taps.append(self.relu(norm(x)))
        return tuple(taps)


def _stage(depth: int, in_channels: int, width: int, out_channels: int, stride: int) -> nn.Sequential:
    first = PreActivationUnit(in_channels, width, out_channels, stride)
    rest = (PreActivationUnit(out_channels, width, out_channels, 1) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)
