"""What a machine's own sensors say, read from sysfs: power by rail, clocks. Those that do not answer are left out."""

from __future__ import annotations

import math
import re
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

SYSFS = Path("/sys")


def read_power_w(root: Path = SYSFS) -> dict[str, float]:
    """Watts by rail.

    Where a monitor has power readings (`power*_input` or `power*_average`, µW), these; else voltage times current
    (`in*_input`, mV, and `curr*_input`, mA), as of the INA3221 on Jetson modules.

    Args:
        root: of sysfs. Source: the kernel's Documentation/hwmon/sysfs-interface.
    """
    found: dict[str, float] = {}
    for monitor in sorted(root.glob("class/hwmon/hwmon*")):
        for label, watts in list(_powers(monitor)) or list(_products(monitor)):
            found[label if label not in found else f"{label} ({monitor.name})"] = watts
    return found


def read_clocks_mhz(root: Path = SYSFS) -> dict[str, float]:
    """Present frequencies: of CPU cores that share one (`cpufreq`, kHz), of GPU and memory (`devfreq`, Hz)."""
    found: dict[str, float] = {}
    for policy in sorted(root.glob("devices/system/cpu/cpufreq/policy*")):
        found[f"cpu {policy.name}"] = _number(policy / "scaling_cur_freq") / 1e3
    for device in sorted(root.glob("class/devfreq/*")):
        found[device.name] = _number(device / "cur_freq") / 1e6
    return {name: mhz for name, mhz in found.items() if not math.isnan(mhz)}


class BoardSampler:
    """Reads the sensors again and again in a thread of its own, between `with` and its end.

    Args:
        period_s: between two readings.
        root: of sysfs.
    """

    def __init__(self, period_s: float = 0.5, root: Path = SYSFS) -> None:
        self._period_s = period_s
        self._root = root
        self._power: dict[str, list[float]] = {}
        self._clocks: dict[str, list[float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)

    def __enter__(self) -> BoardSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def power_w(self) -> dict[str, float]:
        """Mean of each rail."""
        return {name: statistics.fmean(values) for name, values in self._power.items()}

    @property
    def clocks_mhz(self) -> dict[str, float]:
        """Median of each clock."""
        return {name: statistics.median(values) for name, values in self._clocks.items()}

    def _run(self) -> None:
        while True:
            for kept, read in ((self._power, read_power_w(self._root)), (self._clocks, read_clocks_mhz(self._root))):
                for name, value in read.items():
                    kept.setdefault(name, []).append(value)
            if self._ended.wait(self._period_s):
                return


def _powers(monitor: Path) -> Iterator[tuple[str, float]]:
    for path in sorted(monitor.glob("power*_*")):
        if re.fullmatch(r"power\d+_(input|average)", path.name):
            channel = path.name.partition("_")[0]
            watts = _number(path) / 1e6
            if not math.isnan(watts):
                yield _label(monitor, channel), watts


def _products(monitor: Path) -> Iterator[tuple[str, float]]:
    for path in sorted(monitor.glob("curr*_input")):
        number = path.name[len("curr") : -len("_input")]
        watts = _number(path) * _number(monitor / f"in{number}_input") / 1e6
        if not math.isnan(watts):
            yield _label(monitor, f"in{number}"), watts


def _label(monitor: Path, channel: str) -> str:
    return _text(monitor / f"{channel}_label") or f"{_text(monitor / 'name') or monitor.name} {channel}"


def _number(path: Path) -> float:
    """Not a number where the file does not hold one."""
    try:
        return float(_text(path))
    except ValueError:
        return math.nan


def _text(path: Path) -> str:
    """Empty where it cannot be read: a rail that is switched off answers with an error."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
