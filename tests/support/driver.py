"""What tests of the GPU share: PyCUDA and CUDA's Python bindings on a stand-in for NVIDIA's driver."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edge.bundle import load_bundle
from edge.engines import kernels
from edge.engines.plan_cache import PlanKey, store_plan

SOURCES = Path(__file__).parents[1] / "fakes" / "cuda"
DRIVERS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg")  # of graphics cards, of Jetson, of WSL
ILLEGAL_ADDRESS = 700


class Live(ctypes.Structure):
    """What a test has made and not given back."""

    _fields_ = (
        ("device_bytes", ctypes.c_uint64),
        *((name, ctypes.c_uint) for name in ("device", "managed", "page_locked", "registered")),
        *((name, ctypes.c_uint) for name in ("streams", "events", "graphs", "modules")),
    )

    def left(self) -> dict[str, int]:
        """The counts that are not zero."""
        counts = {name: int(getattr(self, name)) for name, _ in self._fields_}
        return {name: count for name, count in counts.items() if count}


class FakeCuda:
    """The stand-in for the driver, and the faults it may be given. Codes are those of `CUresult`."""

    POISON = 0xCD

    def __init__(self, path: Path, toolkit: Path) -> None:
        self.path, self._toolkit = path, toolkit
        self._library = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)

    def reset(self) -> None:
        """No faults, no work that waits, the device as it was; what is still there no longer counts."""
        self._library.fake_reset()

    def fail_next(self, name: str, code: int, after: int = 0, every: int = 0) -> None:
        """The call of `name` after `after` others, then each `every`-th (0: no other), only returns `code`.

        Names are without `_v2`. With code 0 the call is left out and says that all is well.
        """
        if self._library.fake_fail_next(name.encode(), code, after, every):
            raise ValueError(f"the driver has no {name}, or there are too many faults")

    def ignore_wait(self, after: int = 0, every: int = 0) -> None:
        """As if the program had not called `cuStreamWaitEvent` there."""
        self.fail_next("cuStreamWaitEvent", 0, after, every)

    def fault_kernel(self, after: int = 0, code: int = ILLEGAL_ADDRESS) -> None:
        """The kernel that runs after `after` others ends the context, for every call to come."""
        self._library.fake_fault_kernel(after, code)

    def faults_left(self) -> int:
        """Faults without `every` that have not come up."""
        return int(self._library.fake_faults_left())

    def set_device(
        self,
        name: str | None = None,
        total_bytes: int = 0,
        count: int = -1,
        driver_version: int = 0,
        compute_capability: tuple[int, int] | None = None,
    ) -> None:
        """What is not given stays as it is. The driver's version is 12060 for 12.6."""
        encoded = None if name is None else name.encode()
        self._library.fake_set_device(encoded, ctypes.c_uint64(total_bytes), count, driver_version)
        for which, value in zip((75, 76), compute_capability or (), strict=False):
            self.set_attribute(which, value)

    def set_attribute(self, which: int, value: int) -> None:
        """Of the device, by the number of its `CUdevice_attribute`, which an enumeration of PyCUDA's is as well."""
        self._library.fake_set_attribute(int(which), value)

    def calls(self, name: str) -> int:
        """How often it was called in this test."""
        return int(self._library.fake_calls(name.encode()))

    def pending(self) -> int:
        """Pieces of work in streams that nothing has waited for."""
        return int(self._library.fake_pending())

    def live(self) -> dict[str, int]:
        """What this test has made and not given back, with the number of each; bytes of device memory."""
        live = Live()
        self._library.fake_live(ctypes.byref(live))
        return live.left()

    def compile(self, source: str, directory: Path) -> bytes:
        """A module for this driver: C++ in which each kernel NAME is `extern "C" host_NAME(args, grid, block)`."""
        compiler = shutil.which("c++")
        if compiler is None:
            pytest.skip("needs a C++ compiler")
        made = directory / "kernels.so"
        options = ("-x", "c++", "-O1", "-shared", "-fPIC", "-I", self._toolkit / "include", "-I", SOURCES, "-o", made)
        subprocess.run([compiler, *options, "-"], input=source, text=True, check=True)
        return made.read_bytes()


class Tools(NamedTuple):
    compiler: str
    nm: str
    toolkit: Path


def find_tools() -> Tools:
    """What the stand-in is built with; skips where something is missing."""
    nvcc = shutil.which("nvcc")
    roots = (os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parents[1], "/usr/local/cuda")
    toolkit = next((Path(root) for root in roots if root and (Path(root) / "include" / "cuda.h").exists()), None)
    compiler, nm = shutil.which("cc"), shutil.which("nm")
    if toolkit is None or compiler is None or nm is None:
        pytest.skip("needs CUDA's headers, a C compiler and nm")
    return Tools(compiler, nm, toolkit)


def build(tools: Tools, pycuda_driver: Path, directory: Path) -> Path:
    """The stand-in; what PyCUDA asks of the driver beyond it is there too, and says that it is not supported."""
    listed = subprocess.run(
        [tools.nm, "-D", "--undefined-only", pycuda_driver], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    names = re.findall(r" U (cu[A-Z]\w+)$", listed, re.MULTILINE)
    rest = directory / "rest.c"
    rest.write_text("".join(f"__attribute__((weak)) int {name}(void) {{ return 801; }}\n" for name in names))
    library = directory / "libcuda.so.1"
    include = ("-I", tools.toolkit / "include", "-I", SOURCES)
    flags = ("-std=c11", "-O1", "-g", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", *include)
    # A function of the driver that cuda.h does not declare just so is an error.
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wmissing-prototypes", "-Wno-missing-field-initializers")
    made = directory / "rest.o"
    subprocess.run([tools.compiler, "-w", "-c", "-fPIC", "-o", made, rest], check=True)
    own = sorted(SOURCES.glob("*.c"))
    command = [tools.compiler, *flags, *warnings, "-fvisibility=hidden", "-o", library, *own, made]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return library


@pytest.fixture(scope="session")
def fake_cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCuda]:
    """The stand-in, loaded before PyCUDA is: whoever asks for libcuda.so.1 from then on gets it."""
    present = [device for device in DRIVERS if Path(device).exists()]
    if present:
        pytest.skip(f"this machine has a driver of NVIDIA's: {present[0]}")
    package = find_spec("pycuda")
    if package is None or package.origin is None:
        pytest.skip("needs PyCUDA")
    tools = find_tools()
    pycuda_driver = next(Path(package.origin).parent.glob("_driver.*"))
    fake = FakeCuda(build(tools, pycuda_driver, tmp_path_factory.mktemp("fake_cuda")), tools.toolkit)
    fake.set_device(count=0)
    yield fake
    fake.reset()


@pytest.fixture(scope="session")
def host_kernels_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own kernels, compiled for this machine."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    made = tmp_path_factory.mktemp("kernels") / "kernels.so"
    options = ("-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas", "-Werror", "-o", made)
    subprocess.run([compiler, *options, SOURCES / "host_kernels.cpp"], check=True)
    return made


@pytest.fixture
def fake_cuda(fake_cuda_library: FakeCuda) -> Iterator[FakeCuda]:
    """The stand-in as new. Other tests of the process see a driver without a device."""
    fake_cuda_library.reset()
    yield fake_cuda_library
    fake_cuda_library.reset()
    fake_cuda_library.set_device(count=0)


@pytest.fixture(scope="session")
def real_gpu() -> None:
    """A GPU and its driver; skips where one is missing."""
    try:
        import pycuda.driver as cuda

        cuda.init()
        found = cuda.Device.count()
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no GPU to test on
        pytest.skip(f"needs an NVIDIA GPU, its driver and PyCUDA ({error})")
    if not found:
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def compiled_kernels(host_kernels_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever compiles the kernels for the GPU gets those for the host, as the stand-in wants them."""
    monkeypatch.setattr(kernels, "compile_kernels", lambda *_: host_kernels_path.read_bytes())


@pytest.fixture
def gpu(
    fake_cuda: FakeCuda, fake_tensorrt: Any, compiled_kernels: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> FakeCuda:
    """A machine with a GPU and TensorRT; plans that a station looks for go into a directory of the test's own."""
    monkeypatch.setattr("edge.engines.plan_cache.SYSTEM_CACHE", tmp_path / "plans")
    return fake_cuda


@pytest.fixture
def make_plan(gpu: FakeCuda, bundle_dir: Path, fake_tensorrt: Any, tmp_path: Path) -> Callable[..., Path]:
    """Keep a plan of the small bundle, for this device or one that differs from it; its file."""
    from edge.cuda import Gpu
    from edge.engines.device import read_device_facts

    def make(*, damaged: bool = False, max_batch: int = 1, **differences: Any) -> Path:
        device = Gpu()
        facts = read_device_facts(device.device).model_copy(update=differences)
        device.close()
        bundle = load_bundle(bundle_dir)
        key = PlanKey(
            onnx_sha256=bundle.manifest.files["model.fp32.onnx"],
            precision="fp32",
            max_batch=max_batch,
            workspace_mib=None,
            device=facts,
        )
        content = fake_tensorrt.make_plan((bundle_dir / "model.fp32.onnx").read_bytes(), facts, facts.tensorrt)
        plan = store_plan(tmp_path / "plans", content, key, 1.0, 0.0, 0.0)
        if damaged:
            plan.path.write_bytes(b"")
        return plan.path

    return make
