"""STFPM: a student with the teacher's architecture, from scratch, predicts the teacher's layers 1–3.

G. Wang, S. Han, E. Ding and D. Huang, "Student-teacher feature pyramid matching for anomaly detection", BMVC 2021.
With SNC it is a base of a reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available.

From the paper: ResNet-18, ½‖t̂ − ŝ‖² = 1 − cos per position, the levels' maps multiplied (`level_fusion`), and with the
configuration `paper` stochastic gradient descent with momentum, 100 epochs of batches of 32. Decisions of ours: maps
are multiplied at 64×64 and then upsampled, instead of the reverse; the Gaussian of all detectors of this project
smooths them; the usual recipe is a shorter one; the student sees the image in the product's own mean colour and
deviation (`student_colours`). Zero padding is then no edge to it: of parts whose brightness ImageNet's mean is not, a
student otherwise sees the border many times stronger than anything inside, and never gets it right (decision 0016).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from edge.frame import Image
from training.image_sets import evenly
from training.networks.backbones import Backbone, BackboneName, build_backbone
from training.networks.fcl import ABLATIONS, FclSettings, LevelFusion, fuse
from training.networks.fcl_pyramid import Levels, PyramidPair
from training.networks.features import MAX_STATISTICS_IMAGES, channel_statistics
from training.networks.trainable import Bool, Change, Kind

StudentColours = Literal["product", "imagenet"]
MIN_DEVIATION = 0.02
"""About one grey level: parts of one colour alone are not blown up."""


class StfpmSettings(FclSettings):
    """Student and maps."""

    preset: Literal["standard"] = "standard"
    level_fusion: LevelFusion = Field(default="product", description="how the maps of layers 1–3 become one")
    student_colours: StudentColours = Field(
        default="product", description="what the student's image is normalised with; the paper's is imagenet"
    )


class StfpmStudent(nn.Module):
    """A backbone to be trained from scratch.

    Args:
        name: which one.

    Attributes:
        mean, deviation: float32 (3, 1, 1), of the image's normalised channels; 0 and 1 until they are filled.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: BackboneName) -> None:
        super().__init__()
        self.network = build_backbone(name)
        self.apply(init_convolution)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.ones(3, 1, 1))

    def forward(self, pixels: Tensor, _teacher: Levels) -> Levels:
        """Normalised RGB (N, 3, H, W) → layers 1–3."""
        levels: Levels = self.network((pixels - self.mean) / self.deviation)[1:]
        return levels


class StfpmPair(PyramidPair):
    """Teacher and student, who is told the product's colours.

    Args:
        backbone: the teacher.
        settings: of student and maps.
        ignored: see `Trainable`.
    """

    student: StfpmStudent

    def __init__(self, backbone: Backbone, settings: StfpmSettings, ignored: Bool | None) -> None:
        super().__init__(backbone, StfpmStudent(settings.backbone), settings, settings.level_fusion, ignored)
        self.told = settings.student_colours == "product"

    def prepare(self, images: Image) -> None:
        """Take the colours of at most 64 of the images."""
        if not self.told:
            return
        chosen = torch.from_numpy(images[evenly(len(images), MAX_STATISTICS_IMAGES)])
        mean, deviation = channel_statistics(self.pixels(image.to(self.device)) for image in torch.split(chosen, 1))
        self.student.mean.copy_(mean.view(-1, 1, 1))
        self.student.deviation.copy_(deviation.clamp(min=MIN_DEVIATION).view(-1, 1, 1))


def init_convolution(module: nn.Module) -> None:
    """He's initialisation of convolutions as torchvision has it, for `Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


_PAPER = MappingProxyType(
    {
        "network": {"student_colours": "imagenet"},
        "optimiser": "sgd",
        "lr": 0.4,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "epochs": 100,
        "batch": 32,
        "precision": "float32",
        "score_rule": "max",
    }
)
# For minutes of one CPU core. Optimiser, batch and rate gave a low loss of held-out parts of one texture.
QUICK = MappingProxyType(
    {
        "lr": 3e-3,
        "betas": (0.9, 0.999),
        "weight_decay": 1e-4,
        "epochs": 100,
        "batch": 2,
        "warmup_steps": 10,
        "decay_share": 0.5,
        "score_rule": "max",
    }
)
KIND = Kind(
    "STFPM",
    StfpmSettings,
    StfpmPair,
    fuse,
    recipes={"standard": QUICK},
    named={"paper": _PAPER},
    parts=(
        ("backbone.layer1.", "teacher's layer1"),
        ("backbone.layer2.", "teacher's layer2"),
        ("backbone.layer3.", "teacher's layer3"),
        ("backbone.", "teacher's stem"),
        ("student.network.layer1.", "student's layer1"),
        ("student.network.layer2.", "student's layer2"),
        ("student.network.layer3.", "student's layer3"),
        ("student.", "student's stem"),
    ),
    ablations=(
        *(Change("student's colours", name, {"student_colours": name}) for name in get_args(StudentColours)),
        *ABLATIONS,
    ),
)
