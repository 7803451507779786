"""A frozen backbone as teacher of a student that predicts its layers 1–3, with feature consistency (FCL) on each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge.frame import Image
from training.networks.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from training.networks.fcl import FclSettings, LevelFusion, MapNormalisation, consistency_loss, consistency_maps
from training.networks.trainable import Bool, Maps, Trainable, full_precision

Levels = tuple[Tensor, ...]


class Pixels(nn.Module):
    """Images → what a backbone trained on ImageNet sees."""

    mean_255: Tensor
    std_255: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean_255", IMAGENET_MEAN), ("std_255", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB → float32 (N, 3, H, W)."""
        return self.normalised(images.float().permute(0, 3, 1, 2))

    def normalised(self, colours: Tensor) -> Tensor:
        """float32 (N, 3, H, W) RGB in 0..255 → the same with ImageNet's mean and deviation."""
        return (colours - self.mean_255) / self.std_255


class PyramidPair(Trainable):
    """Teacher and student.

    Args:
        backbone: the teacher.
        student: what is trained. Called with the normalised image and the teacher's levels, it gives levels of the same
            shapes; which of the two it looks at is its own affair.
        settings: what is compared.
        level_fusion: how the levels' maps become one.
        ignored: see `Trainable`.
    """

    def __init__(
        self,
        backbone: Backbone,
        student: nn.Module,
        settings: FclSettings,
        level_fusion: LevelFusion,
        ignored: Bool | None,
    ) -> None:
        super().__init__(backbone, ignored)
        self.student = student
        self.pixels = Pixels()
        self.settings = settings
        self.level_fusion: LevelFusion = level_fusion
        self.normalisation = MapNormalisation(1 if settings.snc == "none" else 2, settings)
        # One map alone is scaled by nothing that its thresholds would notice.
        self.needs_held_out = settings.snc != "none"

    def prepare(self, images: Image) -> None:
        """Nothing."""

    def encode(self, images: Tensor) -> Levels:
        """The teacher's layers 1–3."""
        levels: Levels = self.backbone(self.pixels(images))[1:]
        return levels

    def forward(self, encoded: Levels, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """FCL's loss; nothing in it is random."""
        student = self.student(self.pixels(images), encoded)
        with full_precision(images):
            return consistency_loss(encoded, [level.float() for level in student], "cosine", self.settings)

    def calibrate(self, images: Image) -> None:
        """Quantiles of the maps."""
        self.normalisation.fit(self.maps().compare, images)

    def maps(self) -> PyramidMaps:
        """Sharing all parameters."""
        return PyramidMaps(self.backbone, self.student, self.normalisation, self.level_fusion).eval()


class PyramidMaps(nn.Module):
    """Images → element map, and the normalised maps in two ways.

    Args:
        backbone, student, normalisation, level_fusion: of a `PyramidPair`.
    """

    def __init__(
        self, backbone: Backbone, student: nn.Module, normalisation: MapNormalisation, level_fusion: LevelFusion
    ) -> None:
        super().__init__()
        self.pixels = Pixels()
        self.backbone = backbone
        self.student = student
        self.normalisation = normalisation
        self.level_fusion: LevelFusion = level_fusion
        self.to(normalisation.low.device)

    def compare(self, images: Tensor) -> Tensor:
        """uint8 (N, 256, 256, 3) → element and, if compared, neighbourhood map as they are: (N, K, 64, 64)."""
        pixels = self.pixels(images)
        teacher = self.backbone(pixels)[1:]
        student = self.student(pixels, teacher)
        return consistency_maps(teacher, student, "cosine", self.normalisation.settings, self.level_fusion)

    def forward(self, images: Tensor) -> Maps:
        """uint8 (N, 256, 256, 3) → what `MapNormalisation` gives."""
        maps: Maps = self.normalisation(self.compare(images))
        return maps
