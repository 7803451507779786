"""STFPM: a student with the teacher's architecture, from scratch, predicts the teacher's layers 1–3.

G. Wang, S. Han, E. Ding and D. Huang, "Student-teacher feature pyramid matching for anomaly detection", BMVC 2021.
With SNC it is a base of a reconstruction of Li & Hu, IEEE TIM 2024, where the paper's text was not available.

From the paper: ResNet-18, ½‖t̂ − ŝ‖² = 1 − cos per position, the levels' maps multiplied (`level_fusion`), and with the
configuration `paper` stochastic gradient descent with momentum, 100 epochs of batches of 32. Decisions of ours: maps
are multiplied at 64×64 and then upsampled, instead of the reverse; the Gaussian of all detectors of this project
smooths them; the usual recipe is a shorter one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from training.networks.backbones import Backbone, BackboneName, build_backbone
from training.networks.fcl import ABLATIONS, FclSettings, LevelFusion, fuse
from training.networks.fcl_pyramid import Levels, PyramidPair
from training.networks.trainable import Bool, Kind


class StfpmSettings(FclSettings):
    """Student and maps."""

    preset: Literal["standard"] = "standard"
    level_fusion: LevelFusion = Field(default="product", description="how the maps of layers 1–3 become one")


class StfpmStudent(nn.Module):
    """A backbone to be trained from scratch."""

    def __init__(self, name: BackboneName) -> None:
        super().__init__()
        self.network = build_backbone(name)
        self.apply(init_convolution)

    def forward(self, pixels: Tensor, _teacher: Levels) -> Levels:
        """Normalised RGB (N, 3, H, W) → layers 1–3."""
        levels: Levels = self.network(pixels)[1:]
        return levels


def stfpm(backbone: Backbone, settings: StfpmSettings, ignored: Bool | None) -> PyramidPair:
    """An untrained pair; `backbone` is of the kind that the settings name."""
    return PyramidPair(backbone, StfpmStudent(settings.backbone), settings, settings.level_fusion, ignored)


def init_convolution(module: nn.Module) -> None:
    """He's initialisation of convolutions as torchvision has it, for `Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


_PAPER = MappingProxyType(
    {
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
    ablations=ABLATIONS,
)
