"""A line that publishes inspections as a station does, and a dashboard that watches it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ulid import ULID

from edge.cameras.camera import CameraState
from edge.config import DashboardConfig, Identity
from edge.dashboard.page_state import StationStatus
from edge.dashboard.server import Dashboard
from edge.frame import Image
from edge.messages import (
    RESULT_STATES,
    CameraShot,
    Defect,
    Model,
    Outcome,
    Part,
    Recipe,
    Score,
    Station,
    Timing,
    Verdict,
)
from edge.observer import Inspection, SideChannel
from edge.verdict import find_defects
from edge.wire import utc_text

SIDE_PX = 256
PIXEL_THRESHOLD = 0.5
IMAGE_THRESHOLD = 1.0
BOOT_ID = str(ULID())
IDENTITY = Identity(site="plant-7", area="casting", line="line-2", station="flange-inspection")


def _part_image() -> Image:
    ramp = np.linspace(60, 190, SIDE_PX)
    return np.repeat((ramp[None, :] * 0.6 + ramp[:, None] * 0.4).astype(np.uint8)[..., None], 3, axis=2)


def _spot(x: float, y: float, peak: float) -> npt.NDArray[np.float32]:
    yy, xx = np.mgrid[:SIDE_PX, :SIDE_PX]
    return (peak * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * 9.0**2))).astype(np.float32)


@dataclass
class Line:
    """Publishes on a side channel; `status` is what the station would say."""

    side_channel: SideChannel = field(default_factory=SideChannel)
    status: StationStatus = field(default_factory=lambda: StationStatus(CameraState.STREAM, "", True, 0, 1.0))
    published: int = 0

    def set_status(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]

    def publish(
        self,
        outcome: Outcome,
        *,
        score: float | None = None,
        reason: str | None = None,
        image_rgb: Image | None = None,
        anomaly_map: npt.NDArray[np.float32] | None = None,
    ) -> Inspection:
        """OK and NG with a picture and a map, INVALID with a picture only, TIMEOUT with nothing."""
        analysed = outcome in ("OK", "NG")
        if score is None and analysed:
            score = 1.62 if outcome == "NG" else 0.41
        if image_rgb is None and outcome != "TIMEOUT":
            image_rgb = _part_image()
        if anomaly_map is None and analysed:
            anomaly_map = _spot(90, 150, 1.4) + _spot(180, 70, 0.9) if outcome == "NG" else _spot(90, 150, 0.2)
        defects, mask = (), None
        if anomaly_map is not None:
            defects, mask = find_defects(anomaly_map, (anomaly_map >= PIXEL_THRESHOLD).astype(np.uint8), 4)
        self.published += 1
        verdict = Verdict(
            result_id=str(ULID()),
            boot_id=BOOT_ID,
            seq=self.published,
            ts=utc_text(time.time_ns()),
            station=Station(**IDENTITY.model_dump(exclude={"prefix"})),
            camera=CameraShot(serial="SIM-0001"),
            part=Part(trigger_id=self.published),
            recipe=Recipe(id="flange", version="1.2"),
            model=Model(name="flange", version="1.2", precision="int8", engine_sha256="0" * 64),
            result_state=RESULT_STATES[outcome],
            is_simulated=True,
            verdict=outcome,
            reason=reason or (None if analysed else "frame incomplete"),
            score=None if score is None else Score(image=score, threshold=IMAGE_THRESHOLD),
            defects=tuple(
                Defect(
                    id=number,
                    bbox=spot.bbox_xywh,
                    area_px=spot.area_px,
                    area_frac=spot.area_frac,
                    score_max=spot.score_max,
                    centroid=spot.centroid_xy,
                )
                for number, spot in enumerate(defects)
            ),
            defects_total=len(defects),
            timing_ms=Timing(grab=4.2, preprocess=0.6, infer=17.9, postprocess=1.1, total=24.6)
            if analysed
            else Timing(),
        )
        inspection = Inspection(verdict, 42.0, image_rgb, anomaly_map, mask)
        self.side_channel.publish(inspection)
        return inspection


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def new_dashboard(line: Line) -> Iterator[Callable[..., Dashboard]]:
    """Makes dashboards of the line; they are stopped at the end."""
    made: list[Dashboard] = []

    def make(port: int = 0, **options: Any) -> Dashboard:
        made.append(
            Dashboard(
                line.side_channel,
                lambda: line.status,
                identity=IDENTITY,
                pixel_threshold=PIXEL_THRESHOLD,
                config=DashboardConfig(port=port, **options),
            )
        )
        return made[-1]

    yield make
    for dashboard in made:
        dashboard.stop()


@pytest.fixture(scope="module")
def quiet_address() -> Iterator[str]:
    """Of a dashboard that never sees a part, for all tests of a module."""
    quiet = Line()
    dashboard = Dashboard(
        quiet.side_channel,
        lambda: quiet.status,
        identity=IDENTITY,
        pixel_threshold=PIXEL_THRESHOLD,
        config=DashboardConfig(port=0),
    )
    yield dashboard.start()
    dashboard.stop()


@pytest.fixture
def dashboard(new_dashboard: Callable[..., Dashboard]) -> Dashboard:
    return new_dashboard()


@pytest.fixture
def address(dashboard: Dashboard) -> str:
    """Of a dashboard that serves the line."""
    return dashboard.start()
