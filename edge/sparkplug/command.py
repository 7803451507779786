"""`tfanet-edge sparkplug --config FILE`: run the bridge until a signal ends it."""

from __future__ import annotations

import argparse
import logging
import signal
from pathlib import Path

from edge.sparkplug.bridge import Bridge
from edge.sparkplug.settings import load_config


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `sparkplug --config FILE`."""
    parser = subparsers.add_parser("sparkplug", help="pass verdicts on as a Sparkplug B edge node")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="sparkplug.toml")
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    bridge = Bridge(load_config(arguments.config))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    before = {number: signal.signal(number, lambda *_: bridge.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        bridge.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
