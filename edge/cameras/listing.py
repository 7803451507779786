"""The verb `cameras`: which cameras a producer or Aravis sees."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cameras.camera import CameraInfo
from edge.cameras.producers import describe_device, find_producers, load_producers, producer_crash
from edge.errors import InputError

if TYPE_CHECKING:
    from edge.cameras.link import Link


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `cameras [--producer PATH | --aravis] [--json]`."""
    parser = subparsers.add_parser("cameras", help="list the cameras that a GenTL producer or Aravis sees")
    through = parser.add_mutually_exclusive_group()
    through.add_argument("--aravis", action="store_true", help="look for GigE Vision cameras through Aravis")
    through.add_argument(
        "--producer", type=Path, metavar="PATH", help="GenTL producer (.cti); else those on GENICAM_GENTL64_PATH"
    )
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    parser.set_defaults(handler=_handle)


def list_cameras(producer: Path | None, *, with_aravis: bool = False) -> list[CameraInfo]:
    """Every camera that the producers see, or else Aravis, looked for in a process that may crash.

    Raises:
        ProducerError: a producer is missing, is not one, or crashes.
        AravisError: Aravis is missing.
    """
    paths = [] if with_aravis else find_producers(producer)
    context = multiprocessing.get_context("spawn")
    link, far_end = context.Pipe(duplex=False)
    process = context.Process(target=_enumerate, args=(far_end, paths), daemon=True)
    process.start()
    far_end.close()
    try:
        answer: list[CameraInfo] | InputError = link.recv()
    except EOFError as error:
        process.join()
        raise producer_crash(f"loading {', '.join(map(str, paths)) or 'Aravis'}", process.exitcode or 0) from error
    finally:
        link.close()
        process.join()
        process.close()
    if isinstance(answer, InputError):
        raise answer
    return answer


def _enumerate(link: Link, paths: list[Path]) -> None:
    signal.alarm(30)  # a producer that hangs
    try:
        if not paths:
            from edge.cameras.aravis_devices import find_cameras

            link.send([info for info, _ in find_cameras()])
            return
        harvester = load_producers(paths)
        harvester.update()
        link.send([describe_device(device) for device in harvester.device_info_list])
        harvester.reset()
    except InputError as error:
        link.send(error)


def _handle(arguments: argparse.Namespace) -> int:
    cameras = list_cameras(arguments.producer, with_aravis=arguments.aravis)
    if arguments.json:
        print(json.dumps([asdict(camera) for camera in cameras], indent=2))
        return 0
    rows = [[field.name for field in fields(CameraInfo)]]
    rows += [[str(value) for value in asdict(camera).values()] for camera in cameras]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
