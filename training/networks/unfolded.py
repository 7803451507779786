"""The detector computed step by step as the authors' release computes it: what the folded one is compared with.

Every frame takes the template image through backbone and patch embedding, all tokens through every encoder block, and
both maps through interpolation and filtering; batch normalisation is computed and the arithmetic is float32. Kinder to
the release than its own code in two places: attention is the fused one, and the Gaussian runs where the network does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.frame import Image
from training.networks.anomaly_map import MAP_SIZE_PX, SIGMA_PX, TRUNCATE
from training.networks.backbones import Backbone
from training.networks.detector import to_nchw
from training.networks.features import PATCH, TOKENS, CellExtractor, unpatchify
from training.networks.tfanet import TFANet


class UnfoldedDetector(nn.Module):
    """Backbone, TFA-Net and map with the same parameters as a `Detector`, product of both maps, score `std`.

    Args:
        backbone: frozen, in eval mode, batch normalisation not folded.
        network: trained, in eval mode.
        templates: uint8 (T,256,256,3) RGB, T as the network's `templates`.
    """

    templates: Tensor
    kernel: Tensor
    patch_weight: Tensor

    def __init__(self, backbone: Backbone, network: TFANet, templates: Image) -> None:
        super().__init__()
        self.extractor = CellExtractor(backbone, network.feature_scale)
        self.network = network
        weight = network.patch_embed.weight.detach()
        kernel = weight.view(len(weight), PATCH, PATCH, -1).permute(0, 3, 1, 2)
        self.register_buffer("patch_weight", kernel.contiguous())
        self.register_buffer("templates", to_nchw(templates))
        self.register_buffer("kernel", gaussian_kernel())
        self.requires_grad_(False)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N,256,256,3) RGB → features and their reconstruction, float32 (N,C,64,64) each."""
        network = self.network
        features = self.extractor.features(image.float().permute(0, 3, 1, 2))
        tokens = self._embed(features)
        cls = network.cls.expand(len(tokens), -1, -1)
        if not network.templates:
            return features, unpatchify(self._decode(self._encode(torch.cat([cls, tokens], dim=1))))
        template = self._embed(self.extractor.features(self.templates))
        template = template.flatten(0, 1).expand(len(tokens), -1, -1)
        encoded = self._encode(torch.cat([cls, tokens, template], dim=1))
        averaged = encoded[:, 1 + TOKENS :].view(len(tokens), network.templates, TOKENS, -1).mean(1)
        return features, unpatchify(self._decode(torch.cat([encoded[:, :1], averaged], dim=1)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N,256,256,3) RGB → anomaly map float32 (N,256,256), score float32 (N,)."""
        features, reconstruction = self.maps(image)
        direction = 1 - F.cosine_similarity(features, reconstruction, dim=1)
        distance = (features - reconstruction).square().mean(1)
        fused = self._smooth(direction) * self._smooth(distance)
        return fused, fused.flatten(1).std(1, correction=0)

    def _embed(self, features: Tensor) -> Tensor:
        """(N, C, 64, 64) → (N, 256, dim), by a convolution."""
        tokens = F.conv2d(features, self.patch_weight, self.network.patch_embed.bias, stride=PATCH)
        return tokens.flatten(2).transpose(1, 2) + self.network.position

    def _encode(self, sequence: Tensor) -> Tensor:
        for block in self.network.blocks:
            sequence = block(sequence)
        encoded: Tensor = self.network.norm(sequence)
        return encoded

    def _decode(self, refined: Tensor) -> Tensor:
        network = self.network
        refined = network.fdrm_embed(refined) + network.fdrm_position
        for block in network.fdrm_blocks:
            refined = block(refined)
        cells: Tensor = network.head(network.fdrm_norm(refined)[:, 1:])
        return cells

    def _smooth(self, small: Tensor) -> Tensor:
        """(N, 64, 64) → (N, 256, 256)."""
        size = (MAP_SIZE_PX, MAP_SIZE_PX)
        large = F.interpolate(small[:, None], size, mode="bilinear", align_corners=True)
        reach = self.kernel.numel() // 2
        large = torch.cat([large[..., :reach].flip(3), large, large[..., -reach:].flip(3)], dim=3)
        large = torch.cat([large[:, :, :reach].flip(2), large, large[:, :, -reach:].flip(2)], dim=2)
        return F.conv2d(F.conv2d(large, self.kernel.view(1, 1, 1, -1)), self.kernel.view(1, 1, -1, 1))[:, 0]


def gaussian_kernel() -> Tensor:
    """Normalised samples of a Gaussian with σ = 4 px, cut at 4 σ: float32 (33,)."""
    reach = int(TRUNCATE * SIGMA_PX + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / SIGMA_PX) ** 2)
    return (kernel / kernel.sum()).float()
