"""`manifest.json`: everything a bundle says of itself. Pure data; `edge.bundle` reads, checks and writes it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 2
MAX_NAME_LENGTH, MAX_VERSION_LENGTH = 64, 32
MANIFEST_NAME = "manifest.json"

Precision = Literal["fp32", "fp16", "int8"]
ScoreRule = Literal["std", "max", "top1pct"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Preprocessing(_Strict):
    """How a camera frame becomes the network's input; `edge.preprocess` is its only implementation."""

    input_size_px: tuple[int, int] = Field(description="height, width of the network's input")
    resize: Literal["area"] = Field(
        default="area", description="pixel area relation when shrinking, bilinear when enlarging"
    )
    roi_xywh: tuple[int, int, int, int] | None = Field(
        default=None, description="crop in camera pixels, before the resize"
    )
    white_level: float | None = Field(
        default=None, gt=0, description="sample of an image file that becomes 255; None takes the file type's largest"
    )


class Normalisation(_Strict):
    """Per-channel mean and standard deviation on RGB in 0..1; applied inside the exported graph."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Parity(_Strict):
    """How far a variant strays from its reference on real images, as measured when it was made."""

    reference: str = Field(description="what computed the other side")
    images: int = Field(gt=0, description="good parts and such with synthetic defects")
    data_sha256: Sha256 = Field(description="hash over the good parts' pixels")
    map_error: float = Field(ge=0, description="largest |map - reference|, as a share of the reference's largest value")
    score_error: float = Field(ge=0, description="largest |score - reference|, as a share of the reference score")
    score_correlation: float | None = Field(description="Pearson's; None when either side's scores are all equal")
    threshold: float = Field(gt=0, description="image score from which a part was NG when flips were counted")
    flips: int = Field(ge=0, description="verdicts that changed")


class QuantisedGroup(_Strict):
    """A part of the network that computes in INT8, wholly or but for some layers."""

    name: str
    method: Literal["minmax", "percentile", "mse", "entropy"] = Field(description="how its ranges were chosen")
    layers: int = Field(gt=0, description="in INT8")
    of_layers: int = Field(gt=0, description="with weights")


class Quantisation(_Strict):
    """What of a variant computes in INT8, and where its ranges came from."""

    groups: tuple[QuantisedGroup, ...] = Field(min_length=1)
    int8_share: float = Field(gt=0, le=1, description="of all multiply-accumulates of a frame")
    images: int = Field(gt=0, description="good parts that the ranges were taken from")
    data_sha256: Sha256 = Field(description="hash over their pixels")


class Variant(_Strict):
    """One ONNX file and how closely it must reproduce the golden vectors."""

    file: str
    opset: int
    weights_dtype: Literal["float32", "float16", "int8"] = Field(description="how most weights are stored in the file")
    map_tolerance: float = Field(
        gt=0, description="largest |map - golden| allowed, as a share of the golden map's maximum"
    )
    score_tolerance: float = Field(gt=0, description="largest |score - golden| allowed, as a share of the golden score")
    parity: Parity | None = Field(default=None, description="None where it was not measured")
    quantisation: Quantisation | None = Field(default=None, description="of an INT8 variant")


class Threshold(_Strict):
    """A limit fitted on held-out good parts only, by split-conformal prediction."""

    value: float = Field(gt=0)
    false_reject_rate: float = Field(gt=0, lt=1, description="share of good parts that may reach it, as asked for")
    guaranteed_rate: float = Field(
        gt=0, lt=1, description="probability that a new good part reaches it, at most; above the asked where n is small"
    )
    interval: tuple[float, float] = Field(
        description="the share of all good parts that reach it lies in here for 90 % of the draws of n parts"
    )
    n: int = Field(gt=0, description="good images it was fitted on")
    data_sha256: Sha256 = Field(description="hash over the images' pixels")


class PixelThreshold(Threshold):
    """The same for pixels: a good part reaches it when more than `pixel_share` of its pixels do."""

    pixel_share: float = Field(gt=0, lt=1)


class Golden(_Strict):
    """Inputs and reference outputs: `image` uint8 (K,H,W,3), `anomaly_map` float32 (K,H,W), `score` float32 (K,)."""

    file: str
    reference: str = Field(description="what computed the reference outputs")


class Provenance(_Strict):
    """Where the model came from."""

    command: str
    code_version: str
    seed: int
    epochs: int
    train_images: int
    train_data_sha256: Sha256
    backbone_weights: str = Field(description="where the backbone's weights came from")


class Manifest(_Strict):
    """`manifest.json`."""

    schema_version: Literal[2]
    name: str = Field(min_length=1, max_length=MAX_NAME_LENGTH)
    version: str = Field(min_length=1, max_length=MAX_VERSION_LENGTH)
    detector: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    preset: str
    backbone: str
    preprocessing: Preprocessing
    normalisation: Normalisation
    score_rule: ScoreRule
    fusion: str = Field(description="how the detector's maps became one")
    image_threshold: Threshold
    pixel_threshold: PixelThreshold
    template: str
    golden: Golden
    variants: dict[Precision, Variant] = Field(min_length=1)
    provenance: Provenance
    files: dict[str, Sha256] = Field(description="every other file of the bundle and its sha256")
