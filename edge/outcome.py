"""The one answer to one trigger, as the pipeline hands it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge.frame import Frame, Image
from edge.quality import Quality
from edge.triggers import Trigger
from edge.verdict import AnomalyMap, Judgement

VerdictKind = Literal["OK", "NG", "INVALID", "TIMEOUT"]


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What is kept of a frame once its memory went back to the camera."""

    frame_id: int
    size_wh: tuple[int, int]
    timestamp_camera_ns: int | None
    exposure_us: float | None
    is_complete: bool

    @classmethod
    def of(cls, frame: Frame) -> FrameFacts:
        """Those of a frame."""
        return cls(frame.frame_id, frame.size_wh, frame.timestamp_camera_ns, frame.exposure_us, frame.is_complete)


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of each stage; None for a stage that was not reached."""

    grab: float | None = None
    preprocess: float | None = None
    infer: float | None = None
    postprocess: float | None = None


@dataclass(frozen=True, slots=True)
class Pictures:
    """Copies for observers: image uint8 (H, W, 3) RGB, anomaly_map float32 (H, W)."""

    image_rgb: Image
    anomaly_map: AnomalyMap | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one answer to one trigger. `reason` is empty for OK and NG."""

    trigger: Trigger
    verdict: VerdictKind
    reason: str
    decided_monotonic_ns: int
    timing_ms: Timing = Timing()
    frame: FrameFacts | None = None
    quality: Quality | None = None
    judgement: Judgement | None = None
    pictures: Pictures | None = None


@dataclass(slots=True)
class Counts:
    """What the pipeline met that no verdict tells."""

    late_frames: int = 0
    unasked_frames: int = 0
    missing_frames: int = 0
    engine_failures: int = 0
