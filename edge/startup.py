"""Puts a station together, proves that its engine computes what the bundle says, and takes it apart again."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ulid import ULID

from edge.audit import AuditTrail
from edge.boot_audit import audit_bundle, audited_golden_test
from edge.bundle import Bundle, load_bundle
from edge.cameras.camera import Camera
from edge.cameras.folder import FolderCamera
from edge.cameras.genicam import GenicamCamera
from edge.commands import COMMAND_MAX_BYTES, CommandDesk
from edge.config import FolderConfig, OutboxConfig, StationConfig
from edge.config_file import load_config
from edge.dashboard.server import Dashboard
from edge.engines.choice import open_engine
from edge.engines.engine import Engine
from edge.engines.golden import bound_ring
from edge.events import Record
from edge.journal import TriggerJournal
from edge.messages import Model
from edge.messages import Station as Place
from edge.mqtt.publisher import Publisher
from edge.mqtt.tls import check_transport
from edge.notices import StateName
from edge.outbox import Outbox
from edge.recovery import finish_earlier_boot
from edge.report import Reporter
from edge.station import Station
from edge.systemd import Notifier
from edge.wire import Topics

_log = logging.getLogger(__name__)


@contextmanager
def open_station(config: StationConfig, *, is_simulated: bool) -> Iterator[Station]:
    """A station that is ready to run; on leaving, everything is delivered as far as it can be, and freed.

    Args:
        config: the station's file.
        is_simulated: said in every verdict.

    Raises:
        InputError: the bundle or a setting is wrong.
        EngineError: the engine contradicts the bundle's golden vectors.
        OutboxError: the outbox cannot be opened.
    """
    with ExitStack() as resources:
        check_transport(config.mqtt)
        bundle = load_bundle(config.bundle)
        camera = _new_camera(config)
        engine = resources.enter_context(closing(open_engine(config.engine, bundle)))
        ring = bound_ring(engine, bundle, config.engine.slots)
        outbox = resources.enter_context(closing(_open_outbox(config.outbox)))
        journal = resources.enter_context(closing(_open_journal(config.outbox)))
        reporter = _new_reporter(config, bundle, engine, is_simulated)
        topics = Topics(config.identity)
        finish_earlier_boot(journal, outbox, reporter, topics, with_plc=config.mqtt.publish_plc)
        audit = AuditTrail(outbox, reporter.boot_id, topics.event)
        publisher = Publisher(
            config.mqtt,
            topics,
            outbox,
            boot_id=reporter.boot_id,
            version=reporter.version,
            backlog_per_s=config.outbox.backlog_per_s,
            record=audit.record,
        )
        desk = _open_desk(config, publisher, topics, reporter.boot_id, audit.record)
        publisher.set_state(StateName.PREOPERATIONAL, "checking the engine")
        publisher.start()
        resources.callback(publisher.stop)
        resources.callback(audit.flush)
        audit_bundle(
            audit, bundle, reporter.model, config.judge.min_defect_area_px, _beside(config.outbox, "thresholds")
        )
        audited_golden_test(audit, engine, bundle, config.engine.precision, ring)
        resources.callback(camera.stop)
        notifier = Notifier(os.environ)
        station = Station(
            config, bundle, camera, engine, ring, reporter, outbox, journal, audit, publisher, topics, notifier
        )
        desk.offer("state", lambda: _state_values(station))
        yield station


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run --config FILE`."""
    parser = subparsers.add_parser("run", help="run the station")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="station.toml")
    parser.set_defaults(handler=_handle)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the station stops between two frames."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def open_dashboard(station: Station, config: StationConfig) -> Iterator[str]:
    """The station's page; gives its address."""
    dashboard = Dashboard(
        station.side_channel,
        station.status,
        identity=config.identity,
        pixel_threshold=station.bundle.manifest.pixel_threshold.value,
        config=config.dashboard,
        record=station.audit.record,
    )
    address = dashboard.start()
    try:
        yield address
    finally:
        dashboard.stop()


def _handle(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    config = load_config(arguments.config)
    with ExitStack() as resources:
        stop = resources.enter_context(stop_on_signals())
        station = resources.enter_context(open_station(config, is_simulated=False))
        if config.dashboard.enabled:
            _log.info("page at %s", resources.enter_context(open_dashboard(station, config)))
        station.run(stop)
    return 0


def _open_desk(
    config: StationConfig, publisher: Publisher, topics: Topics, boot_id: str, record: Record
) -> CommandDesk:
    def send(result: bytes) -> None:
        publisher.answer(topics.command_result, "command_result", result)

    desk = CommandDesk(boot_id, send, record=record)
    desk.offer("outbox", lambda: {key: float(value) for key, value in asdict(publisher.stats()).items()})
    if config.mqtt.accept_commands:
        publisher.listen(topics.command("+"), desk.receive, COMMAND_MAX_BYTES)
    return desk


def _state_values(station: Station) -> dict[str, float | str]:
    status = station.status()
    verdicts = {f"verdicts_{kind.lower()}": float(number) for kind, number in station.verdicts.copy().items()}
    return {
        "camera": status.camera_state.value,
        "camera_reason": status.camera_reason,
        "throughput_hz": status.throughput_per_s,
        **verdicts,
    }


def _new_camera(config: StationConfig) -> Camera:
    if isinstance(config.camera, FolderConfig):
        return FolderCamera(config.camera, config.trigger)
    return GenicamCamera(config.camera, config.trigger)


def _open_outbox(config: OutboxConfig) -> Outbox:
    return Outbox(config.path, config.max_rows, max_bytes=config.max_bytes, delivered_rows=config.delivered_rows)


def _open_journal(config: OutboxConfig) -> TriggerJournal:
    return TriggerJournal(_beside(config, "triggers"))


def _beside(config: OutboxConfig, suffix: str) -> Path:
    return config.path.with_name(f"{config.path.name}.{suffix}")


def _new_reporter(config: StationConfig, bundle: Bundle, engine: Engine, is_simulated: bool) -> Reporter:
    manifest, place = bundle.manifest, config.identity
    return Reporter(
        boot_id=str(ULID()),
        version=version("tfanet-edge"),
        station=Place(site=place.site, area=place.area, line=place.line, station=place.station),
        model=Model(
            name=f"{manifest.detector}-{manifest.preset}",
            version=manifest.version,
            precision=config.engine.precision,
            engine_sha256=engine.artefact_sha256,
        ),
        manifest=manifest,
        is_simulated=is_simulated,
    )
