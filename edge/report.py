"""From the pipeline's outcome to the message the shop floor gets."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ulid import ULID

from edge import messages
from edge.cameras.camera import CameraInfo
from edge.manifest import Manifest, Preprocessing
from edge.masks import encode_png, encode_rle
from edge.messages import CameraShot, FittedVerdict, Mask, Model, Part, Recipe, Score, Station, Verdict, fit_verdict
from edge.notices import CameraIdentity, Meta, MetaThreshold
from edge.outcome import FrameFacts, Outcome
from edge.verdict import Judgement
from edge.wire import utc_text

# A 1-bit PNG is never smaller than this, so shorter run lengths need no comparison.
_SMALLEST_PNG_BYTES = 67


@dataclass(frozen=True, slots=True)
class Reporter:
    """What all verdicts of one boot have in common, and how an outcome becomes one of them."""

    boot_id: str
    version: str
    station: Station
    model: Model
    manifest: Manifest
    is_simulated: bool

    def compose(self, outcome: Outcome, seq: int, camera_serial: str) -> FittedVerdict:
        """The verdict, within its size, and the bytes of a mask that does not fit inline.

        Args:
            outcome: the answer to one trigger.
            seq: its number in this boot.
            camera_serial: empty when no camera was opened yet.
        """
        result_id = str(ULID())
        judgement, frame = outcome.judgement, outcome.frame
        mask, png = (None, None) if judgement is None or frame is None else self._mask(judgement, frame, result_id)
        decided_utc_ns = (
            outcome.trigger.fired_utc_ns + outcome.decided_monotonic_ns - outcome.trigger.fired_monotonic_ns
        )
        fitted = fit_verdict(
            Verdict(
                result_id=result_id,
                boot_id=self.boot_id,
                seq=seq,
                ts=utc_text(decided_utc_ns),
                ts_camera=frame.timestamp_camera_ns if frame else None,
                station=self.station,
                camera=CameraShot(
                    serial=camera_serial,
                    frame_id=frame.frame_id if frame else None,
                    exposure_us=frame.exposure_us if frame else None,
                ),
                part=Part(trigger_id=outcome.trigger.trigger_id),
                recipe=Recipe(id=self.manifest.name, version=self.manifest.version),
                model=self.model,
                result_state=messages.RESULT_STATES[outcome.verdict],
                is_simulated=self.is_simulated,
                verdict=outcome.verdict,
                reason=outcome.reason or None,
                score=self._score(judgement) if judgement else None,
                defects=_defects(judgement) if judgement else (),
                defects_total=len(judgement.defects) if judgement else 0,
                mask=mask,
                timing_ms=_timing(outcome),
                quality=_quality(outcome),
            )
        )
        return fitted if png is None else FittedVerdict(fitted.verdict, fitted.payload, png)

    def birth_certificate(self, camera: CameraInfo, bundle_sha256: str) -> Meta:
        """What stays the same until the next start, or until another camera is opened."""
        manifest = self.manifest
        return Meta(
            boot_id=self.boot_id,
            ts=utc_text(time.time_ns()),
            version=self.version,
            station=self.station,
            recipe=Recipe(id=manifest.name, version=manifest.version),
            model=self.model,
            bundle_sha256=bundle_sha256,
            threshold=MetaThreshold(
                image=manifest.image_threshold.value,
                pixel=manifest.pixel_threshold.value,
                calibrated_fpr=manifest.image_threshold.guaranteed_rate,
                n=manifest.image_threshold.n,
            ),
            camera=CameraIdentity(vendor=camera.vendor[:64], model=camera.model[:64], serial=camera.serial[:64]),
        )

    def _score(self, judgement: Judgement) -> Score:
        limit = self.manifest.image_threshold
        return Score(image=judgement.score, threshold=limit.value, calibrated_fpr=limit.guaranteed_rate)

    def _mask(self, judgement: Judgement, frame: FrameFacts, result_id: str) -> tuple[Mask | None, bytes | None]:
        """Inline run lengths, or a PNG on its own topic when that is smaller; nothing for an empty mask."""
        if not judgement.defects:
            return None, None
        size = (judgement.mask.shape[0], judgement.mask.shape[1])
        to_image = mask_to_image(self.manifest.preprocessing, frame.size_wh)
        counts = encode_rle(judgement.mask)
        if len(counts) > _SMALLEST_PNG_BYTES:
            png = encode_png(judgement.mask)
            if len(png) < len(counts):
                return Mask(encoding="png", size=size, to_image=to_image, uri=f"mask/{result_id}"), png
        return Mask(encoding="coco_rle", size=size, to_image=to_image, counts=counts), None


def mask_to_image(
    settings: Preprocessing, image_size_wh: tuple[int, int]
) -> tuple[float, float, float, float, float, float]:
    """The affine map from mask pixels to camera pixels, both counted at pixel centres."""
    x, y, width, height = settings.roi_xywh or (0, 0, *image_size_wh)
    scale_x, scale_y = width / settings.input_size_px[1], height / settings.input_size_px[0]
    return scale_x, 0.0, x + scale_x / 2 - 0.5, 0.0, scale_y, y + scale_y / 2 - 0.5


def _defects(judgement: Judgement) -> tuple[messages.Defect, ...]:
    return tuple(
        messages.Defect(
            id=number,
            bbox=defect.bbox_xywh,
            area_px=defect.area_px,
            area_frac=defect.area_frac,
            score_max=defect.score_max,
            centroid=defect.centroid_xy,
        )
        for number, defect in enumerate(judgement.defects)
    )


def _timing(outcome: Outcome) -> messages.Timing:
    times = outcome.timing_ms
    total_ms = (outcome.decided_monotonic_ns - outcome.trigger.fired_monotonic_ns) / 1e6
    return messages.Timing(
        grab=times.grab, preprocess=times.preprocess, infer=times.infer, postprocess=times.postprocess, total=total_ms
    )


def _quality(outcome: Outcome) -> messages.Quality | None:
    if outcome.frame is None:
        return None
    measured = outcome.quality
    return messages.Quality(
        incomplete=not outcome.frame.is_complete,
        brightness=round(measured.brightness, 2) if measured else None,
        sharpness=round(measured.sharpness, 2) if measured else None,
    )
