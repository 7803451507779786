"""What the tests of the GPU stand on: PyCUDA and CUDA's Python bindings, on the stand-in for the driver."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SIZE = 64
POISON = 0xCD
INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, NO_DEVICE = 1, 2, 3, 100
SYSTEM_DRIVER_MISMATCH, NOT_PERMITTED = 803, 800
ALREADY_REGISTERED, NOT_REGISTERED = 712, 713
NON_BLOCKING = 1
HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

KERNELS = """
#include <unistd.h>
struct Args { const unsigned char *from; unsigned char *to; int count, add; };
extern "C" void host_add(const void *block_of_arguments, const unsigned grid[3], const unsigned block[3]) {
    const Args &args = *static_cast<const Args *>(block_of_arguments);
    for (unsigned i = 0; i < grid[0] * block[0] && i < unsigned(args.count); i++)
        args.to[i] = args.from[i] + args.add;
}
extern "C" void host_nap(const void *, const unsigned *, const unsigned *) { usleep(20000); }
"""


class Gpu:
    """What a test needs while a context is current, and the kernels above."""

    def __init__(self, driver: Any, image: bytes) -> None:
        self.driver, self.image = driver, image
        self.module = driver.module_from_buffer(image)
        self.kernel = self.module.get_function("add").prepare("PPii")

    def add(self, source: Any, target: Any, amount: int, stream: Any) -> None:
        self.kernel.prepared_async_call((2, 1), (32, 1, 1), stream, source, target, SIZE, amount)

    def buffer(self) -> Any:
        return self.driver.mem_alloc(SIZE)

    def locked(self, value: int = 0) -> Any:
        array = self.driver.pagelocked_empty(SIZE, np.uint8)
        array[:] = value
        return array


@pytest.fixture(scope="module")
def image(fake_cuda_library: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return fake_cuda_library.compile(KERNELS, tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def gpu(fake_cuda: Any, image: bytes) -> Iterator[Gpu]:
    from pycuda import driver

    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    try:
        yield Gpu(driver, image)
    finally:
        context.detach()


@pytest.fixture
def bindings(gpu: Gpu) -> Any:
    return pytest.importorskip("cuda.bindings.driver")


def register(memory: Any) -> int:
    """Page-lock it; PyCUDA's own function for that crashes."""
    address = ctypes.c_void_p(memory.ctypes.data)
    return int(ctypes.CDLL("libcuda.so.1").cuMemHostRegister_v2(address, ctypes.c_size_t(memory.nbytes), 0))


def unregister(memory: Any) -> int:
    return int(ctypes.CDLL("libcuda.so.1").cuMemHostUnregister(ctypes.c_void_p(memory.ctypes.data)))


def done(result: tuple[Any, ...]) -> Any:
    """What a call of the bindings returned besides CUDA_SUCCESS."""
    assert int(result[0]) == 0, result[0]
    return result[1] if len(result) == 2 else result[1:]


def test_bytes_come_back(gpu: Gpu) -> None:
    data = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
    here, there, back = gpu.buffer(), gpu.buffer(), np.zeros_like(data)
    gpu.driver.memcpy_htod(here, data)
    gpu.driver.memcpy_dtod(there, here, SIZE)
    gpu.driver.memcpy_dtoh(back, there)
    assert (back == data).all()
    gpu.driver.memset_d8(here, 7, SIZE // 2)
    gpu.driver.memcpy_dtoh(back, here)
    assert (back[: SIZE // 2] == 7).all()
    assert (back[SIZE // 2 :] == data[SIZE // 2 :]).all()


def test_fresh_memory_is_poison(gpu: Gpu) -> None:
    back = np.zeros(SIZE, np.uint8)
    gpu.driver.memcpy_dtoh(back, gpu.buffer())
    assert (back == POISON).all()
    assert (gpu.driver.pagelocked_empty(SIZE, np.uint8) == POISON).all()


def test_work_waits_until_it_is_asked_for_and_no_other_work_runs_then(gpu: Gpu, fake_cuda: Any) -> None:
    streams = [gpu.driver.Stream(), gpu.driver.Stream()]
    results = [gpu.locked(), gpu.locked()]
    buffers = [gpu.buffer(), gpu.buffer()]
    for stream, buffer, result in zip(streams, buffers, results, strict=True):
        gpu.driver.memset_d8_async(buffer, 1, SIZE, stream)
        gpu.add(buffer, buffer, 2, stream)
        gpu.driver.memcpy_dtoh_async(result, buffer, stream)
    assert fake_cuda.pending() == 6
    assert not any(result.any() for result in results)
    streams[1].synchronize()
    assert (results[1] == 3).all()
    assert not results[0].any()
    assert fake_cuda.pending() == 3
    gpu.driver.Context.synchronize()
    assert (results[0] == 3).all()


@pytest.mark.parametrize(("waits", "ignored"), [(True, False), (True, True), (False, False)])
def test_streams_joined_by_an_event_and_a_wait_that_is_missing(
    gpu: Gpu, fake_cuda: Any, waits: bool, ignored: bool
) -> None:
    upload, compute = gpu.driver.Stream(), gpu.driver.Stream()
    source, target, uploaded = gpu.buffer(), gpu.buffer(), gpu.driver.Event()
    frame, result = gpu.locked(5), gpu.locked()
    if ignored:
        fake_cuda.ignore_wait()
    gpu.driver.memcpy_htod_async(source, frame, upload)
    uploaded.record(upload)
    if waits:
        compute.wait_for_event(uploaded)
    gpu.add(source, target, 1, compute)
    gpu.driver.memcpy_dtoh_async(result, target, compute)
    compute.synchronize()
    expected = 6 if waits and not ignored else POISON + 1
    assert (result == expected).all()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 255)), min_size=1, max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_work_that_is_joined_by_events_runs_in_order(gpu: Gpu, steps: list[tuple[int, int]]) -> None:
    streams = [gpu.driver.Stream() for _ in range(3)]
    buffer, result, before, expected = gpu.buffer(), gpu.locked(), gpu.driver.Event(), POISON
    for index, value in steps:
        streams[index].wait_for_event(before)
        if value % 2:
            gpu.driver.memset_d8_async(buffer, value, SIZE, streams[index])
            expected = value
        else:
            gpu.add(buffer, buffer, value, streams[index])
            expected = (expected + value) % 256
        before.record(streams[index])
    gpu.driver.memcpy_dtoh_async(result, buffer, streams[steps[-1][0]])
    streams[steps[-1][0]].synchronize()
    assert (result == expected).all()


def test_an_event_stands_for_its_place_in_the_stream(gpu: Gpu) -> None:
    stream, first, second = gpu.driver.Stream(), gpu.locked(), gpu.locked()
    buffer, event = gpu.buffer(), gpu.driver.Event()
    gpu.driver.memset_d8_async(buffer, 1, SIZE, stream)
    gpu.driver.memcpy_dtoh_async(first, buffer, stream)
    event.record(stream)
    gpu.driver.memcpy_dtoh_async(second, buffer, stream)
    event.synchronize()
    assert first.all()
    assert not second.any()


def test_a_wait_is_for_the_last_record_before_it(gpu: Gpu, fake_cuda: Any) -> None:
    one, other = gpu.driver.Stream(), gpu.driver.Stream()
    event, never, buffer, result = gpu.driver.Event(), gpu.driver.Event(), gpu.buffer(), gpu.locked()
    other.wait_for_event(never)
    assert fake_cuda.pending() == 0
    gpu.driver.memset_d8_async(buffer, 1, SIZE, one)
    event.record(one)
    other.wait_for_event(event)
    gpu.driver.memset_d8_async(buffer, 2, SIZE, one)
    event.record(one)
    gpu.driver.memcpy_dtoh_async(result, buffer, other)
    other.synchronize()
    assert (result == 1).all()
    assert event.query()
    gpu.driver.memcpy_dtoh(result, buffer)
    assert (result == 2).all()


@pytest.mark.parametrize("kind", ["pageable", "page-locked", "registered"])
def test_only_pageable_memory_is_read_during_the_call(gpu: Gpu, kind: str) -> None:
    stream, buffer, result = gpu.driver.Stream(), gpu.buffer(), gpu.locked()
    source = gpu.locked() if kind == "page-locked" else np.zeros(SIZE, np.uint8)
    if kind == "registered":
        register(source)
    source[:] = 1
    gpu.driver.memcpy_htod_async(buffer, source, stream)
    source[:] = 2
    gpu.driver.memcpy_dtoh_async(result, buffer, stream)
    stream.synchronize()
    assert (result == (1 if kind == "pageable" else 2)).all()


def test_pageable_memory_is_written_when_the_call_returns(gpu: Gpu) -> None:
    stream, buffer, result = gpu.driver.Stream(), gpu.buffer(), np.zeros(SIZE, np.uint8)
    gpu.driver.memset_d8_async(buffer, 3, SIZE, stream)
    gpu.driver.memcpy_dtoh_async(result, buffer, stream)
    assert (result == 3).all()


def test_a_kernel_keeps_its_arguments_as_they_were_at_the_launch(gpu: Gpu, bindings: Any) -> None:
    class Args(ctypes.Structure):
        _fields_ = (
            ("source", ctypes.c_void_p),
            ("target", ctypes.c_void_p),
            ("count", ctypes.c_int),
            ("add", ctypes.c_int),
        )

    stream, buffer, result = gpu.driver.Stream(), gpu.buffer(), gpu.locked()
    gpu.driver.memset_d8(buffer, 1, SIZE)
    module = done(bindings.cuModuleLoadData(gpu.image))
    function = done(bindings.cuModuleGetFunction(module, b"add"))
    args = Args(int(buffer), int(buffer), SIZE, 4)
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(args))
    done(bindings.cuLaunchKernel(function, 1, 1, 1, SIZE, 1, 1, 0, stream.handle, ctypes.addressof(parameters), 0))
    args.add = 100
    gpu.driver.memcpy_dtoh_async(result, buffer, stream)
    stream.synchronize()
    assert (result == 5).all()


@pytest.mark.parametrize("flags", [0, NON_BLOCKING])
def test_the_default_stream_comes_after_all_streams_but_those_that_do_not_block(
    gpu: Gpu, bindings: Any, flags: int
) -> None:
    stream = done(bindings.cuStreamCreate(flags))
    buffer, result = gpu.buffer(), np.zeros(SIZE, np.uint8)
    done(bindings.cuMemsetD8Async(int(buffer), 9, SIZE, stream))
    gpu.driver.memcpy_dtoh(result, buffer)
    assert (result == (POISON if flags else 9)).all()
    done(bindings.cuStreamDestroy(stream))


def capture(gpu: Gpu, bindings: Any, stream: Any, fill: Callable[[], None]) -> Any:
    mode = bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    done(bindings.cuStreamBeginCapture(stream.handle, mode))
    fill()
    graph = done(bindings.cuStreamEndCapture(stream.handle))
    executable = done(bindings.cuGraphInstantiate(graph, 0))
    done(bindings.cuGraphDestroy(graph))
    return executable


def test_a_graph_runs_each_time_with_what_is_in_memory_then(gpu: Gpu, bindings: Any, fake_cuda: Any) -> None:
    stream, source, buffer, result = gpu.driver.Stream(), gpu.locked(1), gpu.buffer(), gpu.locked()

    def fill() -> None:
        gpu.driver.memcpy_htod_async(buffer, source, stream)
        gpu.add(buffer, buffer, 10, stream)
        gpu.driver.memcpy_dtoh_async(result, buffer, stream)

    executable = capture(gpu, bindings, stream, fill)
    assert fake_cuda.pending() == 0
    for value in (1, 2, 3):
        source[:] = value
        done(bindings.cuGraphLaunch(executable, stream.handle))
        assert (result != value + 10).all()
        stream.synchronize()
        assert (result == value + 10).all()
    done(bindings.cuGraphExecDestroy(executable))
    assert "graphs" not in fake_cuda.live()


@pytest.mark.parametrize("waits", [True, False])
def test_a_dependency_that_a_graph_lacks_shows(gpu: Gpu, bindings: Any, waits: bool) -> None:
    stream, side = gpu.driver.Stream(), gpu.driver.Stream()
    fork, middle, joined = (gpu.driver.Event() for _ in range(3))
    buffer, result = gpu.buffer(), gpu.locked()

    def fill() -> None:
        fork.record(stream)
        side.wait_for_event(fork)
        gpu.driver.memset_d8_async(buffer, 4, SIZE, stream)
        middle.record(stream)
        if waits:
            side.wait_for_event(middle)
        gpu.driver.memcpy_dtoh_async(result, buffer, side)
        joined.record(side)
        stream.wait_for_event(joined)

    executable = capture(gpu, bindings, stream, fill)
    done(bindings.cuGraphLaunch(executable, stream.handle))
    stream.synchronize()
    assert (result == (4 if waits else POISON)).all()


def test_what_a_capture_does_not_allow(gpu: Gpu, bindings: Any) -> None:
    codes = bindings.CUresult
    stream, side, event = gpu.driver.Stream(), gpu.driver.Stream(), gpu.driver.Event()
    buffer = gpu.buffer()
    modes = bindings.CUstreamCaptureMode

    def begin() -> None:
        done(bindings.cuStreamBeginCapture(stream.handle, modes.CU_STREAM_CAPTURE_MODE_GLOBAL))

    def end() -> Any:
        return bindings.cuStreamEndCapture(stream.handle)[0]

    begin()
    with pytest.raises(gpu.driver.LogicError, match="UNSUPPORTED"):
        stream.synchronize()
    assert end() == codes.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    begin()
    with pytest.raises(gpu.driver.LogicError, match="UNSUPPORTED"):
        gpu.buffer()
    assert end() == codes.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    event.record(side)
    begin()
    with pytest.raises(gpu.driver.LogicError, match="ISOLATION"):
        stream.wait_for_event(event)
    assert end() == codes.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    begin()
    event.record(stream)
    side.wait_for_event(event)
    gpu.driver.memset_d8_async(buffer, 0, SIZE, side)
    assert end() == codes.CUDA_ERROR_STREAM_CAPTURE_UNJOINED


def test_a_host_function_runs_in_its_turn_and_may_not_call_the_driver(gpu: Gpu, bindings: Any, fake_cuda: Any) -> None:
    stream, seen, result = gpu.driver.Stream(), [], gpu.locked()
    library = ctypes.CDLL("libcuda.so.1")
    buffer = gpu.buffer()

    @HOST_FUNCTION
    def note(_: int | None) -> None:
        seen.append((int(result[0]), library.cuStreamQuery(None)))

    gpu.driver.memset_d8_async(buffer, 6, SIZE, stream)
    gpu.driver.memcpy_dtoh_async(result, buffer, stream)
    address = ctypes.cast(note, ctypes.c_void_p).value
    done(bindings.cuLaunchHostFunc(stream.handle, bindings.CUhostFn(address), 0))
    assert seen == []
    stream.synchronize()
    assert seen == [(6, NOT_PERMITTED)]


def test_threads_wait_for_the_same_work_while_it_needs_the_interpreter(gpu: Gpu, bindings: Any) -> None:
    stream, started, go, seen = gpu.driver.Stream(), threading.Event(), threading.Event(), []
    context = gpu.driver.Device(0).retain_primary_context()

    @HOST_FUNCTION
    def hold(_: int | None) -> None:
        started.set()
        go.wait(10)

    def wait() -> None:
        context.push()
        stream.synchronize()
        seen.append(threading.current_thread().name)
        gpu.driver.Context.pop()

    address = ctypes.cast(hold, ctypes.c_void_p).value
    done(bindings.cuLaunchHostFunc(stream.handle, bindings.CUhostFn(address), 0))
    event = gpu.driver.Event()
    event.record(stream)
    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    assert not event.query()
    assert seen == []
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 2
    assert event.query()


def test_elapsed_time_is_that_of_the_work(gpu: Gpu) -> None:
    stream, start, end = gpu.driver.Stream(), gpu.driver.Event(), gpu.driver.Event()
    start.record(stream)
    gpu.module.get_function("nap").prepare("").prepared_async_call((1, 1), (1, 1, 1), stream)
    end.record(stream)
    with pytest.raises(gpu.driver.RuntimeError, match="NOT_READY"):
        end.time_since(start)
    end.synchronize()
    assert 20 <= end.time_since(start) < 2000
    assert start.time_since(end) == 0


Act = Callable[[Gpu], Any]
FAULTS: list[tuple[str, int, str, str, Act]] = [
    ("cuInit", NO_DEVICE, "RuntimeError", "NO_DEVICE", lambda gpu: gpu.driver.init()),
    ("cuInit", SYSTEM_DRIVER_MISMATCH, "LogicError", "MISMATCH", lambda gpu: gpu.driver.init()),
    ("cuMemHostAlloc", OUT_OF_MEMORY, "MemoryError", "OUT_OF_MEMORY", lambda gpu: gpu.locked()),
    ("cuLaunchKernel", 719, "LaunchError", "LAUNCH_FAILED", lambda gpu: gpu.add(0, 0, 0, gpu.driver.Stream())),
    ("cuStreamCreate", INVALID_VALUE, "LogicError", "INVALID_VALUE", lambda gpu: gpu.driver.Stream()),
    ("cuEventCreate", OUT_OF_MEMORY, "MemoryError", "OUT_OF_MEMORY", lambda gpu: gpu.driver.Event()),
    ("cuStreamSynchronize", 702, "LaunchError", "TIMEOUT", lambda gpu: gpu.driver.Stream().synchronize()),
]


@pytest.mark.parametrize(("name", "code", "error", "text", "act"), FAULTS)
def test_a_fault_is_the_right_error_once(
    gpu: Gpu, fake_cuda: Any, name: str, code: int, error: str, text: str, act: Act
) -> None:
    fake_cuda.fail_next(name, code, after=1)
    assert fake_cuda.faults_left() == 1
    before = fake_cuda.calls(name)
    act(gpu)
    with pytest.raises(getattr(gpu.driver, error), match=text):
        act(gpu)
    assert fake_cuda.faults_left() == 0
    act(gpu)
    assert fake_cuda.calls(name) == before + 3


def test_a_fault_that_comes_again(gpu: Gpu, fake_cuda: Any) -> None:
    fake_cuda.fail_next("cuEventRecord", INVALID_VALUE, after=1, every=2)
    event, failed = gpu.driver.Event(), []
    for _ in range(6):
        try:
            event.record()
            failed.append(False)
        except gpu.driver.LogicError:
            failed.append(True)
    assert failed == [False, True] * 3


def test_memory_that_is_used_up(gpu: Gpu, fake_cuda: Any) -> None:
    fake_cuda.fail_next("cuMemAlloc", OUT_OF_MEMORY)
    gpu.buffer()  # PyCUDA tries twice
    fake_cuda.fail_next("cuMemAlloc", OUT_OF_MEMORY, every=1)
    with pytest.raises(gpu.driver.MemoryError, match="OUT_OF_MEMORY"):
        gpu.buffer()


def test_there_is_no_fault_of_a_function_that_is_not_there(fake_cuda: Any) -> None:
    with pytest.raises(ValueError, match="cuMemAllok"):
        fake_cuda.fail_next("cuMemAllok", OUT_OF_MEMORY)


def test_a_kernel_that_faults_ends_the_context(gpu: Gpu, fake_cuda: Any, capfd: pytest.CaptureFixture[str]) -> None:
    stream, buffer, first, second = gpu.driver.Stream(), gpu.buffer(), gpu.locked(), gpu.locked()
    gpu.driver.memset_d8(buffer, 1, SIZE)
    fake_cuda.fault_kernel(after=1)
    gpu.add(buffer, buffer, 1, stream)
    gpu.driver.memcpy_dtoh_async(first, buffer, stream)
    gpu.add(buffer, buffer, 1, stream)
    gpu.driver.memcpy_dtoh_async(second, buffer, stream)
    for _ in range(2):
        with pytest.raises(gpu.driver.LogicError, match="ILLEGAL_ADDRESS"):
            stream.synchronize()
    assert (first == 2).all()
    assert not second.any()
    with pytest.raises(gpu.driver.LogicError, match="ILLEGAL_ADDRESS"):
        gpu.buffer()
    del buffer
    gc.collect()
    assert "device" not in fake_cuda.live()
    assert "clean-up operation failed" in capfd.readouterr().err
    fake_cuda.reset()
    gpu.buffer()


def test_memory_that_was_freed_is_poison_and_may_not_be_used(gpu: Gpu) -> None:
    stream, result, buffer = gpu.driver.Stream(), gpu.locked(), gpu.buffer()
    gpu.driver.memset_d8(buffer, 1, SIZE)
    gpu.driver.memcpy_dtoh_async(result, buffer, stream)
    address = int(buffer)
    buffer.free()
    assert set(ctypes.string_at(address, SIZE)) == {POISON}
    with pytest.raises(gpu.driver.LogicError, match="INVALID_VALUE"):
        gpu.driver.memcpy_dtoh(result, address)
    with pytest.raises(gpu.driver.LogicError, match="ILLEGAL_ADDRESS"):
        stream.synchronize()


def test_memory_is_registered_once(gpu: Gpu) -> None:
    memory = np.zeros(SIZE, np.uint8)
    assert register(memory) == 0
    assert register(memory[1:]) == ALREADY_REGISTERED
    assert unregister(memory[1:]) == NOT_REGISTERED
    assert unregister(memory) == 0
    assert unregister(memory) == NOT_REGISTERED


def test_memory_ends_where_it_ends(gpu: Gpu) -> None:
    stream, buffer, short = gpu.driver.Stream(), gpu.buffer(), gpu.driver.mem_alloc(SIZE - 1)
    with pytest.raises(gpu.driver.LogicError, match="INVALID_VALUE"):
        gpu.driver.memcpy_htod(short, np.zeros(SIZE, np.uint8))
    gpu.driver.memset_d8(buffer, 1, SIZE)
    gpu.add(buffer, short, 1, stream)
    with pytest.raises(gpu.driver.LogicError, match="ILLEGAL_ADDRESS"):
        stream.synchronize()


def test_what_was_not_given_back_is_counted(gpu: Gpu, fake_cuda: Any) -> None:
    before = fake_cuda.live()
    made = [gpu.buffer(), gpu.locked(), gpu.driver.Stream(), gpu.driver.Event()]
    managed = gpu.driver.managed_empty(SIZE, np.uint8, mem_flags=gpu.driver.mem_attach_flags.GLOBAL)
    others = np.zeros(SIZE, np.uint8)
    assert register(others) == 0
    assert fake_cuda.live() == before | {
        "device": 1,
        "device_bytes": 2 * SIZE,
        "managed": 1,
        "page_locked": 1,
        "registered": 1,
        "streams": 1,
        "events": 1,
    }
    del made, managed
    assert unregister(others) == 0
    gc.collect()
    assert fake_cuda.live() == before


def test_the_device_is_what_the_test_says(gpu: Gpu, fake_cuda: Any) -> None:
    attributes = gpu.driver.device_attribute
    fake_cuda.set_device("Orin", total_bytes=1 << 20, driver_version=12060, compute_capability=(8, 7))
    fake_cuda.set_attribute(attributes.INTEGRATED, 1)
    fake_cuda.set_attribute(attributes.CONCURRENT_MANAGED_ACCESS, 0)
    device = gpu.driver.Device(0)
    assert (device.name(), device.compute_capability(), gpu.driver.get_driver_version()) == ("Orin", (8, 7), 12060)
    assert device.get_attribute(attributes.INTEGRATED) == 1
    assert device.get_attributes()[attributes.CONCURRENT_MANAGED_ACCESS] == 0
    kept = gpu.driver.mem_alloc(1 << 19)
    assert gpu.driver.mem_get_info() == (1 << 19, 1 << 20)
    with pytest.raises(gpu.driver.MemoryError):
        gpu.driver.mem_alloc((1 << 19) + 1)
    del kept
    fake_cuda.set_device(count=0)
    with pytest.raises(gpu.driver.RuntimeError, match="NO_DEVICE"):
        gpu.driver.init()


def test_only_a_library_for_this_machine_is_a_module(gpu: Gpu) -> None:
    for image, text in ((b"\x7fELF" + bytes(60), "NO_BINARY_FOR_GPU"), (b"PTX" + bytes(61), "INVALID_IMAGE")):
        with pytest.raises(gpu.driver.Error, match=text):
            gpu.driver.module_from_buffer(image)
    with pytest.raises(gpu.driver.LogicError, match="NOT_FOUND"):
        gpu.module.get_function("subtract")


def test_another_process_gets_it_by_the_path_to_libraries(fake_cuda: Any) -> None:
    program = "from pycuda import driver; driver.init(); print(driver.Device(0).name())"
    environment = os.environ | {"LD_LIBRARY_PATH": str(fake_cuda.path.parent)}
    command = [sys.executable, "-W", "error", "-c", program]
    assert subprocess.run(command, env=environment, check=True, capture_output=True).stdout == b"Stand-in GPU\n"
