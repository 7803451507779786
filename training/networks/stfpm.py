"""STFPM: a student with the teacher's architecture, from scratch, predicts the teacher's layers 1–3.

G. Wang, S. Han, E. Ding and D. Huang, "Student-teacher feature pyramid matching for anomaly detection", BMVC 2021.
With SNC it is a base of a reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available.

From the paper: ResNet-18, ½‖t̂ − ŝ‖² = 1 − cos per position, the levels' maps multiplied (`level_fusion`), and with the
configuration `paper` stochastic gradient descent with momentum, 100 epochs of batches of 32. Decisions of ours: maps
are multiplied at 64×64 and then upsampled, instead of the reverse; the Gaussian of all detectors of this project
smooths them; the usual recipe is a shorter one; and the student sees each image with its own mean colour and deviation
taken out (`student_colours`): neither brighter light nor zero padding is then anything that it could take for a defect
(decision 0016).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, get_args

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from training.networks.backbones import Backbone, BackboneName, build_backbone
from training.networks.fcl import ABLATIONS, FclSettings, LevelFusion, fuse
from training.networks.fcl_pyramid import Levels, PyramidPair
from training.networks.trainable import Bool, Change, Kind

StudentColours = Literal["image", "imagenet"]
POOL = 16
MIN_VARIANCE = 4e-4
"""Of about one grey level: parts of one colour alone are not blown up."""


class StfpmSettings(FclSettings):
    """Student and maps."""

    preset: Literal["standard"] = "standard"
    level_fusion: LevelFusion = Field(default="product", description="how the maps of layers 1–3 become one")
    student_colours: StudentColours = Field(
        default="image", description="what the student's image is normalised with; the paper's is imagenet"
    )


class StfpmStudent(nn.Module):
    """A backbone to be trained from scratch.

    Args:
        name: which one.
        colours: what it is told of them.
    """

    def __init__(self, name: BackboneName, colours: StudentColours) -> None:
        super().__init__()
        self.network = build_backbone(name)
        self.apply(init_convolution)
        self.colours = colours

    def forward(self, pixels: Tensor, _teacher: Levels) -> Levels:
        """Normalised RGB (N, 3, H, W), with `image` square and a multiple of 16 pixels → layers 1–3."""
        levels: Levels = self.network(pixels if self.colours == "imagenet" else standardised(pixels))[1:]
        return levels


def standardised(pixels: Tensor) -> Tensor:
    """Each channel of each image with mean 0 and deviation 1, or a little less if it hardly varies: (N, C, H, W)."""
    centred = pixels - _mean(pixels)
    return centred / _mean(centred.square()).clamp(min=MIN_VARIANCE).sqrt()


def _mean(pixels: Tensor) -> Tensor:
    """(N, C, 1, 1); by blocks, for a sum of all pixels is too much for half precision."""
    return F.avg_pool2d(F.avg_pool2d(pixels, POOL), pixels.shape[-1] // POOL)


def stfpm(backbone: Backbone, settings: StfpmSettings, ignored: Bool | None) -> PyramidPair:
    """An untrained pair; `backbone` is of the kind that the settings name."""
    student = StfpmStudent(settings.backbone, settings.student_colours)
    return PyramidPair(backbone, student, settings, settings.level_fusion, ignored)


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
    stfpm,
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
