"""The verdict: the one message that every trigger is answered with, and how it is kept within its size.

Field names follow OPC 40100-1 ResultType where it has them. Boxes, areas and centroids are in pixels of the mask;
`mask.to_image` takes them to the camera's image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from edge.config import TopicSegment
from edge.manifest import Precision, Sha256
from edge.wire import (
    SCHEMA_VERSION,
    Count,
    Milliseconds,
    PrintableId,
    Reason,
    SchemaVersion,
    Text,
    Ulid,
    Uri,
    UtcText,
    Version,
    WireModel,
)

VERDICT_MAX_BYTES = 4096

Outcome = Literal["OK", "NG", "INVALID", "TIMEOUT"]


class ResultState(IntEnum):
    """OPC 40100-1 ResultState."""

    COMPLETED = 1
    ABORTED = 3
    FAILED = 4


RESULT_STATES: dict[Outcome, ResultState] = {
    "OK": ResultState.COMPLETED,
    "NG": ResultState.COMPLETED,
    "INVALID": ResultState.FAILED,
    "TIMEOUT": ResultState.ABORTED,
}


class Station(WireModel):
    """Where it was judged, in ISA-95 order."""

    site: TopicSegment
    area: TopicSegment
    line: TopicSegment
    station: TopicSegment


class CameraShot(WireModel):
    """What the camera says about the frame."""

    serial: Text
    frame_id: Count | None = Field(default=None, description="the camera's own counter; null without a frame")
    exposure_us: float | None = Field(default=None, ge=0)


class Part(WireModel):
    """The part in front of the camera, as far as the line told the station."""

    part_id: PrintableId | None = None
    lot: PrintableId | None = None
    trigger_id: Count | None = None


class Recipe(WireModel):
    """The product's recipe."""

    id: Text
    version: Version


class Model(WireModel):
    """What computed the score."""

    name: Text
    version: Version
    precision: Precision
    engine_sha256: Sha256


class Score(WireModel):
    """The anomaly score and the limits it was held against."""

    image: float = Field(description="anomaly score of the image")
    threshold: float = Field(description="from it upwards the part is NG")
    warn_threshold: float | None = Field(default=None, description="from it upwards a person should look")
    calibrated_fpr: float | None = Field(
        default=None, ge=0, le=1, description="share of good parts that the threshold was calibrated to reject"
    )


class Defect(WireModel):
    """One connected spot of the mask, in mask pixels."""

    id: Count
    bbox: tuple[Count, Count, Count, Count] = Field(description="x, y, width, height (COCO)")
    area_px: Count
    area_frac: Annotated[float, AfterValidator(lambda share: round(share, 6))] = Field(
        ge=0, le=1, description="share of the mask's area"
    )
    score_max: float = Field(description="largest value of the anomaly map inside")
    centroid: tuple[float, float] = Field(description="x, y")


class Mask(WireModel):
    """The defect mask at model resolution: inline as COCO run lengths, or where to get it."""

    encoding: Literal["coco_rle", "png"]
    size: tuple[Count, Count] = Field(description="height, width")
    to_image: tuple[float, float, float, float, float, float] = Field(
        description="a b c d e f: mask pixel (x, y) lies at (a·x + b·y + c, d·x + e·y + f) of the camera's image"
    )
    counts: str | None = Field(default=None, pattern=r"^[0-o]*$", description="COCO compressed run lengths")
    uri: Uri | None = Field(default=None, description="where the bytes are when they are not inline")

    @model_validator(mode="after")
    def _inline_or_elsewhere(self) -> Mask:
        if (self.counts is None) == (self.uri is None):
            raise ValueError("a mask has either counts or uri")
        if self.encoding == "png" and self.uri is None:
            raise ValueError("a PNG mask is never inline")
        return self


class Timing(WireModel):
    """Where the time went, in milliseconds; null for a step that was not taken."""

    grab: Milliseconds | None = None
    preprocess: Milliseconds | None = None
    infer: Milliseconds | None = None
    postprocess: Milliseconds | None = None
    total: Milliseconds | None = None


class Evidence(WireModel):
    """Where the image is kept."""

    image_uri: Uri | None = None
    heatmap_uri: Uri | None = None
    sha256: Sha256 | None = Field(default=None, description="of the image file")


class Quality(WireModel):
    """Whether the frame may be trusted."""

    incomplete: bool
    brightness: float | None = Field(default=None, description="mean grey level, 0..255")
    sharpness: float | None = Field(default=None, description="variance of the Laplacian")


class Verdict(WireModel):
    """One per trigger, on `verdict`."""

    schema_uri: Literal["urn:tfanet-edge:verdict:1"] = Field(default="urn:tfanet-edge:verdict:1", alias="schema")
    schema_version: SchemaVersion = SCHEMA_VERSION
    result_id: Ulid
    boot_id: Ulid
    seq: Count = Field(description="counts verdicts of one boot without a gap")
    ts: UtcText
    ts_camera: int | None = Field(
        default=None, ge=-(2**63), lt=2**63, description="the camera's clock in nanoseconds; its origin is the camera's"
    )
    station: Station
    camera: CameraShot
    part: Part = Part()
    recipe: Recipe
    model: Model
    result_state: ResultState = Field(description="OPC 40100-1: 1 completed, 3 aborted, 4 failed")
    is_simulated: bool
    historical: bool = Field(default=False, description="true when it answers a replay request")
    verdict: Outcome
    reason: Reason | None = None
    score: Score | None = Field(default=None, description="null when nothing was computed")
    defects: tuple[Defect, ...] = ()
    defects_total: Count = Field(default=0, description="defects found; more than listed when the list was shortened")
    mask: Mask | None = None
    timing_ms: Timing = Timing()
    evidence: Evidence | None = None
    quality: Quality | None = Field(default=None, description="null without a frame")

    @model_validator(mode="after")
    def _says_what_it_means(self) -> Verdict:
        if self.result_state is not RESULT_STATES[self.verdict]:
            raise ValueError(f"{self.verdict} has result_state {RESULT_STATES[self.verdict].value}")
        if self.verdict in ("OK", "NG") and self.score is None:
            raise ValueError(f"{self.verdict} needs a score")
        if self.verdict in ("INVALID", "TIMEOUT") and not self.reason:
            raise ValueError(f"{self.verdict} needs a reason")
        if self.defects_total < len(self.defects):
            raise ValueError("defects_total is less than the defects listed")
        return self


@dataclass(frozen=True, slots=True)
class FittedVerdict:
    """A verdict within its size.

    Attributes:
        verdict: the message as it is sent.
        payload: its encoding, at most 4096 bytes.
        mask_payload: what goes to `mask/{result_id}`: run lengths that had to leave the message, or a PNG; else None.
    """

    verdict: Verdict
    payload: bytes
    mask_payload: bytes | None


def fit_verdict(verdict: Verdict) -> FittedVerdict:
    """Encode a verdict; what does not fit into 4096 bytes leaves in this order: inline mask, smallest defects."""
    payload = verdict.encode()
    mask_payload = None
    if len(payload) > VERDICT_MAX_BYTES and verdict.mask is not None and verdict.mask.counts is not None:
        mask_payload = verdict.mask.counts.encode()
        elsewhere = verdict.mask.model_copy(update={"counts": None, "uri": f"mask/{verdict.result_id}"})
        verdict = verdict.model_copy(update={"mask": elsewhere})
        payload = verdict.encode()
    if len(payload) > VERDICT_MAX_BYTES:
        verdict = verdict.model_copy(update={"defects": _largest_that_fit(verdict)})
        payload = verdict.encode()
    return FittedVerdict(verdict, payload, mask_payload)


def _largest_that_fit(verdict: Verdict) -> tuple[Defect, ...]:
    room_bytes = VERDICT_MAX_BYTES - len(verdict.model_copy(update={"defects": ()}).encode())
    kept = []
    for defect in sorted(verdict.defects, key=lambda spot: -spot.area_px):
        room_bytes -= len(defect.encode()) + 1
        if room_bytes < 0:
            break
        kept.append(defect)
    return tuple(kept)
