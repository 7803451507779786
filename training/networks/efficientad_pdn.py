"""The networks of EfficientAD: patch description networks and the autoencoder.

K. Batzner, L. Heckler and R. König, "EfficientAD: accurate visual anomaly detection at millisecond-level latencies",
WACV 2024, tables of the appendix; with padding, so that 256×256 pixels become 64×64 descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.efficientad_settings import PdnSize

DESCRIPTION_CHANNELS = 384
_WIDTH: Mapping[PdnSize, int] = {"small": 128, "medium": 256}
# Edges of the autoencoder's feature maps after each upsampling; the last is that of the descriptions.
_DECODER_SIZES = (3, 8, 15, 32, 63, 127)
_LATENT = 64


def patch_description_network(size: PdnSize, out_channels: int) -> nn.Sequential:
    """PDN-S or PDN-M: (N, 3, 256, 256) → (N, out_channels, 64, 64), each element seeing 33×33 pixels."""
    width = _WIDTH[size]
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 4, padding=3),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=1),
        nn.Conv2d(width, 2 * width, 4, padding=3),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=1),
    ]
    if size == "medium":
        layers += nn.Conv2d(2 * width, 2 * width, 1), nn.ReLU(inplace=True)
    layers += nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(inplace=True)
    layers.append(nn.Conv2d(2 * width, out_channels, 4))
    if size == "medium":
        layers += nn.ReLU(inplace=True), nn.Conv2d(out_channels, out_channels, 1)
    return nn.Sequential(*layers)


class Autoencoder(nn.Module):
    """The image through 64 numbers to descriptions: only what good parts have in common comes through.

    Args:
        dropout: share of the decoder's elements set to zero in training, after each convolution but the last two.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        encoder: list[nn.Module] = []
        channels = 3
        for wider in (32, 32, 64, 64, 64):
            encoder += nn.Conv2d(channels, wider, 4, 2, 1), nn.ReLU(inplace=True)
            channels = wider
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(channels, _LATENT, 8))
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(_LATENT, 64, 4, padding=2), nn.ReLU(inplace=True)) for _ in _DECODER_SIZES
        )
        self.last = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(64, DESCRIPTION_CHANNELS, 3, padding=1)
        )

    def forward(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalised RGB (N, 3, 256, 256) → (N, 384, 64, 64); a generator on the CPU draws what drops out."""
        x = self.encoder(pixels)
        for size, step in zip(_DECODER_SIZES, self.steps, strict=True):
            x = step(F.interpolate(x, (size, size), mode="bilinear", align_corners=False))
            if generator is not None:
                kept = torch.rand(x.shape, generator=generator) >= self.dropout
                x = x * kept.to(x.device) / (1 - self.dropout)
        out: Tensor = self.last(F.interpolate(x, (64, 64), mode="bilinear", align_corners=False))
        return out
