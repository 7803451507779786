"""Reverse distillation (RD4AD): a decoder rebuilds the teacher's layers 1–3 from one small embedding of them.

H. Deng and X. Li, "Anomaly detection via reverse distillation from one-class embedding", CVPR 2022. With SNC it is a
base of a reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available.

From the paper: layers 1 and 2 are brought to the size of layer 3 by strided 3×3 convolutions, concatenated
(multi-scale fusion) and condensed to half that size by a residual stage (one-class embedding); the decoder mirrors the
teacher, upsampling by transposed 2×2 convolutions; the levels' maps added (`level_fusion`); with the configuration
`paper` Adam, 200 epochs of batches of 16. Decisions of ours: decoder and embedding consist of basic blocks whatever the
teacher's blocks are, `blocks` of them per stage; the embedding has `embedding_ratio` times the channels of layer 3; the
cosine is taken per position, as the paper writes, not over a whole level, as its authors' release computes it; the
usual recipe is a shorter one.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.networks.backbones import Backbone
from training.networks.fcl import ABLATIONS, FclSettings, LevelFusion, fuse
from training.networks.fcl_pyramid import Levels, PyramidPair
from training.networks.resnet import BasicBlock
from training.networks.stfpm import QUICK, init_convolution
from training.networks.trainable import Bool, Kind


class ReverseDistillationSettings(FclSettings):
    """Student and maps."""

    preset: Literal["standard"] = "standard"
    level_fusion: LevelFusion = Field(default="sum", description="how the maps of layers 1–3 become one")
    blocks: int = Field(default=2, ge=1, le=8, description="per stage of embedding and decoder")
    embedding_ratio: int = Field(default=2, ge=1, le=8, description="channels of the embedding over those of layer 3")


class UpBlock(nn.Module):
    """A basic block that doubles height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, 2, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, 2·H, 2·W)."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.up(x)))))
        out: Tensor = self.relu(y + self.upsample(x))
        return out


class ReverseStudent(nn.Module):
    """Embedding and decoder.

    Args:
        channels: of the teacher's levels, each half the size of the one before and twice as many.
        settings: how deep and wide.
    """

    def __init__(self, channels: tuple[int, ...], settings: ReverseDistillationSettings) -> None:
        super().__init__()
        deepest = channels[-1]
        self.narrow = nn.ModuleList(
            [_halving(level, len(channels) - 1 - index) for index, level in enumerate(channels)]
        )
        embedding = settings.embedding_ratio * deepest
        self.embed = nn.Sequential(
            BasicBlock(len(channels) * deepest, embedding, embedding, 2), *_blocks(embedding, settings.blocks - 1)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(UpBlock(wide, narrow), *_blocks(narrow, settings.blocks - 1))
            for wide, narrow in pairwise((embedding, *reversed(channels)))
        )
        self.apply(init_convolution)

    def forward(self, _pixels: Tensor, teacher: Levels) -> Levels:
        """The teacher's levels → the same rebuilt."""
        x = self.embed(torch.cat([fuse(level) for fuse, level in zip(self.narrow, teacher, strict=True)], dim=1))
        rebuilt = []
        for stage in self.decoder:
            x = stage(x)
            rebuilt.append(x)
        return tuple(reversed(rebuilt))


def reverse_distillation(
    backbone: Backbone, settings: ReverseDistillationSettings, ignored: Bool | None
) -> PyramidPair:
    """An untrained pair; `backbone` is of the kind that the settings name."""
    student = ReverseStudent(tuple(backbone.tap_channels[1:]), settings)
    return PyramidPair(backbone, student, settings, settings.level_fusion, ignored)


def _halving(channels: int, times: int) -> nn.Sequential:
    """Strided 3×3 convolutions, each with twice the channels of the one before."""
    layers: list[nn.Module] = []
    for narrow in (channels * 2**step for step in range(times)):
        layers += nn.Conv2d(narrow, 2 * narrow, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * narrow), nn.ReLU(inplace=True)
    return nn.Sequential(*layers)


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [BasicBlock(channels, channels, channels, 1) for _ in range(count)]


_PAPER = MappingProxyType(
    {
        "optimiser": "adamw",
        "lr": 5e-3,
        "betas": (0.5, 0.999),
        "weight_decay": 0.0,
        "epochs": 200,
        "batch": 16,
        "precision": "float32",
        "score_rule": "max",
    }
)
KIND = Kind(
    "Reverse distillation",
    ReverseDistillationSettings,
    reverse_distillation,
    fuse,
    recipes={"standard": MappingProxyType({**QUICK, "batch": 4})},
    named={"paper": _PAPER},
    parts=(
        ("backbone.layer1.", "teacher's layer1"),
        ("backbone.layer2.", "teacher's layer2"),
        ("backbone.layer3.", "teacher's layer3"),
        ("backbone.", "teacher's stem"),
        ("student.decoder.0.", "decoder's layer3"),
        ("student.decoder.1.", "decoder's layer2"),
        ("student.decoder.2.", "decoder's layer1"),
        ("student.", "embedding"),
    ),
    ablations=ABLATIONS,
)
