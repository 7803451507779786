"""What the page is told, as plain JSON values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from edge.cameras.camera import CameraState
from edge.config import Identity
from edge.dashboard.scoreboard import Reading
from edge.observer import Inspection

View = Literal["frame", "heatmap", "outline", "thumbnail"]


@dataclass(frozen=True, slots=True)
class StationStatus:
    """How the station is doing besides its verdicts.

    Attributes:
        camera_state: where the camera is between absent and streaming.
        camera_reason: why, for a person; may be empty.
        broker_connected: whether verdicts leave the station.
        outbox_pending: verdicts that wait for the broker.
        throughput_per_s: verdicts per second, measured lately.
    """

    camera_state: CameraState
    camera_reason: str
    broker_connected: bool
    outbox_pending: int
    throughput_per_s: float


StationView = Callable[[], StationStatus]
"""Asked a few times a second from the dashboard's thread; must answer at once."""


def page_state(identity: Identity, reading: Reading, status: StationStatus) -> dict[str, object]:
    """One live update."""
    newest = reading.newest
    return {
        "place": [identity.site, identity.area, identity.line, identity.station],
        "station": asdict(status) | {"camera_streams": status.camera_state is CameraState.STREAM},
        "counts": reading.counts,
        "trend": [(point.seq, point.outcome, point.score, point.threshold) for point in reading.trend],
        "ng": [_rejected(inspection) for inspection in reading.ng],
        "newest": newest and inspection_record(newest),
        "newest_age_s": reading.newest_age_s,
    }


def inspection_record(inspection: Inspection) -> dict[str, object]:
    """Everything the page shows of one part; boxes and centroids are shares (0..1) of the picture."""
    verdict = inspection.verdict
    return {
        "result_id": verdict.result_id,
        "seq": verdict.seq,
        "ts": verdict.ts,
        "part_id": verdict.part.part_id,
        "recipe": f"{verdict.recipe.id} {verdict.recipe.version}",
        "model": f"{verdict.model.name} {verdict.model.version} {verdict.model.precision}",
        "is_simulated": verdict.is_simulated,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "score": verdict.score and verdict.score.image,
        "threshold": verdict.score and verdict.score.threshold,
        "infer_ms": verdict.timing_ms.infer,
        "durable_ms": inspection.durable_ms,
        "views": views(inspection),
        "defects": _defects(inspection),
        "defects_total": verdict.defects_total,
    }


def views(inspection: Inspection) -> list[View]:
    """The pictures that exist of it, besides its thumbnail."""
    if inspection.image_rgb is None:
        return []
    available: list[View] = ["frame"]
    if inspection.anomaly_map is not None:
        available.append("heatmap")
    if inspection.mask is not None:
        available.append("outline")
    return available


def _rejected(inspection: Inspection) -> dict[str, object]:
    verdict = inspection.verdict
    return {
        "result_id": verdict.result_id,
        "seq": verdict.seq,
        "ts": verdict.ts,
        "score": verdict.score and verdict.score.image,
        "threshold": verdict.score and verdict.score.threshold,
        "has_picture": inspection.image_rgb is not None,
    }


def _defects(inspection: Inspection) -> list[dict[str, object]]:
    if inspection.mask is None:
        return []
    height_px, width_px = inspection.mask.shape
    return [
        {
            "box": [
                defect.bbox[0] / width_px,
                defect.bbox[1] / height_px,
                defect.bbox[2] / width_px,
                defect.bbox[3] / height_px,
            ],
            "centroid_px": defect.centroid,
            "area_px": defect.area_px,
            "area_frac": defect.area_frac,
            "peak": defect.score_max,
        }
        for defect in inspection.verdict.defects
    ]
