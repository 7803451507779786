"""What a measurement was made on: the machine and the versions of what runs there."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge.bench.result import MachineFacts
from edge.engines.device import l4t_release

_PACKAGES = (
    "tfanet-edge",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "tensorrt",
    "pycuda",
    "cuda-bindings",
)
_L4T_RELEASE = Path("/etc/nv_tegra_release")
_BOARD_MODEL = Path("/proc/device-tree/model")


def machine_facts(gpu: Mapping[str, str], load_average: float) -> MachineFacts:
    """This machine in words."""
    return MachineFacts(
        model=_model(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        l4t=l4t_release(_L4T_RELEASE.read_text(encoding="utf-8")) if _L4T_RELEASE.exists() else None,
        gpu=dict(gpu),
        load_average=round(load_average, 2),
    )


def versions() -> dict[str, str]:
    """Of Python, and of the packages that matter to speed as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _model() -> str:
    if _BOARD_MODEL.exists():
        return _BOARD_MODEL.read_text(encoding="utf-8").strip("\0\n ")
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else platform.machine()
