"""The loop that runs a station: camera → slot → engine → judge → outbox; the publisher takes it from there."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import asdict

from edge.audit import AuditTrail
from edge.bundle import Bundle
from edge.cameras.camera import Camera, CameraState, StateChanged
from edge.config import StationConfig
from edge.dashboard.page_state import StationStatus
from edge.delivery import verdict_messages
from edge.engines.engine import Engine
from edge.errors import OutboxError
from edge.events import CameraConnected
from edge.journal import TriggerJournal
from edge.mqtt.publisher import Publisher
from edge.notices import Metrics, StateName
from edge.observer import Inspection, SideChannel
from edge.outbox import Outbox
from edge.outcome import Outcome
from edge.pipeline import Pipeline
from edge.report import Reporter
from edge.slots import SlotRing
from edge.systemd import Notifier
from edge.triggers import TriggerLedger, TriggerPacer
from edge.verdict import Limits
from edge.wire import Topics, utc_text

_IDLE_S = 0.05
_CAMERA_START_S = 10.0
_METRICS_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class Station:
    """One boot of a station; `edge.startup.open_station` puts it together.

    Attributes:
        boot_id: names this boot in every message.
        bundle: what it runs.
        topics: where it publishes.
        publisher: the connection to the broker.
        audit: the audit trail.
        side_channel: observers attach here before `run`.
        verdicts: verdicts made durable so far, by kind.
    """

    def __init__(
        self,
        config: StationConfig,
        bundle: Bundle,
        camera: Camera,
        engine: Engine,
        ring: SlotRing,
        reporter: Reporter,
        outbox: Outbox,
        journal: TriggerJournal,
        audit: AuditTrail,
        publisher: Publisher,
        topics: Topics,
        notifier: Notifier,
    ) -> None:
        self.boot_id = reporter.boot_id
        self.bundle = bundle
        self.topics = topics
        self.publisher = publisher
        self.audit = audit
        self.side_channel = SideChannel()
        self.verdicts: Counter[str] = Counter()
        self._config = config
        self._camera = camera
        self._engine = engine
        self._ring = ring
        self._reporter = reporter
        self._outbox = outbox
        self._journal = journal
        self._notifier = notifier
        self._ledger = TriggerLedger(config.trigger.deadline_ms, journal.remember)
        self._pipeline: Pipeline
        self._camera_state = StateChanged(CameraState.DISCOVER, "not started")
        self._told: tuple[StateName, str] | None = None
        self._recent_ns: deque[int] = deque(maxlen=100)
        self._metrics_due_s = time.monotonic() + _METRICS_EVERY_S

    def run(self, stop: threading.Event, trigger_limit: int | None = None) -> None:
        """Inspect until `stop` is set, or until `trigger_limit` software triggers have their verdicts.

        Triggers that are open when it stops still get theirs.

        Raises:
            InputError: the camera can never work as configured.
            EngineLostError: only another process can go on; every open trigger has its verdict.
            OutboxError: a verdict could not be made durable.
        """
        self._pipeline = self._new_pipeline()
        pacer = TriggerPacer(self._config.trigger, len(self._ring.slots) + 1, trigger_limit)
        self._tell(StateName.INITIALIZED, "waiting for the camera")
        self._camera.start(_CAMERA_START_S)
        self._notifier.ready()
        pipeline = self._pipeline
        while not (stop.is_set() or pipeline.lost_engine or (pacer.exhausted and trigger_limit is not None)):
            if pacer.fire(time.monotonic_ns(), len(self._ledger)):
                pipeline.fire()
            self._advance(pacer.until_due_s(time.monotonic_ns(), _IDLE_S))
        while len(self._ledger):
            self._advance(_IDLE_S)
        self._notifier.stopping()
        if pipeline.lost_engine is not None:
            self._tell(StateName.ERROR, str(pipeline.lost_engine))
            raise pipeline.lost_engine
        self._tell(StateName.HALTED, "stopped")

    def status(self) -> StationStatus:
        """How it is doing; may be asked from any thread."""
        recent = list(self._recent_ns)
        lately = [moment for moment in recent if moment > time.monotonic_ns() - 5_000_000_000]
        span_s = (time.monotonic_ns() - lately[0]) / 1e9 if len(lately) > 1 else 0.0
        camera = self._camera_state
        publisher = self.publisher.stats()
        return StationStatus(
            camera_state=camera.state,
            camera_reason=camera.reason,
            broker_connected=publisher.connected,
            outbox_pending=publisher.pending,
            throughput_per_s=len(lately) / span_s if span_s else 0.0,
        )

    def _advance(self, timeout_s: float) -> None:
        """One turn of the line: what the pipeline decided becomes durable, then visible."""
        for outcome in self._pipeline.step(timeout_s):
            self._deliver(outcome)
        self.audit.flush_overdue()
        self._tell_camera_state()
        self._notifier.watchdog()
        self._send_metrics_when_due()

    def _deliver(self, outcome: Outcome) -> None:
        info = self._camera.info
        fitted = self._reporter.compose(outcome, self.verdicts.total(), info.serial if info else "")
        messages = verdict_messages(self.topics, fitted, with_plc=self._config.mqtt.publish_plc)
        try:
            self._outbox.append_many([*messages, *self.audit.take()])
        except OutboxError as error:
            self._tell(StateName.ERROR, str(error))  # retained, so it stays true until the next start succeeds
            raise
        durable_ns = time.monotonic_ns()
        self.verdicts[outcome.verdict] += 1
        self._journal.forget(outcome.trigger, self.verdicts.total())
        self._recent_ns.append(durable_ns)
        if self.side_channel.watched:
            pictures, judgement = outcome.pictures, outcome.judgement
            self.side_channel.publish(
                Inspection(
                    verdict=fitted.verdict,
                    durable_ms=(durable_ns - outcome.trigger.fired_monotonic_ns) / 1e6,
                    image_rgb=pictures.image_rgb if pictures else None,
                    anomaly_map=pictures.anomaly_map if pictures else None,
                    mask=judgement.mask if judgement else None,
                )
            )

    def _new_pipeline(self) -> Pipeline:
        manifest = self.bundle.manifest
        return Pipeline(
            self._camera,
            self._engine,
            self._ring,
            self._ledger,
            manifest.preprocessing,
            Limits(
                image_threshold=manifest.image_threshold.value,
                pixel_threshold=manifest.pixel_threshold.value,
                min_area_px=self._config.judge.min_defect_area_px,
            ),
            self._config.judge,
            software_triggers=self._config.trigger.mode == "software",
            keep_pictures=self.side_channel.watched,
        )

    def _tell_camera_state(self) -> None:
        self._camera_state = camera = self._pipeline.camera_state
        if camera.state is CameraState.STREAM:
            self._tell(StateName.CONTINUOUS_EXECUTION, "inspecting")
        elif camera.state in (CameraState.LOST, CameraState.BACKOFF):
            self._tell(StateName.ERROR, f"camera {camera.state.value}: {camera.reason}")

    def _tell(self, name: StateName, reason: str) -> None:
        if self._told == (name, reason):
            return
        if name is StateName.CONTINUOUS_EXECUTION and (info := self._camera.info) is not None:
            self.publisher.set_meta(self._reporter.birth_certificate(info, self.bundle.manifest_sha256))
            self.audit.record(CameraConnected(vendor=info.vendor, model=info.model, serial=info.serial))
        self._told = (name, reason)
        self.publisher.set_state(name, reason)
        self._notifier.status(f"{name.value}: {reason}")
        _log.log(logging.WARNING if name is StateName.ERROR else logging.INFO, "%s: %s", name.value, reason)

    def _send_metrics_when_due(self) -> None:
        if time.monotonic() < self._metrics_due_s:
            return
        self._metrics_due_s += _METRICS_EVERY_S
        counts, publisher = self._pipeline.counts, self.publisher.stats()
        values = {f"verdicts_{kind.lower()}": float(number) for kind, number in self.verdicts.items()}
        values |= {
            "late_frames": float(counts.late_frames),
            "missing_frames": float(counts.missing_frames),
            "engine_failures": float(counts.engine_failures),
            "outbox_pending": float(publisher.pending),
            "outbox_dropped": float(self._outbox.dropped),
            "throughput_hz": self.status().throughput_per_s,
        }
        camera = asdict(self._camera.statistics)
        values |= {f"camera_{name}": float(value) for name, value in camera.items() if value is not None}
        self.publisher.send_metrics(Metrics(boot_id=self.boot_id, ts=utc_text(time.time_ns()), values=values))
