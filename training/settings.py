"""Everything that decides a training's result, in one place and checked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge.manifest import Fusion, ScoreRule
from training.data.settings import DataSettings
from training.networks.backbones import BackboneName
from training.networks.tfanet import PresetName

Precision = Literal["float32", "bfloat16"]
FeatureScale = Literal["deviation", "none"]
HeadBias = Literal["mean", "zero"]
_Share = Annotated[float, Field(ge=0, le=1)]


class TrainSettings(BaseModel):
    """How to train; where a default is not the paper's, its description says so."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset: PresetName = "tiny"
    backbone: BackboneName = "resnet18"
    templates: int = Field(default=1, ge=0, le=16, description="good parts in the sequence; 0 reconstructs directly")
    normalise_template: bool = Field(default=True, description="False as in the authors' release")
    feature_scale: FeatureScale = Field(
        default="deviation",
        description="each channel divided by its standard deviation over good parts; the paper has none",
    )
    head_bias: HeadBias = Field(
        default="mean", description="where the last layer's bias begins: the good parts' mean cell; the paper's is zero"
    )
    seed: int = Field(default=0, ge=0, description="of initialisation, order, masking and the held-out split")
    epochs: int = Field(default=40, ge=1, description="passes over the images at most; the paper's is 400")
    batch: int = Field(default=4, ge=1, description="images per step, over all processes")
    lr: float = Field(default=1e-4, gt=0, description="AdamW's rate")
    warmup_steps: int = Field(default=0, ge=0, description="steps over which the rate rises; the paper has none")
    decay_share: _Share = Field(
        default=0.0, description="the rate falls linearly to zero over this last share of the steps; the paper's is 0"
    )
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.01, ge=0)
    mask_range: tuple[_Share, _Share] = Field(
        default=(0.0, 0.75), description="each batch drops a share of its input tokens drawn from this range"
    )
    precision: Precision = Field(default="bfloat16", description="of the transformer's matrices; the rest is float32")
    patience: int = Field(
        default=0, ge=0, description="stop after so many epochs without a lower held-out loss; 0 never stops early"
    )
    snapshots: bool = Field(default=False, description="keep the weights of every epoch")
    score_rule: ScoreRule = Field(default="std", description="how a map becomes an image's score")
    fusion: Fusion = Field(
        default="direction", description="how the maps of direction and distance become one; the paper's is product"
    )
    data: DataSettings = DataSettings()

    @model_validator(mode="after")
    def _check(self) -> TrainSettings:
        low, high = self.mask_range
        if low > high:
            raise ValueError(f"mask_range {low} to {high} is empty")
        if self.templates == 0 and high > 0:
            raise ValueError("mask_range has to be 0 0 without a template: a dropped token could not be reconstructed")
        return self


_QUICK = {"warmup_steps": 50, "decay_share": 0.5, "epochs": 100}
# The rates fall as the networks grow; those of `small` and `base` follow the paper's and were not searched for.
RECIPES: Mapping[PresetName, Mapping[str, Any]] = MappingProxyType(
    {
        "tiny": MappingProxyType({**_QUICK, "lr": 1e-3}),
        "small": MappingProxyType({**_QUICK, "lr": 5e-4}),
        "base": MappingProxyType({**_QUICK, "lr": 1e-4}),
    }
)
_PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "preset": "base",
        "backbone": "wide_resnet50_2",
        "feature_scale": "none",
        "head_bias": "zero",
        "epochs": 400,
        "batch": 4,
        "lr": 1e-4,
        "decay_share": 0.0,
        "fusion": "product",
        "data": {"held_out_share": 0.0},
    }
)
NAMED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": _PAPER,
        "released_code": MappingProxyType(
            {**_PAPER, "normalise_template": False, "mask_range": (0.0, 0.0), "snapshots": True}
        ),
    }
)


def starting_point(named: str | None, preset: PresetName | None) -> dict[str, Any]:
    """Where the options of a command begin: one of NAMED, or the recipe for a preset, `tiny` if none is given."""
    if named is not None:
        return dict(NAMED[named])
    preset = preset or "tiny"
    return {"preset": preset, **RECIPES[preset]}
