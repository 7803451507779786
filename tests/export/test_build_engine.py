"""`tfanet-edge build` with NVIDIA's real parser and builder; only the GPU that runs the plan is played."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from played_gpu import FACTS, PlayedGpu

from edge.bundle import Bundle, hash_files, load_bundle, write_manifest
from edge.engines import plan_cache
from edge.engines.device import DeviceFacts, l4t_release
from edge.engines.plan_cache import PlanKey, PlanRecord, default_cache, find_plan
from edge.errors import AcceleratorError, BundleError, ConfigError, EngineError, RefusedError
from export.build_command import BuildBar, add_command, build_variants

# Of TensorRT for RTX alone: there a timing cache has nothing in it.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")


@pytest.fixture
def options(tensorrt: Any) -> Callable[..., Any]:
    from export.build_engine import BuildOptions

    return lambda **others: BuildOptions(aim_at=(8, 6), **others)


@pytest.fixture
def bundle(bundle_dir: Path) -> Bundle:
    return load_bundle(bundle_dir)


@pytest.fixture
def gpu(bundle: Bundle) -> PlayedGpu:
    return PlayedGpu(bundle.path / bundle.variant("fp32").file)


@pytest.fixture
def build(bundle: Bundle, gpu: PlayedGpu, options: Callable[..., Any], tmp_path: Path) -> Callable[[], Path]:
    """Builds or finds the fp32 plan; its file."""
    return lambda: build_variants(bundle, ["fp32"], options(), tmp_path / "cache", gpu)[0].path


def test_a_plan_is_kept_with_all_that_it_depends_on(build: Callable[[], Path], gpu: PlayedGpu, bundle: Bundle) -> None:
    path = build()
    assert path.read_bytes() == gpu.plans[0]
    record = PlanRecord.model_validate_json(path.with_suffix(".json").read_bytes())
    assert record.key.device == FACTS
    assert record.key.onnx_sha256 == bundle.manifest.files["model.fp32.onnx"]
    assert (record.key.max_batch, record.key.workspace_mib) == (1, None)
    assert record.plan_bytes == path.stat().st_size
    assert record.build_s > 0
    assert record.map_error <= bundle.variant("fp32").map_tolerance
    kept = {file.suffix for file in path.parent.iterdir()}
    assert kept == {".plan", ".json", ".timing"}


def test_a_plan_is_built_once(build: Callable[[], Path], gpu: PlayedGpu, capsys: pytest.CaptureFixture[str]) -> None:
    assert build() == build()
    assert len(gpu.plans) == 1
    assert "fp32: already built: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "was changed"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "Field required"),
        (lambda path: _change_record(path, max_batch=9), "is of another plan"),
    ],
)
def test_a_damaged_plan_is_built_again(
    build: Callable[[], Path],
    gpu: PlayedGpu,
    damage: Callable[[Path], None],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(build())
    path = build()
    assert f"{said}; building it again" in capsys.readouterr().out
    assert path.read_bytes() == gpu.plans[1]
    assert len(gpu.plans) == 2


def _change_record(path: Path, **key: Any) -> None:
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"key": record["key"] | key}))


@pytest.mark.parametrize("error", [0.02, float("nan")])
def test_a_plan_that_computes_something_else_is_not_kept(
    bundle: Bundle, gpu: PlayedGpu, options: Callable[..., Any], tmp_path: Path, error: float
) -> None:
    gpu.error = error
    with pytest.raises(RefusedError) as refused:
        build_variants(bundle, ["fp32"], options(), tmp_path / "cache", gpu)
    assert f"map off by {error:.2e}, limit 1e-05" in str(refused.value)
    assert "Played GPU" in str(refused.value)
    assert "10.3 and 10.4 are known" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".timing"]


def test_every_part_of_the_key_makes_another_plan() -> None:
    key = PlanKey(onnx_sha256="0" * 64, precision="int8", max_batch=1, workspace_mib=None, device=FACTS)
    others = [key.model_copy(update=part) for part in ({"onnx_sha256": "1" * 64}, {"precision": "fp16"})]
    others += [key.model_copy(update=part) for part in ({"max_batch": 2}, {"workspace_mib": 1})]
    parts = [
        {"gpu": "other"},
        {"compute_capability": (8, 7)},
        {"driver": "12.6"},
        {"l4t": None},
        {"tensorrt": "10.3.0"},
    ]
    others += [key.model_copy(update={"device": FACTS.model_copy(update=part)}) for part in parts]
    assert {field for part in parts for field in part} == set(DeviceFacts.model_fields)
    assert len({key.name, *(other.name for other in others)}) == 10


def test_an_empty_cache_has_no_plan(tmp_path: Path) -> None:
    key = PlanKey(onnx_sha256="0" * 64, precision="int8", max_batch=1, workspace_mib=None, device=FACTS)
    assert find_plan(tmp_path / "none", key) is None


def test_options_reach_the_builder(
    bundle: Bundle, gpu: PlayedGpu, options: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.engines import trt_compat

    messages = trt_compat.logger()[1]
    monkeypatch.setattr(messages, "verbose", True)
    plan = build_variants(bundle, ["fp32"], options(max_batch=3, workspace_mib=64), tmp_path / "cache", gpu)[0]
    log = "\n".join(text for _, text in messages.lines)
    assert "MinShape: [1,256,256,3], OptShape: [3,256,256,3], MaxShape: [3,256,256,3]" in log
    assert (plan.record.key.max_batch, plan.record.key.workspace_mib) == (3, 64)


def test_a_spoilt_timing_cache_is_replaced(build: Callable[[], Path], tmp_path: Path) -> None:
    path = build()
    timing = next(path.parent.glob("*.timing"))
    timing.write_bytes(b"no timing cache")
    path.unlink()
    build()
    assert timing.read_bytes() != b"no timing cache"


def test_the_node_that_the_parser_refuses_is_named(
    bundle: Bundle, gpu: PlayedGpu, options: Callable[..., Any], tmp_path: Path
) -> None:
    refused = _replace_network(bundle, _asymmetric_network())
    with pytest.raises(
        BundleError, match=r"node 'quantise' \(QuantizeLinear\): .*zero point is not supported"
    ) as error:
        build_variants(refused, ["fp32"], options(), tmp_path / "cache", gpu)
    assert "\n" not in str(error.value)


def _replace_network(bundle: Bundle, model: onnx.ModelProto) -> Bundle:
    onnx.save(model, bundle.path / "model.fp32.onnx")
    hashes = {**bundle.manifest.files, **hash_files(bundle.path, ["model.fp32.onnx"])}
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"files": hashes}))
    return load_bundle(bundle.path)


def _asymmetric_network() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["image"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["as_float", "scale", "zero"], ["quantised"], name="quantise"),
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["again"]),
        helper.make_node("ReduceMean", ["again"], ["anomaly_map"], axes=[3], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    shape = ["N", 256, 256]
    graph = helper.make_graph(
        nodes,
        "asymmetric",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*shape, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, shape[:1]),
        ],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("zero", TensorProto.INT8, [], [-128]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Stop:
    """Hears of a build and ends it at its first step."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, str | None]] = []

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        assert steps > 0
        self.phases.append((phase, parent))

    def step(self, phase: str, step: int) -> bool:
        return False

    def end(self, phase: str) -> None:
        pass


def test_a_build_tells_its_phases_and_can_be_stopped(bundle: Bundle, options: Callable[..., Any]) -> None:
    from export.build_engine import build_plan

    progress = Stop()
    with pytest.raises(EngineError, match=r"cannot build '.*model\.fp32\.onnx'"):
        build_plan(bundle.path / "model.fp32.onnx", "fp32", options(), b"", progress)
    assert progress.phases[0][1] is None


def test_an_interrupted_build_stops_and_ends_as_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    def interrupted_build() -> None:
        with BuildBar("fp32") as bar:
            bar.begin("building", None, 2)
            bar.begin("tactics", "building", 4)
            assert bar.step("tactics", 0)
            assert bar.share == (0 + 1 / 4) / 2
            bar.end("tactics")
            assert bar.step("building", 0)
            assert bar.share == 1 / 2
            monkeypatch.setattr(bar._bar, "update", interrupt)
            assert not bar.step("building", 1)
            raise EngineError("cancelled")

    with pytest.raises(KeyboardInterrupt):
        interrupted_build()


def test_a_cache_that_cannot_be_written_is_named(
    bundle: Bundle, gpu: PlayedGpu, options: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"'.*/file/cache/.*' cannot be written \(.*\): give another --cache"):
        build_variants(bundle, ["fp32"], options(), tmp_path / "file" / "cache", gpu)


def test_plans_lie_where_the_station_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "SYSTEM_CACHE", tmp_path / "var" / "tfanet-edge")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "var" / "tfanet-edge"
    monkeypatch.setattr(plan_cache.os, "access", lambda *_: False)
    assert default_cache() == tmp_path / "home" / "tfanet-edge"


def test_the_release_of_jetson_linux_is_read() -> None:
    assert l4t_release("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n# more\n") == "36.4.3"
    assert l4t_release("something else\nmore") == "something else"


def test_the_verb_says_what_is_missing(bundle_dir: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    arguments = parser.parse_args(["build", str(bundle_dir), "--precision", "fp32"])
    with pytest.raises(AcceleratorError, match="the Python package 'tensorrt' is not installed: on a Jetson"):
        arguments.handler(arguments)


def test_the_verb_needs_neither_torch_nor_onnx() -> None:
    code = "import sys; import export.build_command; print(sorted({'torch', 'onnx', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.gpu
def test_a_plan_built_on_this_gpu_reproduces_the_golden_vectors(bundle: Bundle, tmp_path: Path) -> None:
    for package in ("tensorrt", "pycuda.driver"):
        pytest.importorskip(package, reason="needs an NVIDIA GPU with TensorRT and PyCUDA", exc_type=ImportError)
    from export.build_engine import BuildOptions
    from export.plan_runner import GpuPlanRunner

    gpu = GpuPlanRunner(tmp_path / "cache")
    plan = build_variants(bundle, ["fp32"], BuildOptions(), tmp_path / "cache", gpu)[0]
    assert plan.record.map_error <= bundle.variant("fp32").map_tolerance
