"""What the benchmarks under faults share: the chaos tests' rig and bundle, the machine in words, figures."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from chaos.rig import Rig  # noqa: E402


@contextmanager
def running_rig(interval_ms: float) -> Iterator[Rig]:
    """A rig whose station inspects, on the tests' small bundle."""
    spec = importlib.util.spec_from_file_location("conftest", ROOT / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    with tempfile.TemporaryDirectory() as directory:
        bundle = tests.write_bundle(Path(directory) / "bundle")
        with Rig(Path(directory), bundle, interval_ms=interval_ms) as rig:
            rig.start()
            rig.await_judged(0)
            yield rig


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def circumstances() -> dict[str, object]:
    """Code, machine, file system of the outbox, versions."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    place = subprocess.run(
        ["stat", "-f", "-c", "%T", tempfile.gettempdir()], capture_output=True, text=True, check=True
    )
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "commit": commit.stdout.strip(),
        "machine": {
            "processor": processor[0].partition(":")[2].strip() if processor else platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "load_before": round(os.getloadavg()[0], 2),
            "file_system": place.stdout.strip(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("tfanet-edge", "onnxruntime", "paho-mqtt")},
    }


def keep(name: str, result: dict[str, object]) -> None:
    """Write a result file."""
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")
