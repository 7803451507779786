"""The process that owns the camera: finds it, opens it, configures it, and copies its frames into the shared ring.

It is a process because the GenTL binding holds the interpreter's lock while it waits, and because a producer is foreign
code that may crash. It lives for one connection: when the camera is lost it ends, and its parent starts another.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from edge.cameras.camera import CameraInfo, CameraState, StateChanged
from edge.cameras.producers import describe_device, find_producers, load_producers
from edge.cameras.statistics import NOTHING_YET
from edge.config import GenicamConfig, TriggerConfig
from edge.errors import InputError

if TYPE_CHECKING:
    from harvesters.core import DeviceInfo, Harvester

    from edge.cameras.acquirer import Acquirer
    from edge.cameras.link import Link

# A producer that hangs, or a device that does not let itself be closed, must not keep the process alive.
HANG_LIMIT_S = 30
CLOSE_LIMIT_S = 3


def run_grabber(link: Link, config: GenicamConfig, trigger: TriggerConfig) -> None:
    """The process's main function; it ends when the parent says so or is gone, or the camera is lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    signal.signal(signal.SIGTERM, _end)
    signal.alarm(HANG_LIMIT_S)
    try:
        paths = find_producers(config.producer)
        _say(link, CameraState.DISCOVER, f"loading {', '.join(str(path) for path in paths)}")
        harvester = load_producers(paths)
        acquirer = _wait_for_camera(link, harvester, config)
        if acquirer is None:
            harvester.reset()
        else:
            _use_camera(link, acquirer, config, trigger)
    except InputError as error:
        link.send(error)
    except (EOFError, ConnectionError):
        return  # the parent is gone


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit


def _wait_for_camera(link: Link, harvester: Harvester, config: GenicamConfig) -> Acquirer | None:
    """The camera, opened as soon as it is there; None when the parent wants to end."""
    from edge.cameras.acquirer import DEVICE_ERRORS, Acquirer

    told = ""
    while True:
        signal.alarm(HANG_LIMIT_S)
        harvester.update()
        device = _select(harvester, config)
        if device is None:
            reason = _absence(harvester, config)
        else:
            info = describe_device(device)
            link.send(info)
            _say(link, CameraState.OPEN, f"{info.vendor} {info.model}, serial {info.serial}")
            try:
                return Acquirer(harvester, device, config.ring_slots)
            except DEVICE_ERRORS as error:
                reason = f"camera '{info.serial}' does not open ({error})"
        if reason != told:
            _say(link, CameraState.BACKOFF, reason)
            told = reason
        link.send(NOTHING_YET)
        if link.poll(config.backoff_s) and link.recv() is None:
            return None


def _use_camera(link: Link, acquirer: Acquirer, config: GenicamConfig, trigger: TriggerConfig) -> None:
    from edge.cameras.acquirer import DEVICE_ERRORS
    from edge.cameras.stream import Stream

    try:
        _say(link, CameraState.CONFIGURE, f"{len(config.features)} features, trigger {trigger.mode}")
        layout = acquirer.configure(config, trigger)
        stream = Stream(link, acquirer, layout, config, is_software_triggered=trigger.mode == "software")
        _say(
            link,
            CameraState.STREAM,
            f"{layout.width_px}×{layout.height_px} {layout.pixel_format.value}, {trigger.mode}",
        )
        while stream.step():
            signal.alarm(HANG_LIMIT_S)
    except DEVICE_ERRORS as error:
        _say(link, CameraState.LOST, f"the camera does not answer ({error})")
    finally:
        signal.alarm(CLOSE_LIMIT_S)
        acquirer.close()


def _select(harvester: Harvester, config: GenicamConfig) -> DeviceInfo | None:
    for device in harvester.device_info_list:
        info = describe_device(device)
        if (info.serial if config.user_id is None else info.user_id) == (config.serial or config.user_id):
            return device
    return None


def _absence(harvester: Harvester, config: GenicamConfig) -> str:
    wanted = f"serial '{config.serial}'" if config.user_id is None else f"user id '{config.user_id}'"
    there = [_name(describe_device(device)) for device in harvester.device_info_list]
    return f"no camera with {wanted}; found: {', '.join(there) if there else 'none'}"


def _name(info: CameraInfo) -> str:
    return f"'{info.serial}'" + (f" (user id '{info.user_id}')" if info.user_id else "")


def _say(link: Link, state: CameraState, reason: str) -> None:
    link.send(StateChanged(state, reason))
