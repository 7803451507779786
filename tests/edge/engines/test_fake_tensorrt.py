"""The stand-in for TensorRT: it has nothing that TensorRT has not, and all that we call; it computes in its stream."""

from __future__ import annotations

import ast
import ctypes
import hashlib
import re
import sys
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pytest

from edge.engines.device import DeviceFacts
from edge.engines.plan_cache import PlanKey, PlanRecord
from edge.errors import EngineError

ROOT = Path(__file__).parents[3]
FAKE = ROOT / "tests" / "fakes" / "tensorrt" / "__init__.py"
ITS_OWN = {"Fake"}
PINNED = re.findall(r"^[\w-]+==(1[\d.]+)$", (ROOT / "tools" / "tensorrt-bindings.txt").read_text(), re.MULTILINE)
MODULES = [path for package in ("edge", "export") for path in (ROOT / package).rglob("*.py")]
RUNNERS = [path for path in MODULES if ".execute_async_v3(" in path.read_text()]
DEVICE = DeviceFacts(gpu="Orin", compute_capability=(8, 7), driver="12.6", l4t="36.4.3", tensorrt="10.3.0")

Arguments = list[tuple[str, bool]]
Surface = dict[str, dict[str, list[Arguments | None]]]


def surface(source: Path) -> Surface:
    """Public classes, those within others with a dot; of each the members; of methods every list of arguments
    (name, has a default), None for any."""
    found: Surface = {}

    def read(node: ast.ClassDef, prefix: str) -> None:
        members: dict[str, list[Arguments | None]] = {}
        found[prefix + node.name] = members
        for statement in node.body:
            if isinstance(statement, ast.ClassDef):
                read(statement, f"{prefix}{node.name}.")
                members[statement.name] = []
            elif isinstance(statement, ast.FunctionDef):
                is_property = any("property" in ast.unparse(decorator) for decorator in statement.decorator_list)
                members.setdefault(statement.name, []).extend([] if is_property else [arguments(statement)])
                members |= {name: [] for name in re.findall(r"\bself\.(\w+)(?:: [^=]+)? = ", ast.unparse(statement))}
            else:
                members |= {name.id: [] for name in ast.walk(statement) if is_stored(name)}

    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            read(node, "")
    return found


def is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def arguments(function: ast.FunctionDef) -> Arguments | None:
    if function.args.vararg is not None:
        return None
    names = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
    first_default = len(names) - len(function.args.defaults)
    return [(name, index >= first_default) for index, name in enumerate(names)][1:]


def fits(ours: Arguments | None, theirs: Arguments | None) -> bool:
    """Whether every call that ours accepts is one that theirs does."""
    if ours is None or theirs is None:
        return theirs is None
    named = [name for name, _ in ours] == [name for name, _ in theirs[: len(ours)]]
    optional = all(default or not own for (_, own), (_, default) in zip(ours, theirs, strict=False))
    return named and optional and all(default for _, default in theirs[len(ours) :])


def differences(ours: Surface, theirs: Surface) -> list[str]:
    """What ours has and theirs has not."""
    found = []
    for name, members in ours.items():
        for member, lists in members.items():
            if member.startswith("_") and member != "__init__":
                continue
            if member not in theirs.get(name, {}):
                found.append(f"{name}.{member}")
            elif not all(any(fits(own, their) for their in theirs[name][member]) for own in lists):
                found.append(f"{name}.{member}()")
    return found


def missing(source: Path, module: Any, real: Surface) -> set[str]:
    """What a file uses of TensorRT that the stand-in has not: names reached from the module, and members of the
    stand-in's classes, on whatever object they are used."""
    tree = ast.parse(source.read_text())
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    roots = {alias.asname or alias.name for alias in imports if alias.name == "tensorrt"}
    ours, found = surface(FAKE), set()
    of_classes = {member for name in ours for member in real.get(name, {})}
    of_ours = {member for members in ours.values() for member in members}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, *path = ast.unparse(node).split(".")
            if root in roots and not reaches(module, path):
                found.add(".".join(path))
            elif root not in roots and node.attr in of_classes - of_ours:
                found.add(node.attr)
    return found


def reaches(thing: Any, path: list[str]) -> bool:
    return not path or (hasattr(thing, path[0]) and reaches(getattr(thing, path[0]), path[1:]))


def real_surface(version: str) -> Surface:
    stub = Path(sys.prefix) / "tensorrt" / version / "stubs" / "tensorrt" / "__init__.pyi"
    if not stub.exists():
        pytest.skip(f"TensorRT {version} has no bindings for this Python, or tools/tensorrt_bindings.py was not run")
    return surface(stub)


@pytest.mark.parametrize("version", PINNED)
def test_all_that_it_has_tensorrt_has(version: str) -> None:
    ours = {name: members for name, members in surface(FAKE).items() if name not in ITS_OWN}
    assert {"Runtime", "ICudaEngine", "IExecutionContext", "ILogger.Severity", "DataType"} < ours.keys()
    assert differences(ours, real_surface(version)) == []


def test_what_tensorrt_has_not_is_found(tmp_path: Path) -> None:
    source = tmp_path / "fake.py"
    source.write_text(
        "class DataType:\n"
        "    FLOAT, DOUBLE = 0, 1\n"
        "class IExecutionContext:\n"
        "    def execute_async_v3(self, stream): ...\n"
        "    def set_tensor_address(self, name, memory=0): ...\n"
        "    def set_optimization_profile_async(self, profile_index): ...\n"
        "    def execute_async_v4(self, stream_handle): ...\n"
        "    def infer_shapes(self): self.shapes = ()\n"
    )
    context = [f"IExecutionContext.{name}" for name in ("execute_async_v4", "shapes")]
    calls = ("execute_async_v3", "set_tensor_address", "set_optimization_profile_async")
    found = differences(surface(source), real_surface("10.3.0"))
    assert sorted(found) == sorted(["DataType.DOUBLE", *context, *(f"IExecutionContext.{name}()" for name in calls)])


def test_our_calls_are_all_there(fake_tensorrt: Any) -> None:
    assert ROOT / "edge" / "engines" / "tensorrt.py" in RUNNERS
    real = real_surface("10.3.0")
    assert {name for path in RUNNERS for name in missing(path, fake_tensorrt, real)} == set()


def test_a_call_that_is_not_there_is_found(fake_tensorrt: Any, tmp_path: Path) -> None:
    source = tmp_path / "uses.py"
    source.write_text(
        "import tensorrt as trt\nx = trt.DataType.FP8, trt.Logger.ERROR\nx.context.set_device_memory(1)\n"
    )
    assert missing(source, fake_tensorrt, real_surface("10.3.0")) == {"DataType.FP8", "set_device_memory"}


class Driver:
    """An Orin whose one stream runs when it is told to."""

    def __init__(self) -> None:
        self.queued: list[Any] = []
        self.is_capturing = 0

    def cuCtxGetDevice(self, device: Any) -> int:  # noqa: N802
        device._obj.value = 0
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = DEVICE.gpu.encode()
        return 0

    def cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> int:  # noqa: N802
        number._obj.value = dict(zip((75, 76), DEVICE.compute_capability, strict=True))[attribute]
        return 0

    def cuStreamIsCapturing(self, stream: Any, status: Any) -> int:  # noqa: N802
        status._obj.value = self.is_capturing
        return 0

    def cuLaunchHostFunc(self, stream: Any, function: Any, data: Any) -> int:  # noqa: N802
        self.queued.append(function)
        return 0

    def synchronise(self) -> None:
        for function in self.queued:
            function(None)


@pytest.fixture
def driver(fake_tensorrt: Any) -> Driver:
    fake_tensorrt.fake.driver = Driver()
    return fake_tensorrt.fake.driver  # type: ignore[no-any-return]


@pytest.fixture
def onnx(read_only_bundle_dir: Path) -> bytes:
    return (read_only_bundle_dir / "model.fp32.onnx").read_bytes()


@pytest.fixture
def engine(fake_tensorrt: Any, driver: Driver, onnx: bytes) -> Any:
    from edge.engines import trt_compat

    return trt_compat.deserialize(fake_tensorrt.make_plan(onnx, DEVICE, "10.3.0"))


def device_memory(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Aligned as CUDA's."""
    room = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize + 256, 0xCD, np.uint8)
    start = -room.ctypes.data % 256
    return room[start : room.size - 256 + start].view(dtype).reshape(shape)


class Bound:
    """A context with memory at all its tensors."""

    def __init__(self, engine: Any) -> None:
        self.context = engine.create_execution_context()
        assert self.context.set_input_shape("image", (1, 256, 256, 3))
        self.image = device_memory((1, 256, 256, 3), np.uint8)
        self.anomaly_map = device_memory(tuple(self.context.get_tensor_shape("anomaly_map")), np.float32)
        self.score = device_memory(tuple(self.context.get_tensor_shape("score")), np.float32)
        for name in ("image", "anomaly_map", "score"):
            assert self.context.set_tensor_address(name, getattr(self, name).ctypes.data)


def heard(said: str) -> bool:
    from edge.engines import trt_compat

    return any(severity == "ERROR" and said in text for severity, text in trt_compat.logger()[1].lines)


def test_an_engine_tells_its_tensors(engine: Any, fake_tensorrt: Any) -> None:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    modes = {name: engine.get_tensor_mode(name).name for name in names}
    assert modes == {"image": "INPUT", "anomaly_map": "OUTPUT", "score": "OUTPUT"}
    assert [engine.get_tensor_dtype(name).name for name in names] == ["UINT8", "FLOAT", "FLOAT"]
    assert [tuple(engine.get_tensor_shape(name)) for name in names] == [(-1, 256, 256, 3), (-1, 256, 256), (-1,)]
    context = engine.create_execution_context()
    assert context.infer_shapes() == ["image"]
    assert not context.set_input_shape("image", (2, 256, 256, 3))
    assert not context.set_input_shape("image", [1, 128, 256, 3])
    assert context.set_input_shape("image", fake_tensorrt.Dims([1, 256, 256, 3]))
    assert context.infer_shapes() == []
    assert tuple(context.get_tensor_shape("anomaly_map")) == (1, 256, 256)


def test_nothing_is_computed_before_the_stream_runs(engine: Any, driver: Driver) -> None:
    bound = Bound(engine)
    poison = bound.score.tobytes()
    assert bound.context.execute_async_v3(7)
    assert bound.score.tobytes() == poison
    bound.image[:] = 51
    driver.synchronise()
    np.testing.assert_allclose(bound.anomaly_map, 0.2, rtol=1e-6)
    np.testing.assert_allclose(bound.score, 0.2, rtol=1e-6)


def test_a_graph_may_run_the_same_work_again(engine: Any, driver: Driver) -> None:
    bound = Bound(engine)
    driver.is_capturing = 1
    assert not bound.context.execute_async_v3(7)
    assert heard("stream is capturing")
    driver.is_capturing = 0
    assert bound.context.execute_async_v3(7)
    driver.queued.clear()
    driver.is_capturing = 1
    assert bound.context.execute_async_v3(7)
    for grey in (51, 255):
        bound.image[:] = grey
        driver.synchronise()
        np.testing.assert_allclose(bound.score, grey / 255, rtol=1e-6)


def test_addresses_are_those_of_the_call(engine: Any, driver: Driver) -> None:
    bound, other = Bound(engine), device_memory((1,), np.float32)
    bound.image[:] = 51
    assert bound.context.execute_async_v3(7)
    assert bound.context.set_tensor_address("score", other.ctypes.data)
    assert bound.context.get_tensor_address("score") == other.ctypes.data
    driver.synchronise()
    np.testing.assert_allclose(bound.score, 0.2, rtol=1e-6)
    assert other.tobytes() == b"\xcd" * 4


@pytest.mark.parametrize("scale", [1.5, float("nan")])
def test_outputs_can_be_wrong(engine: Any, driver: Driver, fake_tensorrt: Any, scale: float) -> None:
    bound = Bound(engine)
    bound.image[:] = 51
    fake_tensorrt.fake.scale = scale
    assert bound.context.execute_async_v3(7)
    driver.synchronise()
    np.testing.assert_allclose(bound.score, 0.2 * scale, rtol=1e-6)
    np.testing.assert_allclose(bound.anomaly_map, 0.2 * scale, rtol=1e-6)


def test_what_cannot_be_enqueued_is_refused_and_logged(engine: Any, fake_tensorrt: Any, driver: Driver) -> None:
    bound = Bound(engine)
    assert not bound.context.set_tensor_address("no such tensor", 256)
    assert not bound.context.set_optimization_profile_async(1, 7)
    assert bound.context.set_optimization_profile_async(0, 7)
    bound.context.set_tensor_address("score", bound.score.ctypes.data + 4)
    assert not bound.context.execute_async_v3(7)
    assert heard(f"address of score is {bound.score.ctypes.data + 4}")
    assert not engine.create_execution_context().execute_async_v3(7)
    assert heard("input shapes are not set: ['image']")
    fake_tensorrt.fake.fail_enqueue = True
    assert not Bound(engine).context.execute_async_v3(7)
    assert heard("illegal memory access")
    fake_tensorrt.fake.fail_context = True
    assert engine.create_execution_context() is None
    assert heard("OutOfMemory")
    assert driver.queued == []


def test_work_outlives_no_context(engine: Any, driver: Driver, fake_tensorrt: Any) -> None:
    bound = Bound(engine)
    assert bound.context.execute_async_v3(7)
    poison = bound.score.tobytes()
    del bound.context
    driver.synchronise()
    assert bound.score.tobytes() == poison
    assert "is gone" in str(fake_tensorrt.fake.errors.pop())


def test_tensorrts_own_logger_prints(fake_tensorrt: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logger = fake_tensorrt.Logger(fake_tensorrt.Logger.WARNING)
    logger.log(fake_tensorrt.Logger.WARNING, "loud")
    logger.log(fake_tensorrt.Logger.INFO, "quiet")
    assert capsys.readouterr().err == "[TRT] [W] loud\n"
    with pytest.raises(TypeError):
        fake_tensorrt.Runtime(None)


def record(plan: bytes, device: DeviceFacts) -> PlanRecord:
    key = PlanKey(onnx_sha256="0" * 64, precision="fp32", max_batch=1, workspace_mib=None, device=device)
    sha256 = hashlib.sha256(plan).hexdigest()
    return PlanRecord(key=key, plan_sha256=sha256, plan_bytes=len(plan), build_s=1, map_error=0, score_error=0)


@pytest.mark.parametrize(
    ("others", "named", "unnamed"),
    [
        (
            {"tensorrt": "10.3.1"},
            r"TensorRT 10\.3\.1, this is 10\.3\.0 \(",
            r"TensorRT of another version, this is 10\.3\.0",
        ),
        (
            {"tensorrt": "10.16.1.11"},
            r"TensorRT 10\.16\.1\.11, this is 10\.3\.0",
            "TensorRT of another version, this is",
        ),
        (
            {"gpu": "H200", "compute_capability": (9, 0)},
            r"is for H200 \(.*expecting compute 8\.7 got compute 9\.0",
            r"is for another device \(.*got compute 9\.0",
        ),
    ],
)
def test_a_plan_from_elsewhere_is_told_apart(
    fake_tensorrt: Any, driver: Driver, onnx: bytes, others: dict[str, Any], named: str, unnamed: str
) -> None:
    from edge.engines import trt_compat

    device = DEVICE.model_copy(update=others)
    plan = fake_tensorrt.make_plan(onnx, device, device.tensorrt)
    for known, said in ((record(plan, device), named), (None, unnamed)):
        with pytest.raises(EngineError, match=said) as error:
            trt_compat.deserialize(plan, known)
        assert "\n" not in str(error.value)
        assert error.value.remedy == "build it again on this device: tfanet-edge build"


@pytest.mark.parametrize(
    "damage", [lambda plan: plan[:-1], lambda plan: plan[:50], lambda plan: plan[1:], lambda _: b""]
)
def test_a_damaged_plan_is_told_apart(fake_tensorrt: Any, driver: Driver, onnx: bytes, damage: Any) -> None:
    from edge.engines import trt_compat

    plan = fake_tensorrt.make_plan(onnx, DEVICE, "10.3.0")
    with pytest.raises(EngineError, match=r"the plan is damaged \(.*Serialization"):
        trt_compat.deserialize(damage(plan))
    with pytest.raises(EngineError, match=r"the plan is damaged: it is not what its record says"):
        trt_compat.deserialize(damage(plan), record(plan, DEVICE))


def test_another_reason_is_no_damage(fake_tensorrt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge.engines import trt_compat

    monkeypatch.setattr(fake_tensorrt.Runtime, "deserialize_cuda_engine", lambda *_: None)
    trt_compat.logger()[1].lines.append(("ERROR", "of an earlier call"))
    with pytest.raises(EngineError, match=r"10\.3\.0 cannot load the plan \(it gives no reason\)"):
        trt_compat.deserialize(b"")


def test_a_plan_of_another_model_of_the_same_architecture_loads(
    fake_tensorrt: Any, driver: Driver, onnx: bytes
) -> None:
    from edge.engines import trt_compat

    plan = fake_tensorrt.make_plan(onnx, DEVICE.model_copy(update={"gpu": "Orin NX"}), "10.3.0")
    assert trt_compat.deserialize(plan).num_io_tensors == 3
    assert [severity for severity, _ in trt_compat.logger()[1].lines] == ["WARNING"]


def test_work_waits_in_streams_of_the_fake_driver(fake_cuda: Any, fake_tensorrt: Any, onnx: bytes) -> None:
    import pycuda.driver as cuda

    from edge.engines import trt_compat

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        name, compute_capability = cuda.Device(0).name(), cuda.Device(0).compute_capability()
        device = DEVICE.model_copy(update={"gpu": name, "compute_capability": compute_capability})
        engine = trt_compat.deserialize(fake_tensorrt.make_plan(onnx, device, "10.3.0"))
        execution, stream = engine.create_execution_context(), cuda.Stream()
        execution.set_input_shape("image", (1, 256, 256, 3))
        sizes_bytes = {"image": 256 * 256 * 3, "anomaly_map": 256 * 256 * 4, "score": 4}
        memory = {name: cuda.mem_alloc(size_bytes) for name, size_bytes in sizes_bytes.items()}
        for name, address in memory.items():
            assert execution.set_tensor_address(name, int(address))
        score, poison = cuda.pagelocked_zeros(1, np.float32), np.full(4, fake_cuda.POISON, np.uint8).tobytes()
        cuda.memset_d8_async(memory["image"], 51, sizes_bytes["image"], stream)
        assert execution.execute_async_v3(stream.handle)
        assert fake_cuda.pending() == 2
        assert ctypes.string_at(int(memory["score"]), 4) == poison
        cuda.memcpy_dtoh_async(score, memory["score"], stream)
        stream.synchronize()
        np.testing.assert_allclose(score, 0.2, rtol=1e-6)
        assert not execution.execute_async_v3(12345)
        assert heard("Cuda Driver (error")
    finally:
        cuda.Context.pop()
