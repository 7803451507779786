"""The process that owns the camera: finds it, opens it, configures it, and copies its frames into the shared ring.

It is a process because the GenTL binding holds the interpreter's lock while it waits, and because producers and Aravis
are foreign code that may crash. It lives for one connection: when the camera is lost it ends, and its parent starts
another.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from edge.cameras.camera import CameraInfo, CameraState, StateChanged
from edge.cameras.producers import find_producers, load_producers
from edge.cameras.statistics import NOTHING_YET
from edge.config import AravisConfig, DeviceConfig, GenicamConfig, TriggerConfig
from edge.errors import InputError

if TYPE_CHECKING:
    from edge.cameras.link import Link
    from edge.cameras.source import Source, Transport

# A producer that hangs, or a device that does not let itself be closed, must not keep the process alive.
HANG_LIMIT_S = 30
CLOSE_LIMIT_S = 3


def run_grabber(link: Link, config: GenicamConfig | AravisConfig, trigger: TriggerConfig) -> None:
    """The process's main function; it ends when the parent says so or is gone, or the camera is lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    signal.signal(signal.SIGTERM, _end)
    signal.alarm(HANG_LIMIT_S)
    try:
        transport = _load(link, config)
        source = _wait_for_camera(link, transport, config)
        if source is None:
            transport.close()
        else:
            _use_camera(link, transport, source, config, trigger)
    except InputError as error:
        link.send(error)
    except (EOFError, ConnectionError):
        return  # the parent is gone


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit


def _load(link: Link, config: GenicamConfig | AravisConfig) -> Transport:
    if isinstance(config, AravisConfig):
        _say(link, CameraState.DISCOVER, "loading Aravis")
        from edge.cameras.aravis import AravisTransport

        return AravisTransport(config)
    paths = find_producers(config.producer)
    _say(link, CameraState.DISCOVER, f"loading {', '.join(str(path) for path in paths)}")
    from edge.cameras.acquirer import ProducerTransport

    return ProducerTransport(load_producers(paths), config)


def _wait_for_camera(link: Link, transport: Transport, config: DeviceConfig) -> Source | None:
    """The camera, opened as soon as it is there; None when the parent wants to end."""
    told = ""
    while True:
        signal.alarm(HANG_LIMIT_S)
        found = transport.find()
        chosen = _select(found, config)
        if chosen is None:
            reason = _absence(found, config)
        else:
            info, device = chosen
            link.send(info)
            _say(link, CameraState.OPEN, f"{info.vendor} {info.model}, serial {info.serial}")
            try:
                return transport.open(device)
            except transport.errors as error:
                reason = f"camera '{info.serial}' does not open ({error})"
        if reason != told:
            _say(link, CameraState.BACKOFF, reason)
            told = reason
        link.send(NOTHING_YET)
        if link.poll(config.backoff_s) and link.recv() is None:
            return None


def _use_camera(link: Link, transport: Transport, source: Source, config: DeviceConfig, trigger: TriggerConfig) -> None:
    from edge.cameras.stream import Stream

    try:
        _say(link, CameraState.CONFIGURE, f"{len(config.features)} features, trigger {trigger.mode}")
        layout = source.configure(trigger)
        stream = Stream(link, source, layout, config, is_software_triggered=trigger.mode == "software")
        _say(
            link,
            CameraState.STREAM,
            f"{layout.width_px}×{layout.height_px} {layout.pixel_format.value}, {trigger.mode}",
        )
        while stream.step():
            signal.alarm(HANG_LIMIT_S)
    except transport.errors as error:
        _say(link, CameraState.LOST, f"the camera does not answer ({error})")
    finally:
        signal.alarm(CLOSE_LIMIT_S)
        source.close()


def _select(found: list[tuple[CameraInfo, Any]], config: DeviceConfig) -> tuple[CameraInfo, Any] | None:
    for info, device in found:
        if (info.serial if config.user_id is None else info.user_id) == (config.serial or config.user_id):
            return info, device
    return None


def _absence(found: list[tuple[CameraInfo, Any]], config: DeviceConfig) -> str:
    wanted = f"serial '{config.serial}'" if config.user_id is None else f"user id '{config.user_id}'"
    there = [_name(info) for info, _ in found]
    return f"no camera with {wanted}; found: {', '.join(there) if there else 'none'}"


def _name(info: CameraInfo) -> str:
    return f"'{info.serial}'" + (f" (user id '{info.user_id}')" if info.user_id else "")


def _say(link: Link, state: CameraState, reason: str) -> None:
    link.send(StateChanged(state, reason))
