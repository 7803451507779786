"""The verb `demo`: rendered parts under a simulated camera, a real station, a broker, and somebody who listens."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from edge.arguments import share, whole_number_from
from edge.broker_address import parse_broker_address
from edge.bundle import load_bundle
from edge.config import (
    DashboardConfig,
    EngineConfig,
    GenicamConfig,
    Identity,
    MqttConfig,
    OutboxConfig,
    StationConfig,
    TriggerConfig,
)
from edge.errors import ConfigError
from edge.mqtt.publisher import Publisher, PublisherStats
from edge.startup import open_dashboard, open_station, stop_on_signals
from edge.wire import Topics
from simulator.broker import embedded_broker
from simulator.build import build
from simulator.defects import DefectKind
from simulator.parts import TEST_SEEDS, render_part
from simulator.replay import ReplayCamera
from simulator.shopfloor import Scene, shop_floor
from simulator.summary import summarise

BUNDLE = Path(__file__).parent / "demo_bundle"
SERIAL = "REPLAY-0001"
IDENTITY = Identity(site="demo", area="casting", line="line-1", station="flange-inspection")
_PARTS_WATCHED = 120
_PARTS_AT_MOST = 500
_DRAIN_S = 30.0


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser("demo", help="run a whole station on a simulated camera")
    parser.add_argument(
        "--triggers", type=whole_number_from(1), metavar="N", help="inspect N parts without a page, then end"
    )
    parser.add_argument("--json", action="store_true", help="end with a JSON summary; needs --triggers")
    parser.add_argument("--broker", metavar="HOST:PORT", help="an MQTT broker; without it an embedded one is started")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, metavar="DIR", help="another bundle for the same parts")
    parser.add_argument("--interval-ms", type=float, metavar="MS", help="between triggers (1000 with a page, else 0)")
    parser.add_argument(
        "--defect-rate", type=share, default=0.25, metavar="SHARE", help="of parts with a defect (0.25)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which parts are drawn (0)")
    parser.add_argument("--port", type=int, default=8080, metavar="PORT", help="of the page (8080; 0: a free one)")
    parser.set_defaults(handler=_handle)


def draw_parts(count: int, defect_rate: float, seed: int) -> tuple[np.ndarray, tuple[DefectKind | None, ...]]:
    """Parts that no model was trained, selected or calibrated on.

    Args:
        count: how many.
        defect_rate: share of parts with a defect, 0..1; kinds in turn.
        seed: chooses the parts and their order.

    Returns:
        Images uint8 (count, H, W, 3) and what is wrong with each.
    """
    rng = np.random.default_rng(seed)
    kinds = list(DefectKind)
    seeds = rng.choice(len(TEST_SEEDS), size=count, replace=False)
    defective = rng.permutation(count) < round(defect_rate * count)
    defects: list[DefectKind | None] = []
    images = []
    for number, (part_seed, is_defective) in enumerate(zip(seeds, defective, strict=True)):
        defect = kinds[sum(one is not None for one in defects) % len(kinds)] if is_defective else None
        defects.append(defect)
        images.append(render_part(TEST_SEEDS[int(part_seed)], defect).image_rgb)
        _progress("rendering parts", number + 1, count)
    return np.stack(images), tuple(defects)


def _handle(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.triggers is None:
        raise ConfigError("--json sums up a run that ends", "give --triggers N as well")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    load_bundle(arguments.bundle)  # a wrong one is told before anything is rendered
    with ExitStack() as resources:
        host, port = resources.enter_context(_broker(arguments.broker))
        directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tfanet-edge-demo-")))
        scene = _set_up_camera(arguments, directory)
        config = _station_config(arguments, host, port, directory)
        if arguments.triggers is None:
            return _show(config, scene)
        return _count(config, scene, arguments.triggers, as_json=arguments.json)


def _show(config: StationConfig, scene: Scene) -> int:
    """With a page, until Ctrl-C."""
    topics = Topics(config.identity)
    with ExitStack() as resources:
        stop = resources.enter_context(stop_on_signals())
        resources.enter_context(shop_floor(config.mqtt.host, config.mqtt.port, topics, scene, say=True))
        station = resources.enter_context(open_station(config, is_simulated=True))
        page = resources.enter_context(open_dashboard(station, config))
        print(f"\n  page      {page}", file=sys.stderr)
        print(f"  broker    {config.mqtt.host}:{config.mqtt.port}", file=sys.stderr)
        print(f"  verdicts  {topics.verdict}", file=sys.stderr)
        print("  Ctrl-C ends the demo\n", file=sys.stderr, flush=True)
        station.run(stop)
    return 0


def _count(config: StationConfig, scene: Scene, triggers: int, *, as_json: bool) -> int:
    """Without a page, for a number of triggers, with a summary."""
    topics = Topics(config.identity)
    with shop_floor(config.mqtt.host, config.mqtt.port, topics, scene, say=not as_json) as floor:
        with open_station(config, is_simulated=True) as station:
            record = station.side_channel.subscribe(triggers)
            with stop_on_signals() as stop:
                station.run(stop, triggers)
            fired = station.verdicts.total()
            received = floor.collect(fired, _DRAIN_S)
            statistics = _await_acknowledgements(station.publisher)
        inspections = [inspection for _ in range(fired) if (inspection := record.get(0.0)) is not None]
    summary = summarise(fired, received, scene.defects, inspections, statistics)
    print(json.dumps(summary, indent=None if as_json else 2))
    return 0


def _await_acknowledgements(publisher: Publisher) -> PublisherStats:
    give_up_s = time.monotonic() + _DRAIN_S
    while publisher.stats().pending and time.monotonic() < give_up_s:
        time.sleep(0.01)
    return publisher.stats()


def _station_config(arguments: argparse.Namespace, host: str, port: int, directory: Path) -> StationConfig:
    watched = arguments.triggers is None
    interval_ms = arguments.interval_ms if arguments.interval_ms is not None else 1000.0 if watched else 0.0
    return StationConfig(
        bundle=arguments.bundle,
        identity=IDENTITY,
        camera=GenicamConfig(
            producer=build(),
            serial=SERIAL,
            features={"PixelFormat": "BayerRG8", "ExposureTime": 5000.0, "Gain": 0.0},
        ),
        trigger=TriggerConfig(mode="software", interval_ms=interval_ms),
        engine=EngineConfig(),
        mqtt=MqttConfig(host=host, port=port),
        outbox=OutboxConfig(path=directory / "outbox.sqlite"),
        dashboard=DashboardConfig(port=arguments.port),
    )


def _set_up_camera(arguments: argparse.Namespace, directory: Path) -> Scene:
    count = min(arguments.triggers or _PARTS_WATCHED, _PARTS_AT_MOST)
    images, defects = draw_parts(count, arguments.defect_rate, arguments.seed)
    camera = ReplayCamera.create(directory, SERIAL, images, user_id="demo", model="Replay")
    os.environ["REPLAY_CAMERAS"] = str(directory)
    return Scene(camera.path, defects)


@contextmanager
def _broker(address: str | None) -> Iterator[tuple[str, int]]:
    if address is not None:
        yield parse_broker_address(address)
        return
    with embedded_broker() as embedded:
        yield embedded


def _progress(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{what}: {done}/{total}", end=end, file=sys.stderr, flush=True)
