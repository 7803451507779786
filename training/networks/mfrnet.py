"""MFRNet: features with cells hidden are restored from the others; where that fails is an anomaly.

A reconstruction of Wang et al., arXiv 2404.13273, where the paper's text was not available. From the paper: a frozen
VGG-16 whose layers are resized and concatenated, crossed masks of cell size k and n subsets that hide every cell once,
a restoration network of hybrid transformer blocks, and a loss of pixels and structural similarity that also scores.

Decisions of ours, with the field that holds each; `Preset` is in `training.networks.mfrnet_network`.

* Taps and their grid: relu1_2, relu2_2, relu3_3, relu4_3 of VGG-16, or stem and layers 1–3 of a ResNet (`backbone`), at
  64×64; each channel standardised over good parts.
* Masks: n (`masks`); training draws k from the powers of two up to `largest_cell`, and one set for a whole batch;
  inference always has the same set (`inference_cell`, `inference_seed`), which is kept with the weights.
* Restoration: a U over 64, 32 and 16 with `Preset.dims`, `Preset.depths` and `Preset.up_depths`; halved by 2×2
  convolutions, doubled by 1×1 convolutions and nearest neighbours, skips concatenated and merged by 1×1 convolutions;
  1×1 in and out, a learned token for what is hidden.
* Hybrid block: depthwise 3×3, then attention with heads of `Preset.head_dim` to averages over the grids
  `Preset.pools`, then a convolutional FFN `Preset.ffn_ratio` wider; LayerNorm before the last two.
* Loss: mean squared error + `similarity_weight` · (1 − SSIM) of the composite, hidden cells only thereby. SSIM per
  channel with a Gaussian window (`similarity_window`, `similarity_sigma`), its constants for a range of
  `similarity_span` deviations. It sees features scaled but not centred: its comparison of means is meant for values
  that are not negative, as features after a ReLU are.
* Map: squared error and 1 − SSIM, each averaged over the channels, multiplied (`fusion`) at 64×64, then upsampled and
  smoothed as all maps of this project are.
* Optimiser and schedule of `base` and `paper`: AdamW 1e-4, betas 0.9 and 0.999, weight decay 1e-5, batch 8, 300
  epochs, cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from edge.frame import Image
from training.networks.backbones import Backbone
from training.networks.features import CellExtractor, feature_statistics
from training.networks.mfrnet_masks import crossed_masks, draw_cell
from training.networks.mfrnet_network import PRESETS, PresetName, RestorationNetwork
from training.networks.mfrnet_similarity import dissimilarity, window_matrix
from training.networks.trainable import Bool, Change, DetectorSettings, Kind, Maps, Trainable, full_precision

MfrFusion = Literal["product", "error", "structure"]


class MfrNetSettings(DetectorSettings):
    """What the module's docstring tells of; sizes come with the preset."""

    preset: PresetName = "tiny"
    fusion: MfrFusion = Field(default="product", description="of squared error and 1 − SSIM, or one of them alone")
    masks: int = Field(default=3, ge=2, le=16, description="complementary masks, each a pass through the network")
    largest_cell: int = Field(default=8, ge=1, le=32, description="edge of the cells hidden in training, at most")
    inference_cell: int = Field(default=2, ge=1, le=32, description="edge of the cells hidden at inference")
    inference_seed: int = Field(default=0, ge=0, description="of the masks at inference")
    similarity_weight: float = Field(default=1.0, ge=0, description="of 1 − SSIM in the loss")
    similarity_window: int = Field(default=11, ge=3, le=63, description="width of SSIM's window in elements, odd")
    similarity_sigma: float = Field(default=1.5, gt=0, description="of SSIM's window in elements")
    similarity_span: float = Field(default=6.0, gt=0, description="range of the features in standard deviations")

    @model_validator(mode="after")
    def _check(self) -> MfrNetSettings:
        if self.similarity_window % 2 == 0:
            raise ValueError(f"similarity_window {self.similarity_window} is even, a window has a centre")
        if self.largest_cell & (self.largest_cell - 1):
            raise ValueError(f"largest_cell {self.largest_cell} is no power of two")
        return self


class Comparison(nn.Module):
    """How well features are restored; nothing in it is learned.

    Args:
        offset: (C, 1, 1), from centred features back to the backbone's, in standard deviations.
        settings: of SSIM.
    """

    offset: Tensor
    window: Tensor

    def __init__(self, offset: Tensor, settings: MfrNetSettings) -> None:
        super().__init__()
        self.span = settings.similarity_span
        self.register_buffer("offset", offset)
        window = window_matrix(settings.similarity_window, settings.similarity_sigma)
        self.register_buffer("window", window, persistent=False)

    def forward(self, features: Tensor, restored: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error and 1 − SSIM, averaged over the channels: (N, C, 64, 64) each → (N, 64, 64) each."""
        channels = features.shape[1]
        error = (features - restored).square().sum(1) / channels
        return error, dissimilarity(features, restored, self.offset, self.window, self.span).sum(1) / channels


class MfrNet(Trainable):
    """MFRNet in training.

    Attributes:
        network: what is trained.
        scale: float32 (C,), reciprocal standard deviation of each channel.
        masks: float32 (n, 64, 64), those of inference; stored, because no generator promises the same for ever.
    """

    scale: Tensor
    masks: Tensor

    def __init__(self, backbone: Backbone, settings: MfrNetSettings, ignored: Bool | None) -> None:
        super().__init__(backbone, ignored)
        self.settings = settings
        channels = sum(backbone.tap_channels)
        self.network = RestorationNetwork(channels, PRESETS[settings.preset])
        self.comparison = Comparison(torch.zeros(channels, 1, 1), settings)
        seeded = torch.Generator().manual_seed(settings.inference_seed)
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("masks", crossed_masks(settings.inference_cell, settings.masks, seeded))

    def prepare(self, images: Image) -> None:
        """Take mean and deviation of the features' channels."""
        mean, deviation = feature_statistics(self.backbone, images, self.device)
        self.scale.copy_(1 / deviation)
        self.comparison.offset.copy_((mean / deviation).view(-1, 1, 1))

    def encode(self, images: Tensor) -> tuple[Tensor]:
        """Standardised features, (N, C, 64, 64)."""
        extractor = CellExtractor(self.backbone, self.scale).to(self.device)
        return (extractor.features(images.permute(0, 3, 1, 2).float()) - self.comparison.offset,)

    def forward(self, encoded: tuple[Tensor, ...], images: Tensor, generator: torch.Generator | None) -> Tensor:
        """The loss with masks of the generator's, or with those of inference."""
        (features,) = encoded
        masks = self.masks if generator is None else self._draw(generator)
        restored = self.network(features, masks)
        with full_precision(features):
            error, structure = self.comparison(features, restored.float())
            loss: Tensor = error.mean() + self.settings.similarity_weight * structure.mean()
            return loss

    def maps(self) -> MfrNetMaps:
        """The maps of squared error and of 1 − SSIM."""
        return MfrNetMaps(self.backbone, self).eval()

    def _draw(self, generator: torch.Generator) -> Tensor:
        cell = draw_cell(self.settings.largest_cell, generator)
        return crossed_masks(cell, self.settings.masks, generator).to(self.device)


class MfrNetMaps(nn.Module):
    """Backbone, restoration and small maps, with the masks of inference.

    Args:
        backbone: frozen, in eval mode.
        trained: whose parts are shared.
    """

    masks: Tensor

    def __init__(self, backbone: Backbone, trained: MfrNet) -> None:
        super().__init__()
        self.extractor = CellExtractor(backbone, trained.scale)
        self.network = trained.network
        self.comparison = trained.comparison
        self.register_buffer("masks", trained.masks)

    def forward(self, image: Tensor) -> Maps:
        """uint8 (N,256,256,3) RGB → squared error and 1 − SSIM, float32 (N,64,64) each."""
        features = self.extractor.features(image.float().permute(0, 3, 1, 2)) - self.comparison.offset
        error, structure = self.comparison(features, self.network(features, self.masks))
        return error, structure


def fuse(maps: Maps, smoothing: Tensor, fusion: str) -> Tensor:
    """Upsample and smooth the product of what `MfrNetMaps` gives, or one of it; see `trainable.Fuse`."""
    error, structure = maps
    chosen = {"product": error * structure, "error": error, "structure": structure}[fusion]
    return smoothing @ chosen @ smoothing.T


_PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "weight_decay": 1e-5,
        "batch": 8,
        "epochs": 300,
        "decay": "cosine",
        "decay_share": 1.0,
    }
)
KIND = Kind(
    title="MFRNet",
    settings=MfrNetSettings,
    build=MfrNet,
    fuse=fuse,
    recipes=MappingProxyType(
        {
            "base": _PAPER,
            # For a quarter of an hour of one CPU core with 200 parts; not searched for.
            "tiny": MappingProxyType({**_PAPER, "lr": 1e-3, "warmup_steps": 10, "batch": 4, "epochs": 10}),
        }
    ),
    named=MappingProxyType({"paper": MappingProxyType({**_PAPER, "network": {"preset": "base", "backbone": "vgg16"}})}),
    parts=(
        ("extractor.backbone.conv1.", "stem"),
        ("extractor.backbone.layer1.", "layer1"),
        ("extractor.backbone.layer2.", "layer2"),
        ("extractor.backbone.layer3.", "layer3"),
        ("extractor.", "backbone"),
        ("network.embed.", "down at 64"),
        ("network.down.0.", "down at 64"),
        ("network.halve.", "down at 32 and 16"),
        ("network.down.", "down at 32 and 16"),
        ("network.widen.1.", "up at 32"),
        ("network.merge.1.", "up at 32"),
        ("network.up.1.", "up at 32"),
        ("network.head.", "head"),
        ("network.", "up at 64"),
    ),
    ablations=(
        *(Change("largest cell hidden in training", str(cell), {"largest_cell": cell}) for cell in (1, 2, 4, 8)),
        *(Change("cell hidden at inference", str(cell), {"inference_cell": cell}) for cell in (1, 2, 4, 8)),
        *(Change("number of masks", str(masks), {"masks": masks}) for masks in (2, 3, 4, 6)),
        *(Change("weight of 1 − SSIM", str(weight), {"similarity_weight": weight}) for weight in (0.0, 0.5, 1.0, 2.0)),
    ),
)
