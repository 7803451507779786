"""Finding and loading GenTL producers, and the cameras behind them.

Loading runs foreign code that may crash: everything here that takes a harvester belongs in a process of its own.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cameras.camera import CameraInfo
from edge.errors import ProducerError

if TYPE_CHECKING:
    from harvesters.core import DeviceInfo, Harvester

SEARCH_VARIABLE = "GENICAM_GENTL64_PATH"


def find_producers(configured: Path | None) -> list[Path]:
    """The producer that was configured, or every `*.cti` in the folders of GENICAM_GENTL64_PATH.

    Raises:
        ProducerError: it is not there, or nothing was found.
    """
    if configured is not None:
        if not configured.is_file():
            raise ProducerError(
                f"producer '{configured}' does not exist", "give the path of the camera maker's .cti file"
            )
        return [configured]
    folders = [Path(folder) for folder in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if folder]
    found = [path for folder in folders for path in sorted(folder.glob("*.cti"))]
    if not found:
        where = ", ".join(f"'{folder}'" for folder in folders) if folders else "no folder"
        raise ProducerError(
            f"no producer configured, and none found ({SEARCH_VARIABLE} names {where})",
            "set camera.producer to the camera maker's .cti file",
        )
    return found


def load_producers(paths: list[Path]) -> Harvester:
    """A harvester with these producers, each opened once to see that it is one.

    Raises:
        ProducerError: a file cannot be loaded, is no GenTL producer, or refuses to initialise.
    """
    from genicam import gentl
    from harvesters.core import Harvester, ParameterKey, ParameterSet

    for path in paths:
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise ProducerError(
                f"producer '{path}' cannot be loaded ({error})", "give a .cti for this machine"
            ) from error
        if not hasattr(library, "GCInitLib"):
            raise ProducerError(f"'{path}' is a library, but no GenTL producer", "give the camera maker's .cti file")
        producer = gentl.GenTLProducer.create_producer()
        try:
            producer.open(str(path))
            producer.close()
        except gentl.GenericException as error:
            raise ProducerError(
                f"producer '{path}' does not open ({error})", "see the camera maker's manual"
            ) from error
    quiet = logging.getLogger("tfanet-edge.harvesters")
    quiet.addHandler(logging.NullHandler())
    harvester = Harvester(config=ParameterSet({ParameterKey.LOGGER: quiet}))
    for path in paths:
        harvester.add_file(str(path))
    return harvester


def describe_device(device: DeviceInfo) -> CameraInfo:
    """What the producer tells about a camera without opening it."""
    told = device.property_dict
    return CameraInfo(
        serial=told["serial_number"] or "",
        user_id=told["user_defined_name"] or "",
        vendor=told["vendor"] or "",
        model=told["model"] or "",
    )


def describe_exit(exit_code: int) -> str:
    """How a process ended, in words; negative codes are signals."""
    if exit_code == -signal.SIGALRM:
        return "its alarm, for it hung"
    return f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"


def producer_crash(what: str, exit_code: int) -> ProducerError:
    """The error for a producer that ended the process which was doing `what`."""
    return ProducerError(
        f"{what} ended the process with {describe_exit(exit_code)}",
        "give the camera maker's .cti file for this machine",
    )
