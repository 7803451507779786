"""VGG-16 without batch normalisation up to relu4_3, with torchvision's state-dict key names.

K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
"""

from __future__ import annotations

from torch import Tensor, nn

LAST_OF_BLOCK = (3, 8, 15, 22)


class VGG16(nn.Module):
    """The first four blocks of 3×3 convolutions.

    Attributes:
        tap_channels: of relu1_2, relu2_2, relu3_3, relu4_3.
    """

    tap_channels = (64, 128, 256, 512)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        for channels, depth in zip(self.tap_channels, (2, 2, 3, 3), strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(depth):
                layers += nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)
                in_channels = channels
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Normalised RGB (N, 3, H, W) → relu1_2 at H, relu2_2 at H/2, relu3_3 at H/4, relu4_3 at H/8."""
        taps = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in LAST_OF_BLOCK:
                taps.append(x)
        return tuple(taps)
