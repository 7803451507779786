"""The door every detector goes through: what a training, an evaluation and an export ask of one.

An image is uint8 (N, 256, 256, 3) RGB everywhere, as in the exported graph. Nothing but the module's state dict is
kept, without the frozen backbone's part, which a run keeps once in a file of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edge.frame import Image
from training.networks.backbones import Backbone, BackboneName

Bool = npt.NDArray[np.bool_]
Maps = tuple[Tensor, ...]
"""One small map or several, float32 (…, 64, 64) each; the first is the error that the loss is about."""
Fuse = Callable[[Maps, Tensor, str], Tensor]
"""Small maps, the matrix (256, 64) of `smoothing_matrix` and a fusion's name → (…, 256, 256)."""


class DetectorSettings(BaseModel):
    """A detector's own part of the settings; a kind narrows `preset` and `fusion` to a Literal and adds its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset: str
    backbone: BackboneName = Field(default="resnet18", description="frozen network whose features are looked at")
    fusion: str

    @property
    def details(self) -> str:
        """All but preset, backbone and fusion, for people."""
        return ", ".join(f"{name} {value}" for name, value in self if name not in DetectorSettings.model_fields)


SettingsT = TypeVar("SettingsT", bound=DetectorSettings)


class Trainable(nn.Module, ABC):
    """A detector in training: a module whose forward is the loss.

    Args:
        backbone: frozen, in eval mode; stays so.
        ignored: bool (256, 256), what is not judged; None for none. A loss need not look at it, maps are cut elsewhere.

    Attributes:
        needs_held_out: whether `calibrate` has to be given images.
    """

    needs_held_out = False

    def __init__(self, backbone: Backbone, ignored: Bool | None) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.ignored = ignored
        self.train()

    def train(self, mode: bool = True) -> Trainable:
        """Like `Module.train`, but the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    @abstractmethod
    def prepare(self, images: Image) -> None:
        """Fill buffers from the good parts to train on, on `device`; once, before the first epoch, in every process.

        Not called for a training that goes on, nor for a trained network: both have the state dict.
        """

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the frozen part says of images, (N, …) each; called without gradient, kept in float16 where that fits.

        Empty where a training step needs nothing but the images.
        """

    @abstractmethod
    def forward(self, encoded: tuple[Tensor, ...], images: Tensor, generator: torch.Generator | None) -> Tensor:
        """The mean loss of good parts, a float32 scalar.

        Args:
            encoded: of the images, float32.
            images: the images themselves.
            generator: on the CPU; all randomness comes from it, and in every process the same. None for the loss of
                held-out parts, which has none.
        """

    def calibrate(self, images: Image) -> None:
        """Fill buffers from held-out good parts, in eval mode; after each epoch whose weights are kept.

        Nothing that is filled here may change what `forward` returns.
        """

    @abstractmethod
    def maps(self) -> nn.Module:
        """The trained network as it is exported, in eval mode, on the CPU, constants computed: image → `Maps`.

        It may share parameters with this module. What no fusion reads is removed from the exported graph.
        """


@dataclass(frozen=True)
class Change:
    """One row of a table that tells what a part of a recipe is worth.

    Attributes:
        group: the table, what is varied.
        name: to what.
        fields: of the detector's own settings or of the common ones, with their values.
        picks_on_test: the best of all epochs on test images, as a release picks it, in place of the result.
    """

    group: str
    name: str
    fields: Mapping[str, Any]
    picks_on_test: bool = False


@dataclass(frozen=True)
class Kind(Generic[SettingsT]):
    """A line of the table of detectors.

    Attributes:
        title: for people.
        settings: all defaults those of the first preset.
        build: an untrained one of a frozen backbone, settings and what is ignored; on the CPU, from PyTorch's seed.
        fuse: how the maps become one.
        recipes: by preset, where common settings differ from their defaults.
        named: configurations to begin with instead: common settings, and `network` with the detector's own.
        parts: beginnings of names below `maps()`, the first that fits counts, and what the part of the network is
            called; INT8 is decided part by part. An empty beginning names the part of products without a name.
        ablations: what the verb `ablate` varies, besides backbone, fusion and score rule.
    """

    title: str
    settings: type[SettingsT]
    build: Callable[[Backbone, SettingsT, Bool | None], Trainable]
    fuse: Fuse
    recipes: Mapping[str, Mapping[str, Any]]
    named: Mapping[str, Mapping[str, Any]]
    parts: tuple[tuple[str, str], ...]
    ablations: tuple[Change, ...] = ()

    @property
    def fusions(self) -> tuple[str, ...]:
        """Names of the ways in which the maps can become one."""
        return get_args(self.settings.model_fields["fusion"].annotation)


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Float32 within a forward that runs in mixed precision."""
    return torch.autocast(tensor.device.type, enabled=False)
