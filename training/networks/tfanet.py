"""TFA-Net: template-based feature aggregation for anomaly detection.

An implementation of W. Luo, H. Yao, W. Yu, "Template-based feature aggregation network for industrial anomaly
detection", Engineering Applications of Artificial Intelligence 131, 2024 (arXiv 2603.22874).

    features (N, C, 64, 64) of the input and of one good template
      → shared patch embedding, 256 tokens each → joint self-attention over [cls; input; template]   (TFAM)
      → the input's tokens are dropped; cls and template tokens → features again                     (FDRM)

What the template's tokens took over from the input is the input as a good part would look. The authors' released code
leaves the template un-normalised, switches the masking off and picks its checkpoint on test images; none of that is
done here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.anomaly_map import FEATURE_SIZE
from training.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, ResNet18
from training.networks.vit import LAYER_NORM_EPS, Block, init_transformer, sincos_position

PATCH = 4
GRID = FEATURE_SIZE // PATCH
TOKENS = GRID * GRID


@dataclass(frozen=True)
class Preset:
    """Sizes of the transformer; the backbone is chosen apart.

    `base` is the paper's. The FDRM of `small` and `tiny` is our decision: its width is two thirds of the encoder's,
    as in the paper, rounded to a multiple of its heads.
    """

    name: str
    dim: int
    depth: int
    heads: int
    fdrm_dim: int
    fdrm_depth: int
    fdrm_heads: int


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("base", 768, 12, 12, 512, 8, 16),
        Preset("small", 384, 6, 6, 256, 4, 8),
        Preset("tiny", 192, 4, 3, 128, 2, 4),
    )
}


def extract_features(backbone: ResNet18, image: Tensor) -> Tensor:
    """Four taps resized to 64×64 and concatenated.

    Args:
        backbone: frozen, in eval mode.
        image: float32 (N, 3, 256, 256), RGB in 0..255.

    Returns:
        (N, sum of the backbone's tap channels, 64, 64).
    """
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1) * 255
    size = (FEATURE_SIZE, FEATURE_SIZE)
    levels = backbone((image - mean) / std)
    return torch.cat(
        [
            level if level.shape[2:] == size else F.interpolate(level, size, mode="bilinear", align_corners=True)
            for level in levels
        ],
        dim=1,
    )


def patchify(features: Tensor) -> Tensor:
    """(N, C, 64, 64) → (N, 256, 16·C): each token's features, pixel by pixel, channels last."""
    n, c, _, _ = features.shape
    cells = features.reshape(n, c, GRID, PATCH, GRID, PATCH)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(n, TOKENS, PATCH * PATCH * c)


def unpatchify(tokens: Tensor) -> Tensor:
    """The inverse of `patchify`."""
    n, _, d = tokens.shape
    cells = tokens.reshape(n, GRID, GRID, PATCH, PATCH, d // PATCH**2)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(n, d // PATCH**2, FEATURE_SIZE, FEATURE_SIZE)


class TFANet(nn.Module):
    """TFAM and FDRM on extracted features.

    Args:
        channels: of the features.
        preset: sizes.
    """

    position: Tensor
    fdrm_position: Tensor

    def __init__(self, channels: int, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.patch_embed = nn.Conv2d(channels, preset.dim, PATCH, PATCH)
        self.cls = nn.Parameter(torch.empty(1, 1, preset.dim))
        self.blocks = nn.ModuleList([Block(preset.dim, preset.heads) for _ in range(preset.depth)])
        self.norm = nn.LayerNorm(preset.dim, eps=LAYER_NORM_EPS)
        self.fdrm_embed = nn.Linear(preset.dim, preset.fdrm_dim)
        self.fdrm_blocks = nn.ModuleList([Block(preset.fdrm_dim, preset.fdrm_heads) for _ in range(preset.fdrm_depth)])
        self.fdrm_norm = nn.LayerNorm(preset.fdrm_dim, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(preset.fdrm_dim, PATCH * PATCH * channels)
        self.register_buffer("position", sincos_position(preset.dim, GRID), persistent=False)
        fdrm_position = torch.cat([torch.zeros(1, preset.fdrm_dim), sincos_position(preset.fdrm_dim, GRID)])
        self.register_buffer("fdrm_position", fdrm_position, persistent=False)
        self.apply(init_transformer)
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.cls, std=0.02)

    def embed(self, features: Tensor) -> Tensor:
        """(N, C, 64, 64) → tokens with their position, (N, 256, dim)."""
        tokens: Tensor = self.patch_embed(features).flatten(2).transpose(1, 2)
        return tokens + self.position

    def forward(self, features: Tensor, template: Tensor, kept: Tensor | None = None) -> Tensor:
        """Reconstruct the features of the input.

        Args:
            features: of the input, (N, C, 64, 64).
            template: tokens of the template from `embed`, (1, 256, dim).
            kept: indices (K,) of the input tokens that stay; None for all. Training only.

        Returns:
            (N, 256, 16·C), see `patchify`.
        """
        tokens = self.embed(features)
        if kept is not None:
            tokens = tokens[:, kept]
        n = tokens.shape[0]
        sequence = torch.cat([self.cls.expand(n, -1, -1), tokens, template.expand(n, -1, -1)], dim=1)
        for block in self.blocks[:-1]:
            sequence = block(sequence)
        # Nothing reads the input's tokens after the last block: it asks for cls and template only.
        wanted = torch.cat([sequence[:, :1], sequence[:, -TOKENS:]], dim=1)
        refined = self.fdrm_embed(self.norm(self.blocks[-1](sequence, wanted))) + self.fdrm_position
        for block in self.fdrm_blocks:
            refined = block(refined)
        out: Tensor = self.head(self.fdrm_norm(refined[:, 1:]))
        return out


def draw_kept_tokens(ratio: float, generator: torch.Generator) -> Tensor:
    """Indices of the input tokens that stay when the share `ratio` of them is dropped; at least one, in order."""
    count = max(1, round(TOKENS * (1 - ratio)))
    return torch.randperm(TOKENS, generator=generator)[:count].sort().values
