"""TFA-Net: template-based feature aggregation for anomaly detection.

An implementation of W. Luo, H. Yao, W. Yu, "Template-based feature aggregation network for industrial anomaly
detection", Engineering Applications of Artificial Intelligence 131, 2024 (arXiv 2603.22874).

    cells of the features (N, 256, 16·C), of the input and of a good template
      → shared patch embedding, 256 tokens each → joint self-attention over [cls; input; template]   (TFAM)
      → the input's tokens are dropped; cls and template tokens → features again                     (FDRM)

What the template's tokens took over from the input is the input as a good part would look. The authors' released code
leaves the template un-normalised, switches the masking off and picks its checkpoint on test images; `training.settings`
offers the first two as the configuration `released_code`, for comparison only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.networks.features import GRID, PATCH, TOKENS
from training.networks.vit import LAYER_NORM_EPS, Block, init_transformer, sincos_position

PresetName = Literal["base", "small", "tiny"]


@dataclass(frozen=True)
class Preset:
    """Sizes of the transformer; the backbone is chosen apart.

    `base` is the paper's. The FDRM of `small` and `tiny` is our decision: its width is two thirds of the encoder's,
    as in the paper, rounded to a multiple of its heads.
    """

    dim: int
    depth: int
    heads: int
    fdrm_dim: int
    fdrm_depth: int
    fdrm_heads: int


PRESETS: dict[PresetName, Preset] = {
    "base": Preset(768, 12, 12, 512, 8, 16),
    "small": Preset(384, 6, 6, 256, 4, 8),
    "tiny": Preset(192, 4, 3, 128, 2, 4),
}


class TFANet(nn.Module):
    """TFAM and FDRM on extracted features.

    Args:
        channels: C of the features.
        preset: sizes.
        templates: how many good parts stand in the sequence; their refined tokens are averaged before the FDRM. With
            0 the input is reconstructed from its own tokens: the ablation that shows what the template is for.

    Attributes:
        feature_scale: float32 (C,), kept with the weights: what the features were multiplied with.
    """

    feature_scale: Tensor
    position: Tensor
    fdrm_position: Tensor

    def __init__(self, channels: int, preset: Preset, templates: int = 1) -> None:
        super().__init__()
        self.templates = templates
        # On cells this is the paper's convolution with kernel and stride 4.
        self.patch_embed = nn.Linear(PATCH * PATCH * channels, preset.dim)
        self.cls = nn.Parameter(torch.empty(1, 1, preset.dim))
        self.blocks = nn.ModuleList([Block(preset.dim, preset.heads) for _ in range(preset.depth)])
        self.norm = nn.LayerNorm(preset.dim, eps=LAYER_NORM_EPS)
        self.fdrm_embed = nn.Linear(preset.dim, preset.fdrm_dim)
        self.fdrm_blocks = nn.ModuleList([Block(preset.fdrm_dim, preset.fdrm_heads) for _ in range(preset.fdrm_depth)])
        self.fdrm_norm = nn.LayerNorm(preset.fdrm_dim, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(preset.fdrm_dim, PATCH * PATCH * channels)
        self.register_buffer("feature_scale", torch.ones(channels))
        self.register_buffer("position", sincos_position(preset.dim, GRID), persistent=False)
        fdrm_position = torch.cat([torch.zeros(1, preset.fdrm_dim), sincos_position(preset.fdrm_dim, GRID)])
        self.register_buffer("fdrm_position", fdrm_position, persistent=False)
        self.apply(init_transformer)
        nn.init.normal_(self.cls, std=0.02)

    @torch.no_grad()
    def start_at(self, mean: Tensor) -> None:
        """Let the reconstruction begin with a channel's mean, (C,) before scaling, instead of with zero."""
        self.head.bias.copy_((mean * self.feature_scale).repeat(PATCH * PATCH))

    def embed(self, cells: Tensor) -> Tensor:
        """Cells (N, 256, 16·C) → tokens with their position, (N, 256, dim)."""
        tokens: Tensor = self.patch_embed(cells) + self.position
        return tokens

    def reconstruct(self, tokens: Tensor, template: Tensor | None) -> Tensor:
        """What the input would be as a good part.

        Args:
            tokens: of the input, (N, K, dim), K at most 256; all 256 when there is no template.
            template: tokens of the templates, (T, 256, dim); None when `templates` is 0.

        Returns:
            cells (N, 256, 16·C), see `patchify`.
        """
        sequence = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if template is not None:
            sequence = torch.cat([sequence, template.flatten(0, 1).expand(tokens.shape[0], -1, -1)], dim=1)
        for block in self.blocks[:-1]:
            sequence = block(sequence)
        # Nothing reads the input's tokens after the last block: it asks for cls and template only.
        wanted = torch.cat([sequence[:, :1], sequence[:, -TOKENS * max(1, self.templates) :]], dim=1)
        refined = self.norm(self.blocks[-1](sequence, wanted))
        if self.templates > 1:
            stacked = refined[:, 1:].unflatten(1, (self.templates, TOKENS))
            refined = torch.cat([refined[:, :1], stacked.sum(1) / self.templates], dim=1)
        refined = self.fdrm_embed(refined) + self.fdrm_position
        for block in self.fdrm_blocks:
            refined = block(refined)
        out: Tensor = self.head(self.fdrm_norm(refined[:, 1:]))
        return out

    def forward(self, cells: Tensor, template: Tensor | None, kept: Tensor) -> Tensor:
        """A training step's prediction.

        Args:
            cells: of the input, (N, 256, 16·C).
            template: cells of the templates, (T, 256, 16·C); None when `templates` is 0.
            kept: indices (K,) of the input's tokens that stay; the others are dropped, not replaced.

        Returns:
            cells (N, 256, 16·C).
        """
        tokens = self.patch_embed(cells[:, kept]) + self.position[kept]
        return self.reconstruct(tokens, None if template is None else self.embed(template))


def draw_kept_tokens(ratio: float, generator: torch.Generator) -> Tensor:
    """Indices of the input tokens that stay when the share `ratio` of them is dropped; at least one, in order."""
    count = max(1, round(TOKENS * (1 - ratio)))
    return torch.randperm(TOKENS, generator=generator)[:count].sort().values
