"""TFA-Net through the door: its settings, its training and what is folded away when it is exported."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from edge.errors import ConfigError
from edge.frame import Image
from training.image_sets import evenly
from training.networks.anomaly_map import Fusion, differences, fuse
from training.networks.backbones import Backbone
from training.networks.detector import to_nchw
from training.networks.features import GRID, TOKENS, CellExtractor, feature_statistics
from training.networks.loss import reconstruction_loss
from training.networks.tfanet import PRESETS, PresetName, TFANet, draw_kept_tokens
from training.networks.tfanet_ablations import ABLATIONS
from training.networks.trainable import Bool, DetectorSettings, Kind, Maps, Trainable, full_precision

FeatureScale = Literal["deviation", "none"]
HeadBias = Literal["mean", "zero"]
_Share = Annotated[float, Field(ge=0, le=1)]


class TfaNetSettings(DetectorSettings):
    """Where a default is not the paper's, its description says so."""

    preset: PresetName = "tiny"
    fusion: Fusion = Field(
        default="direction", description="how the maps of direction and distance become one; the paper's is product"
    )
    templates: int = Field(default=1, ge=0, le=16, description="good parts in the sequence; 0 reconstructs directly")
    normalise_template: bool = Field(default=True, description="no as in the authors' release")
    feature_scale: FeatureScale = Field(
        default="deviation",
        description="each channel divided by its standard deviation over good parts; the paper has none",
    )
    head_bias: HeadBias = Field(
        default="mean", description="where the last layer's bias begins: the good parts' mean cell; the paper's is zero"
    )
    mask_range: tuple[_Share, _Share] = Field(
        default=(0.0, 0.75), description="each batch drops a share of its input tokens drawn from this range"
    )

    @model_validator(mode="after")
    def _check(self) -> TfaNetSettings:
        low, high = self.mask_range
        if low > high:
            raise ValueError(f"mask_range {low} to {high} is empty")
        if self.templates == 0 and high > 0:
            raise ValueError("mask_range has to be 0 0 without a template: a dropped token could not be reconstructed")
        return self


class TfaNet(Trainable):
    """TFA-Net in training; reconstructs the cells of the features.

    Attributes:
        network: what is trained.
        templates: uint8 (T,256,256,3) RGB.
    """

    templates: Tensor
    counted: Tensor

    def __init__(self, backbone: Backbone, settings: TfaNetSettings, ignored: Bool | None) -> None:
        super().__init__(backbone, ignored)
        self.settings = settings
        self.network = TFANet(sum(backbone.tap_channels), PRESETS[settings.preset], settings.templates)
        self.register_buffer("templates", torch.zeros(settings.templates, 256, 256, 3, dtype=torch.uint8))
        self.register_buffer("counted", counted_tokens(ignored), persistent=False)
        self._template_cells: Tensor | None = None

    def prepare(self, images: Image) -> None:
        """Choose the templates, and take scale and mean of the features' channels.

        Raises:
            ConfigError: there are fewer images than templates.
        """
        if self.settings.templates > len(images):
            raise ConfigError(f"{self.settings.templates} templates of {len(images)} images", "ask for fewer templates")
        self.templates.copy_(torch.from_numpy(choose_templates(images, self.settings.templates)))
        mean, deviation = feature_statistics(self.backbone, images, self.device)
        if self.settings.feature_scale == "deviation":
            self.network.feature_scale.copy_(1 / deviation)
        if self.settings.head_bias == "mean":
            self.network.start_at(mean)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Cells of the features, (N, 256, 16·C)."""
        return (self._cells(images, normalise=True),)

    def forward(self, encoded: tuple[Tensor, ...], images: Tensor, generator: torch.Generator | None) -> Tensor:
        """The loss, with a share of the input's tokens dropped where there is a generator."""
        (cells,) = encoded
        kept = torch.arange(TOKENS) if generator is None else self._draw(generator)
        prediction = self.network(cells, self._template(), kept.to(self.device))
        with full_precision(cells):
            prediction = prediction.float()
            if len(self.counted) < TOKENS:
                prediction, cells = prediction[:, self.counted], cells[:, self.counted]
            return reconstruction_loss(prediction, cells)

    def maps(self) -> FoldedTfaNet:
        """The maps of distance and direction."""
        templates = self.templates.cpu().numpy()
        return FoldedTfaNet(self.backbone, self.network, templates, self.settings.normalise_template).eval()

    def _draw(self, generator: torch.Generator) -> Tensor:
        low, high = self.settings.mask_range
        return draw_kept_tokens(low + (high - low) * float(torch.rand((), generator=generator)), generator)

    def _template(self) -> Tensor | None:
        """Cells of the templates, rounded to half precision as the input's are; they never change."""
        if self._template_cells is None and self.settings.templates:
            with torch.no_grad(), full_precision(self.templates):
                cells = self._cells(self.templates, self.settings.normalise_template)
                self._template_cells = cells.half().float()
        return self._template_cells

    def _cells(self, images: Tensor, normalise: bool) -> Tensor:
        extractor = CellExtractor(self.backbone, self.network.feature_scale, normalise).to(self.device)
        cells: Tensor = extractor(images.permute(0, 3, 1, 2).float())
        return cells


class FoldedTfaNet(nn.Module):
    """Backbone, TFA-Net and small maps; what is constant at inference is computed once, here.

    The templates' pass through backbone and patch embedding becomes stored tokens.

    Args:
        backbone: frozen, in eval mode.
        network: trained, in eval mode.
        templates: uint8 (T,256,256,3) RGB, T as the network's `templates`.
        normalise_template: False as in the authors' release, for comparison.
    """

    template_tokens: Tensor

    def __init__(self, backbone: Backbone, network: TFANet, templates: Image, normalise_template: bool = True) -> None:
        super().__init__()
        self.extractor = CellExtractor(backbone, network.feature_scale)
        self.network = network
        tokens = torch.empty(0, 256, network.position.shape[1])
        if network.templates:
            with torch.no_grad():
                extractor = CellExtractor(backbone, network.feature_scale, normalise_template)
                tokens = network.embed(extractor(to_nchw(templates)))
        self.register_buffer("template_tokens", tokens)

    def cells(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N,256,256,3) RGB → cells and their reconstruction, float32 (N,256,16·C) each."""
        cells = self.extractor(image.float().permute(0, 3, 1, 2))
        template = self.template_tokens if self.network.templates else None
        return cells, self.network.reconstruct(self.network.embed(cells), template)

    def forward(self, image: Tensor) -> Maps:
        """uint8 (N,256,256,3) RGB → distance and direction, float32 (N,64,64) each."""
        direction, distance = differences(*self.cells(image))
        return distance, direction


def fuse_tfanet(maps: Maps, smoothing: Tensor, fusion: str) -> Tensor:
    """`fuse` of what `FoldedTfaNet` gives."""
    distance, direction = maps
    return fuse(direction, distance, smoothing, cast(Fusion, fusion))


def choose_templates(images: Image, count: int) -> Image:
    """At most `count` images, evenly spaced in their order, beginning with the first."""
    return np.ascontiguousarray(images[evenly(len(images), count)])


def counted_tokens(ignored: Bool | None) -> Tensor:
    """Indices of the tokens of which not every pixel is ignored.

    Raises:
        ConfigError: none is left.
    """
    if ignored is None:
        return torch.arange(TOKENS)
    cell_px = ignored.shape[0] // GRID
    whole = ignored.reshape(GRID, cell_px, GRID, cell_px).all(axis=(1, 3)).ravel()
    if whole.all():
        raise ConfigError("ignore_mask covers the whole image", "leave something to judge")
    return torch.from_numpy(np.flatnonzero(~whole))


_QUICK: Mapping[str, Any] = MappingProxyType({"warmup_steps": 50, "decay_share": 0.5, "epochs": 100})
_PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "network": {
            "preset": "base",
            "backbone": "wide_resnet50_2",
            "feature_scale": "none",
            "head_bias": "zero",
            "fusion": "product",
        },
        "epochs": 400,
        "batch": 4,
        "lr": 1e-4,
        "decay_share": 0.0,
        "data": {"held_out_share": 0.0},
    }
)
_RELEASED: Mapping[str, Any] = MappingProxyType(
    {
        **_PAPER,
        "network": {**_PAPER["network"], "normalise_template": False, "mask_range": (0.0, 0.0)},
        "snapshots": True,
    }
)
KIND = Kind(
    title="TFA-Net",
    settings=TfaNetSettings,
    build=TfaNet,
    fuse=fuse_tfanet,
    # The rates fall as the networks grow; those of `small` and `base` follow the paper's and were not searched for.
    recipes=MappingProxyType(
        {
            "tiny": MappingProxyType({**_QUICK, "lr": 1e-3}),
            "small": MappingProxyType({**_QUICK, "lr": 5e-4}),
            "base": MappingProxyType({**_QUICK, "lr": 1e-4}),
        }
    ),
    named=MappingProxyType({"paper": _PAPER, "released_code": _RELEASED}),
    # Finer in the backbone, whose stages differ most in what INT8 costs.
    parts=(
        ("extractor.backbone.conv1.", "stem"),
        ("extractor.backbone.layer1.", "layer1"),
        ("extractor.backbone.layer2.", "layer2"),
        ("extractor.backbone.layer3.", "layer3"),
        ("extractor.", "backbone"),
        ("network.patch_embed.", "patch embedding"),
        ("network.blocks.", "encoder"),
        ("network.norm.", "decoder"),
        ("network.fdrm_norm.", "prediction"),
        ("network.fdrm_", "decoder"),
        ("network.head.", "prediction"),
        ("", "encoder"),
    ),
    ablations=ABLATIONS,
)
