"""EfficientAD: a student that predicts a small teacher's patch descriptions, and an autoencoder for the global picture.

K. Batzner, L. Heckler and R. König, "EfficientAD: accurate visual anomaly detection at millisecond-level latencies",
WACV 2024. With SNC it is a base of a reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not
available.

From the paper: the networks (`training.networks.efficientad_pdn`); descriptions normalised per channel over the good
parts; the hard-feature loss, the mean over the share 1 − `hard_share` of the largest squared differences; a penalty on
what the student says of images of other things (`penalty_weight`); the autoencoder and the student's second half on
images whose brightness, contrast or saturation was changed (`augmentation`); dropout in the autoencoder (`dropout`);
Adam, 70 000 steps of one image; maps normalised by quantiles of held-out maps and averaged.

Decisions of ours: ImageNet's images not being at hand, the teacher is distilled from the frozen backbone on the good
parts and on procedural images (`training.networks.efficientad_teacher`), and the penalty is on procedural images
(`penalty_images`); weight decay is AdamW's, the rate falls linearly to zero over the last `decay_share` instead of to
a tenth at once, and the steps are counted in epochs, 340 of about 200 images. With SNC the neighbourhood loss and map
compare teacher and student; the autoencoder and its map are left alone. The held-out loss takes the mean
over all differences and leaves the penalty out.
"""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor, nn

from edge.frame import Image
from training.image_sets import evenly
from training.networks.backbones import Backbone
from training.networks.efficientad_pdn import DESCRIPTION_CHANNELS, Autoencoder, patch_description_network
from training.networks.efficientad_settings import EfficientAdSettings
from training.networks.efficientad_teacher import distil, procedural_images
from training.networks.fcl import ABLATIONS, MapNormalisation, consistency_maps, element_map, fuse, neighbourhood_loss
from training.networks.fcl_pyramid import Levels, Pixels
from training.networks.features import channel_statistics
from training.networks.trainable import Bool, Kind, Maps, Trainable, full_precision

# ITU-R BT.601, as image libraries turn colour into grey.
_LUMA = (0.299, 0.587, 0.114)
_DISTILLATION_SEED, _PENALTY_SEED = 1, 2
_STATISTICS_IMAGES = 32


class DescriptionTeacher(nn.Module):
    """A patch description network whose channels are normalised over the good parts.

    Attributes:
        mean, deviation: float32 (384, 1, 1), kept with the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(DESCRIPTION_CHANNELS, 1, 1))
        self.register_buffer("deviation", torch.ones(DESCRIPTION_CHANNELS, 1, 1))
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised RGB (N, 3, 256, 256) → (N, 384, 64, 64)."""
        descriptions: Tensor = (self.network(pixels) - self.mean) / self.deviation
        return descriptions


class EfficientAd(Trainable):
    """Teacher, student and autoencoder.

    Args:
        backbone: what the teacher is distilled from; no part of the result.
        settings: sizes and losses.
        ignored: see `Trainable`.
    """

    needs_held_out = True

    def __init__(self, backbone: Backbone, settings: EfficientAdSettings, ignored: Bool | None) -> None:
        super().__init__(backbone, ignored)
        self.settings = settings
        self.pixels = Pixels()
        self.teacher = DescriptionTeacher(patch_description_network(settings.preset, DESCRIPTION_CHANNELS))
        self.student = patch_description_network(settings.preset, 2 * DESCRIPTION_CHANNELS)
        self.autoencoder = Autoencoder(settings.dropout)
        self.normalisation = MapNormalisation(2 if settings.snc == "none" else 3, settings)

    def prepare(self, images: Image) -> None:
        """Distil the teacher and take the statistics of what it says of the good parts."""
        procedural = procedural_images(self.settings.teacher_procedural_images, _DISTILLATION_SEED)
        distil(self.teacher.network, self.backbone, images, procedural, self.settings)
        chosen = torch.from_numpy(images[evenly(len(images), _STATISTICS_IMAGES)]).to(self.device)
        statistics = channel_statistics(self.teacher.network(self.pixels(image)) for image in torch.split(chosen, 1))
        for buffer, values in zip((self.teacher.mean, self.teacher.deviation), statistics, strict=True):
            buffer.copy_(values.view(-1, 1, 1))

    def encode(self, images: Tensor) -> Levels:
        """The teacher's descriptions."""
        return (self.teacher(self.pixels(images)),)

    def forward(self, encoded: Levels, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """All four losses; of held-out parts without hard features, penalty, augmentation and dropout."""
        colours = images.float().permute(0, 3, 1, 2)
        student, second = self._student(self.pixels.normalised(colours))
        if generator is not None:
            colours = self.augment(colours, generator)
            _, second = self._student(self.pixels.normalised(colours))
        pixels = self.pixels.normalised(colours)
        rebuilt = self.autoencoder(pixels, generator).float()
        described = encoded[0] if generator is None else self.teacher(pixels).float()
        with full_precision(images):
            hard_share = 0.0 if generator is None else self.settings.hard_share
            loss = self.settings.low_weight * hard_feature_loss(encoded[0], student, hard_share)
            loss = loss + neighbourhood_loss(encoded[0], student, "squared", self.settings)
            loss = loss + element_map(described, rebuilt, "squared").mean()
            loss = loss + element_map(rebuilt, second, "squared").mean()
        if generator is not None and self.settings.penalty_weight:
            drawn = torch.randint(len(self._other_images), (len(images),), generator=generator)
            of_others, _ = self._student(self.pixels(self._other_images[drawn].to(images.device)))
            loss = loss + self.settings.penalty_weight * of_others.square().mean()
        return loss

    def augment(self, colours: Tensor, generator: torch.Generator) -> Tensor:
        """Brightness, contrast or saturation of each of (N, 3, H, W) in 0..255 changed by a factor near one."""
        kinds = torch.randint(3, (len(colours),), generator=generator).to(colours.device)
        change = self.settings.augmentation * (2 * torch.rand(len(colours), 1, 1, 1, generator=generator) - 1)
        grey = (colours * colours.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
        origins = torch.stack([torch.zeros_like(grey), grey.mean((2, 3), keepdim=True).expand_as(grey), grey])
        origin = origins[kinds, torch.arange(len(colours), device=colours.device)]
        return (colours + change.to(colours.device) * (colours - origin)).clamp(0, 255)

    def calibrate(self, images: Image) -> None:
        """Quantiles of the maps."""
        self.normalisation.fit(self.maps().compare, images)

    def maps(self) -> EfficientAdMaps:
        """Sharing all parameters."""
        return EfficientAdMaps(self.teacher, self.student, self.autoencoder, self.normalisation).eval()

    @cached_property
    def _other_images(self) -> Tensor:
        return torch.from_numpy(procedural_images(self.settings.penalty_images, _PENALTY_SEED))

    def _student(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What the student says in the teacher's place and in the autoencoder's, float32 (N, 384, 64, 64) each."""
        said = self.student(pixels).float()
        return said[:, :DESCRIPTION_CHANNELS], said[:, DESCRIPTION_CHANNELS:]


class EfficientAdMaps(nn.Module):
    """Images → the teacher's and student's element map, and the normalised maps in two ways.

    Args:
        teacher, student, autoencoder, normalisation: of an `EfficientAd`.
    """

    def __init__(
        self,
        teacher: DescriptionTeacher,
        student: nn.Sequential,
        autoencoder: Autoencoder,
        normalisation: MapNormalisation,
    ) -> None:
        super().__init__()
        self.pixels = Pixels()
        self.teacher = teacher
        self.student = student
        self.autoencoder = autoencoder
        self.normalisation = normalisation
        self.to(normalisation.low.device)

    def compare(self, images: Tensor) -> Tensor:
        """uint8 (N, 256, 256, 3) → the maps as they are, (N, K, 64, 64).

        Student against teacher; unless `snc` is `none`, their neighbourhoods; student against autoencoder.
        """
        pixels = self.pixels(images)
        described = self.teacher(pixels)
        said = self.student(pixels)
        rebuilt = self.autoencoder(pixels)
        first, second = said[:, :DESCRIPTION_CHANNELS], said[:, DESCRIPTION_CHANNELS:]
        maps = consistency_maps([described], [first], "squared", self.normalisation.settings, "sum")
        return torch.cat([maps, element_map(rebuilt, second, "squared").unsqueeze(1)], dim=1)

    def forward(self, images: Tensor) -> Maps:
        """uint8 (N, 256, 256, 3) → what `MapNormalisation` gives."""
        maps: Maps = self.normalisation(self.compare(images))
        return maps


def hard_feature_loss(teacher: Tensor, student: Tensor, hard_share: float) -> Tensor:
    """Mean of the squared differences from their quantile `hard_share` upwards: two (N, C, H, W) → a scalar."""
    squared = (teacher - student).square().flatten()
    count = max(1, round((1 - hard_share) * squared.numel()))
    return squared.topk(count).values.mean()


_PAPER = MappingProxyType(
    {
        "optimiser": "adamw",
        "lr": 1e-4,
        "weight_decay": 1e-5,
        "betas": (0.9, 0.999),
        "decay_share": 0.05,
        "epochs": 340,
        "batch": 1,
        "precision": "float32",
        "score_rule": "max",
    }
)
KIND = Kind(
    "EfficientAD",
    EfficientAdSettings,
    EfficientAd,
    fuse,
    recipes={"small": _PAPER, "medium": _PAPER},
    named={},
    parts=(
        ("teacher.", "teacher"),
        ("student.", "student"),
        ("autoencoder.encoder.", "encoder"),
        ("autoencoder.", "decoder"),
    ),
    ablations=ABLATIONS,
)
