"""Everything that decides a training's result, in one place and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_validator

from edge.manifest import ScoreRule
from training.data.settings import DataSettings
from training.networks.table import DETECTORS
from training.networks.trainable import DetectorSettings, Kind

Precision = Literal["float32", "bfloat16"]
Optimiser = Literal["adamw", "sgd"]
Decay = Literal["linear", "cosine"]
DEFAULT_DETECTOR = "tfanet"
_Share = Annotated[float, Field(ge=0, le=1)]


class TrainSettings(BaseModel):
    """How to train; where a default is not the paper's of TFA-Net, its description says so."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    detector: str = Field(default=DEFAULT_DETECTOR, description="which one")
    network: SerializeAsAny[DetectorSettings] = Field(description="the detector's own settings")
    seed: int = Field(default=0, ge=0, description="of initialisation, order, masking and the held-out split")
    epochs: int = Field(default=40, ge=1, description="passes over the images at most")
    batch: int = Field(default=4, ge=1, description="images per step, over all processes")
    lr: float = Field(default=1e-4, gt=0, description="the optimiser's rate")
    warmup_steps: int = Field(default=0, ge=0, description="steps over which the rate rises")
    decay: Decay = Field(default="linear", description="how the rate falls to zero")
    decay_share: _Share = Field(default=0.0, description="the rate falls over this last share of the steps")
    optimiser: Optimiser = Field(default="adamw", description="how the weights follow the gradient")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="of adamw")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=0.01, ge=0, description="of either")
    precision: Precision = Field(default="bfloat16", description="of matrix products; losses are float32")
    patience: int = Field(
        default=0, ge=0, description="stop after so many epochs without a lower held-out loss; 0 never stops early"
    )
    snapshots: bool = Field(default=False, description="keep the weights of every epoch")
    score_rule: ScoreRule = Field(default="std", description="how a map becomes an image's score")
    data: DataSettings = DataSettings()

    @property
    def kind(self) -> Kind[Any]:
        """The detector's line of the table."""
        return DETECTORS[self.detector]

    @field_validator("detector")
    @classmethod
    def _known(cls, detector: str) -> str:
        if detector not in DETECTORS:
            raise ValueError(f"there is no detector '{detector}', only {', '.join(DETECTORS)}")
        return detector

    @model_validator(mode="before")
    @classmethod
    def _of_the_detector(cls, given: Any) -> Any:
        """The detector's settings in its own type; all defaults where none are given."""
        kind = DETECTORS.get(given.get("detector", DEFAULT_DETECTOR)) if isinstance(given, Mapping) else None
        if kind is None or isinstance(given.get("network"), kind.settings):
            return given
        return {**given, "network": kind.settings.model_validate(given.get("network", {}))}


def starting_point(detector: str, named: str | None, preset: str | None) -> dict[str, Any]:
    """Where the options of a command begin: one of the detector's named configurations, or the recipe for a preset."""
    kind = DETECTORS[detector]
    if named is not None:
        return {"detector": detector, **kind.named[named]}
    preset = preset or kind.settings().preset
    return {"detector": detector, "network": {"preset": preset}, **kind.recipes.get(preset, {})}
