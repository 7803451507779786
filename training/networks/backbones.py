"""Frozen convolutional feature extractors with torchvision's state-dict key names.

Only what TFA-Net taps exists here: the stem and layers 1–3. An official checkpoint loads after its layer 4 and
classifier are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from edge.errors import ConfigError

BackboneName = Literal["resnet18"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, channels, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + self.downsample(x))


class ResNet18(nn.Module):
    """ResNet-18 up to layer 3.

    Attributes:
        tap_channels: channels of stem, layer1, layer2, layer3.
    """

    tap_channels = (64, 64, 128, 256)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised RGB (N, 3, H, W) → stem and layer1 at H/4, layer2 at H/8, layer3 at H/16."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        level1 = self.layer1(stem)
        level2 = self.layer2(level1)
        return stem, level1, level2, self.layer3(level2)


def load_backbone(name: BackboneName, path: Path) -> ResNet18:
    """A frozen backbone in eval mode with weights from a local checkpoint.

    Args:
        name: which architecture.
        path: a state dict with torchvision's key names; layer 4 and the classifier are ignored.

    Raises:
        ConfigError: no such file, or its keys or shapes are of another architecture.
    """
    if not path.is_file():
        raise ConfigError(
            f"no backbone weights at '{path}'", "give a state dict, or make one: python -m training.pretrain"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    kept = {key: value for key, value in state.items() if not key.startswith(("layer4.", "fc."))}
    backbone = ResNet18()
    try:
        backbone.load_state_dict(kept, strict=True)
    except RuntimeError as error:
        raise ConfigError(
            f"'{path}' does not hold {name} weights ({error})", "give a checkpoint of that backbone"
        ) from error
    return backbone.eval().requires_grad_(False)


def fold_batch_norm(backbone: ResNet18) -> None:
    """Fold every batch normalisation into its convolution, in place; outputs stay equal in eval mode."""
    _fold(backbone.conv1, backbone.bn1)
    backbone.bn1 = nn.Identity()
    for block in backbone.modules():
        if not isinstance(block, BasicBlock):
            continue
        _fold(block.conv1, block.bn1)
        _fold(block.conv2, block.bn2)
        block.bn1 = block.bn2 = nn.Identity()
        if isinstance(block.downsample, nn.Sequential):
            conv, norm = block.downsample
            _fold(conv, norm)
            block.downsample = conv


def _fold(conv: nn.Module, norm: nn.Module) -> None:
    if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
        raise TypeError(f"cannot fold {type(norm).__name__} into {type(conv).__name__}")
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise TypeError("a batch normalisation without running statistics cannot be folded")
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
