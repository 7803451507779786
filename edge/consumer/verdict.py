"""A verdict as its receiver sees it: immutable, every field typed. docs/mqtt.md says what each means.

Boxes, areas and centroids are in pixels of the mask; `Mask.in_image` takes them to the camera's image.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from edge.consumer.bitmap import Bitmap, decode_rle
from edge.consumer.png import decode_png
from edge.errors import MessageError

Outcome = Literal["OK", "NG", "INVALID", "TIMEOUT"]


@dataclass(frozen=True, slots=True)
class Station:
    """Where it was judged, in ISA-95 order."""

    site: str
    area: str
    line: str
    station: str

    @property
    def path(self) -> str:
        """The four levels, as they stand in topics."""
        return f"{self.site}/{self.area}/{self.line}/{self.station}"


@dataclass(frozen=True, slots=True)
class Camera:
    """What the camera says about the frame; `frame_id` is its own counter, None without a frame."""

    serial: str
    frame_id: int | None
    exposure_us: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """The part in front of the camera, as far as the line told the station."""

    part_id: str | None
    lot: str | None
    trigger_id: int | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """The product's recipe."""

    id: str
    version: str


@dataclass(frozen=True, slots=True)
class Model:
    """What computed the score."""

    name: str
    version: str
    precision: str
    engine_sha256: str


@dataclass(frozen=True, slots=True)
class Score:
    """The anomaly score; from `threshold` upwards the part is NG. `calibrated_fpr` is a share, 0..1."""

    image: float
    threshold: float
    warn_threshold: float | None
    calibrated_fpr: float | None


@dataclass(frozen=True, slots=True)
class Defect:
    """One connected spot: box x, y, width, height; share of the mask's area, 0..1; highest anomaly inside."""

    id: int
    bbox: tuple[int, int, int, int]
    area_px: int
    area_frac: float
    score_max: float
    centroid: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mask:
    """The defect mask: inline (`counts`), or where its bytes are (`uri`, a topic below the station's).

    Attributes:
        encoding: of the bytes.
        size: height and width in pixels.
        to_image: a b c d e f; mask pixel (x, y) lies at (a·x + b·y + c, d·x + e·y + f) of the camera's image.
        counts: COCO compressed run lengths.
        uri: `mask/{result_id}` when the mask has a message of its own.
    """

    encoding: Literal["coco_rle", "png"]
    size: tuple[int, int]
    to_image: tuple[float, float, float, float, float, float]
    counts: str | None
    uri: str | None

    def in_image(self, x_px: float, y_px: float) -> tuple[float, float]:
        """Where a point of the mask lies in the camera's image; both count from the centre of the first pixel."""
        a, b, c, d, e, f = self.to_image
        return a * x_px + b * y_px + c, d * x_px + e * y_px + f

    def bitmap(self, payload: bytes | None = None) -> Bitmap:
        """The mask's pixels.

        Args:
            payload: what came on `uri`; None for an inline mask.

        Raises:
            MessageError: the mask is not inline and `payload` is None, or either is not what `encoding` and `size` say.
        """
        if self.counts is not None:
            return decode_rle(self.counts, self.size)
        if payload is None:
            raise MessageError("the mask is not in its verdict", f"hand over the message that came on {self.uri}")
        if self.encoding == "coco_rle":
            return decode_rle(payload.decode("ascii", "replace"), self.size)
        bitmap = decode_png(payload)
        if bitmap.size != self.size:
            raise MessageError(f"a PNG of {bitmap.size} pixels for a mask of {self.size}")
        return bitmap


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds per step; None for a step that was not taken."""

    grab: float | None
    preprocess: float | None
    infer: float | None
    postprocess: float | None
    total: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the image is kept."""

    image_uri: str | None
    heatmap_uri: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Quality:
    """Whether the frame may be trusted: mean grey level 0..255, variance of the Laplacian."""

    incomplete: bool
    brightness: float | None
    sharpness: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one trigger.

    Attributes:
        seq: counts the verdicts of one boot without a gap, from 0.
        ts: UTC, to the microsecond.
        ts_camera: the camera's clock in nanoseconds; its origin is the camera's.
        result_state: OPC 40100-1: 1 completed, 3 aborted, 4 failed.
        historical: it answers a request for a replay.
        reason: never None for INVALID and TIMEOUT.
        score: never None for OK and NG.
        defects_total: defects found; more than `defects` when that list was shortened to fit.
    """

    schema_version: str
    result_id: str
    boot_id: str
    seq: int
    ts: datetime
    ts_camera: int | None
    station: Station
    camera: Camera
    part: Part
    recipe: Recipe
    model: Model
    result_state: int
    is_simulated: bool
    historical: bool
    verdict: Outcome
    reason: str | None
    score: Score | None
    defects: tuple[Defect, ...]
    defects_total: int
    mask: Mask | None
    timing_ms: Timing
    evidence: Evidence | None
    quality: Quality | None
