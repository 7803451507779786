"""Our calls against the real Python bindings of five TensorRT versions: what they type-check as, and which way they go.

`tools/tensorrt_bindings.py` installs the bindings, with empty libraries behind them: nothing is built or run here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.engines import trt_compat

ROOT = Path(__file__).parents[3]
PINNED = re.findall(r"^[\w-]+==([\d.]+)$", (ROOT / "tools" / "tensorrt-bindings.txt").read_text(), re.MULTILINE)
WEAKLY_TYPED = ("8.",)

USES = """
import json, sys
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt
from edge.engines import trt_compat

class Config:
    def __init__(self): self.flags, self.progress_monitor = [], None
    def set_flag(self, flag): self.flags.append(flag.name)

class Progress:
    heard = []
    def begin(self, phase, parent, steps): self.heard.append(["begin", phase, parent, steps])
    def step(self, phase, step): self.heard.append(["step", phase, step]); return step < 1
    def end(self, phase): self.heard.append(["end", phase])

def flags(precision):
    config = Config()
    trt_compat.allow_precision(config, precision)
    return config.flags

logger, messages = trt_compat.logger()
logger.log(trt.ILogger.Severity.ERROR, "out of memory\\nat this line")
logger.log(trt.ILogger.Severity.INFO, "said to nobody")
config = Config()
monitor = trt_compat.watch(config, Progress())
if monitor is not None:
    monitor.phase_start("tactics", None, 2)
    goes_on = [monitor.step_complete("tactics", step) for step in (0, 1)]
    monitor.phase_finish("tactics")
creation = trt.NetworkDefinitionCreationFlag
print(json.dumps({
    "version": trt.__version__,
    "network": [name for name, flag in creation.__members__.items() if trt_compat.network_flags() >> int(flag) & 1],
    "precision": {name: flags(name) for name in ("fp32", "fp16", "int8")},
    "has_precision_flags": hasattr(trt.BuilderFlag, "INT8"),
    "logger": isinstance(logger, trt.ILogger),
    "lines": messages.lines,
    "last_error": messages.last_error(),
    "monitor": monitor is not None and isinstance(config.progress_monitor, trt.IProgressMonitor),
    "heard": Progress.heard + ([goes_on] if monitor is not None else []),
    "sizes": trt_compat.sizes(trt.Dims([-1, 256, 256, 3])),
    "aims": trt_compat.aim_at(config, (8, 6)),
}))
"""


def bindings(version: str) -> Path:
    place = Path(sys.prefix) / "tensorrt" / version
    if not place.exists():
        pytest.skip(f"TensorRT {version} has no bindings for this Python, or tools/tensorrt_bindings.py was not run")
    return place


@pytest.fixture(scope="session", params=PINNED)
def used(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What came of every function of trt_compat with one version's bindings."""
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", USES],
        env=os.environ | {"PYTHONPATH": f"{bindings(request.param)}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    result: dict[str, Any] = json.loads(child.stdout)
    assert result["version"] == request.param
    return result


def test_the_network_keeps_its_own_types_where_the_builder_can(used: dict[str, Any]) -> None:
    if used["version"].startswith(WEAKLY_TYPED):
        assert used["network"] == ["EXPLICIT_BATCH"]
        assert used["precision"] == {"fp32": [], "fp16": ["FP16"], "int8": ["FP16", "INT8"]}
    else:
        assert used["network"] == ["STRONGLY_TYPED"]
        assert used["precision"] == {"fp32": [], "fp16": [], "int8": []}
    assert used["has_precision_flags"] == (int(used["version"].split(".")[0]) < 11)


def test_warnings_and_errors_are_heard(used: dict[str, Any]) -> None:
    assert used["logger"]
    assert used["lines"] == [["ERROR", "out of memory\nat this line"]]
    assert used["last_error"] == "out of memory"


def test_progress_is_told_where_there_is_a_monitor(used: dict[str, Any]) -> None:
    steps = [["begin", "tactics", None, 2], ["step", "tactics", 0], ["step", "tactics", 1], ["end", "tactics"]]
    assert used["monitor"] == (not used["version"].startswith(WEAKLY_TYPED))
    assert used["heard"] == ([*steps, [True, False]] if used["monitor"] else [])


def test_plans_are_for_the_gpu_at_hand(used: dict[str, Any]) -> None:
    assert used["aims"] is False
    assert used["sizes"] == [-1, 256, 256, 3]


@pytest.mark.parametrize("version", ["10.0.0.6", "10.3.0", "10.4.0.26"])
def test_a_version_that_miscomputes_transformers_is_warned_about(version: str) -> None:
    warning = trt_compat.warn_about(version)
    assert warning is not None
    assert f"TensorRT {version} may" in warning


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "10.5.0", "10.13.3.9", "11.4.0.106"])
def test_other_versions_are_not(version: str) -> None:
    assert trt_compat.warn_about(version) is None


@pytest.fixture(scope="session")
def type_check(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs mypy on files with one version's stubs; its complaints."""
    cache = tmp_path_factory.mktemp("mypy")

    def run(version: str, files: list[Path]) -> list[str]:
        mypy = subprocess.run(
            # Where a signature names a class defined further down, NVIDIA's docstrings have no types.
            [sys.executable, "-m", "mypy", "--allow-untyped-calls", "--cache-dir", cache, *files],
            cwd=ROOT,
            env=os.environ | {"MYPYPATH": str(bindings(version) / "stubs")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not mypy.stderr
        return [line for line in mypy.stdout.splitlines() if "error:" in line]

    return run


@pytest.mark.parametrize("version", PINNED)
def test_every_call_fits_the_bindings(type_check: Any, version: str) -> None:
    modules = [path for package in ("edge", "export") for path in (ROOT / package).rglob("*.py")]
    users = [path for path in modules if re.search(r"^\s*import tensorrt\b", path.read_text(), re.MULTILINE)]
    assert ROOT / "export" / "build_engine.py" in users
    assert type_check(version, users) == []


@pytest.mark.parametrize("version", PINNED)
def test_a_call_that_does_not_fit_is_found(type_check: Any, version: str, tmp_path: Path) -> None:
    module = tmp_path / "uses.py"
    module.write_text(
        "import tensorrt as trt\n"
        "flag = trt.BuilderFlag.INT8\n"
        "def use(config: trt.IBuilderConfig, context: trt.IExecutionContext) -> None:\n"
        "    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)\n"
        "    context.no_such_call()\n"
    )
    lines = [line.partition("uses.py:")[2].split(":")[0] for line in type_check(version, [module])]
    assert lines == (["2", "4", "5"] if version.startswith("11.") else ["4", "5"])
