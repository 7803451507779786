"""The GPU's engine on a stand-in for the driver: the same answers as on the host, whatever goes wrong in between."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import brightness
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle import load_bundle
from edge.engines import kernels
from edge.engines.golden import bound_ring, check_golden
from edge.engines.ort import OrtEngine
from edge.errors import AcceleratorError, EngineError, EngineLostError, ImageError
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.preprocess import preprocess
from edge.slots import Owner

SETTINGS = Preprocessing(input_size_px=(256, 256))
NOT_READY, OUT_OF_MEMORY = 600, 2
TRANSFERS = ["pinned", "mapped", "managed"]


def load_stand_in(request, gpu):
    """The small bundle's plan, for the stand-in for TensorRT."""
    from edge.engines.device import read_device_facts
    from edge.engines.gpu_kernels import Kernels
    from edge.engines.tensorrt import TensorRtNetwork

    facts = read_device_facts(gpu.device)
    onnx = (request.getfixturevalue("bundle_dir") / "model.fp32.onnx").read_bytes()
    plan = request.getfixturevalue("fake_tensorrt").make_plan(onnx, facts, facts.tensorrt)
    code = request.getfixturevalue("host_kernels_path").read_bytes()
    return Kernels(code), TensorRtNetwork(plan, "fp32", (256, 256))


def load_real(request, gpu):
    """The same network as a kernel, since TensorRT may be missing where there is a GPU."""
    from edge.engines.gpu_kernels import load_kernels

    cache, patch = request.getfixturevalue("tmp_path"), request.getfixturevalue("monkeypatch")
    loaded = load_kernels(gpu.compute_capability, cache)
    with patch.context() as other_source:
        other_source.setattr(kernels, "SOURCE", Path(brightness.__file__).with_suffix(".cu"))
        code = kernels.compile_kernels(gpu.compute_capability, cache)
    return loaded, brightness.BrightnessNetwork(code)


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def make_engine(request, bundle_dir):
    """Engines of the small bundle, bound to a ring each: on the stand-in for the driver, and on a GPU."""
    request.getfixturevalue("real_gpu" if request.param == "gpu" else "fake_cuda")
    load = load_real if request.param == "gpu" else load_stand_in
    if load is load_stand_in:
        request.getfixturevalue("fake_tensorrt")
    from edge.cuda import Gpu, Transfer
    from edge.engines.cuda_engine import CudaEngine

    bundle = load_bundle(bundle_dir)
    opened = []

    def make(transfer="pinned", slots=2, keep_warm_s=None):
        gpu = Gpu()
        if Transfer(transfer) not in gpu.transfers:
            gpu.close()
            pytest.skip(f"this GPU has no {transfer} memory")
        with gpu.current():
            loaded, network = load(request, gpu)
        threshold = bundle.manifest.pixel_threshold.value
        opened.append(CudaEngine(gpu, network, loaded, threshold, Transfer(transfer), keep_warm_s))
        del loaded, network
        return opened[-1], bound_ring(opened[-1], bundle, slots)

    make.opened = opened
    yield make
    for engine in opened:
        engine.close()


def frame(seed, shape=(300, 400)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def run(engine, ring, image, pixel_format=PixelFormat.MONO8, settings=SETTINGS):
    slot = ring.acquire()
    engine.enqueue(slot, image, pixel_format, settings)
    assert engine.wait(slot, 10.0)
    ring.release(slot)
    return slot


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_answers_are_those_of_the_host(make_engine, bundle_dir, transfer):
    engine, ring = make_engine(transfer)
    with closing(OrtEngine(load_bundle(bundle_dir), "fp32", threads=1)) as host:
        host_ring = bound_ring(host, load_bundle(bundle_dir))
        for seed in range(4):
            image = frame(seed)
            there, here = run(engine, ring, image), run(host, host_ring, image)
            engine.fetch(there)
            host.fetch(here)
            assert np.abs(there.image.astype(int) - here.image).max() <= 1
            assert there.anomaly_map == pytest.approx(here.anomaly_map, abs=1.01 / 255)
            assert there.score == pytest.approx(here.score, abs=1.01 / 255)
            assert there.maxima == pytest.approx(here.maxima, abs=1.01 / 255)
            assert (there.above == (there.anomaly_map[0] >= 0.8)).all()


def test_every_pixel_format_becomes_what_the_host_makes_of_it(make_engine):
    engine, ring = make_engine()
    for seed, pixel_format in enumerate(PixelFormat):
        image = frame(seed, pixel_format.shape(404, 300))
        expected = np.empty((256, 256, 3), np.uint8)
        preprocess(image, pixel_format, SETTINGS, expected)
        slot = run(engine, ring, image, pixel_format)
        engine.fetch(slot)
        assert np.abs(slot.image[0].astype(int) - expected).max() <= 1, pixel_format


def test_golden_vectors_are_reproduced(make_engine, bundle_dir):
    engine, ring = make_engine(slots=3)
    assert check_golden(engine, load_bundle(bundle_dir), "fp32", ring).map_error < 1e-6
    assert engine.has_graphs


class TestOrder:
    """Each of the three things that keep a frame's order is needed."""

    def answer(self, engine, ring):
        slot = run(engine, ring, frame(1))
        return float(slot.score[0]), slot.maxima.copy(), slot.quality_sums.copy()

    @pytest.mark.parametrize("which", [0, 1], ids=["uploaded", "computed"])
    @pytest.mark.parametrize("call", ["cuStreamWaitEvent", "cuEventRecord"])
    def test_no_event_can_be_spared(self, make_engine, fake_cuda, call, which):
        engine, ring = make_engine()
        right = self.answer(engine, ring)
        # In the order of a frame: arriving, uploaded, began, preprocessed, computed, done.
        fake_cuda.fail_next(call, 0, after=which if call == "cuStreamWaitEvent" else (1, 4)[which])
        wrong = self.answer(engine, ring)
        assert fake_cuda.faults_left() == 0
        assert not all(np.array_equal(one, other) for one, other in zip(right, wrong, strict=True))

    def test_an_answer_read_too_early_is_no_number(self, make_engine, fake_cuda):
        engine, ring = make_engine()
        run(engine, ring, frame(1))
        fake_cuda.fail_next("cuEventQuery", 0, every=1)
        slot = run(engine, ring, frame(1))
        assert np.isnan(slot.score).all()
        assert np.isnan(slot.maxima).all()

    @pytest.mark.parametrize("transfer", TRANSFERS)
    @given(order=st.lists(st.booleans(), min_size=1, max_size=12), depth=st.integers(2, 4))
    @settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_slots_in_flight_keep_their_answers(self, make_engine, transfer, order, depth):
        engine, ring = make_engine(transfer, slots=depth)
        in_flight, number = [], 0
        for collect in [*order, *[True] * depth]:
            if collect and in_flight:
                slot, grey = in_flight.pop(0)
                assert engine.wait(slot, 10.0)
                assert slot.score[0] == pytest.approx(grey / 255, abs=1e-6)
                ring.release(slot)
            elif ring.has_free:
                number += 1
                grey = 7 * number % 256
                slot = ring.acquire()
                engine.enqueue(slot, np.full((40, 60), grey, np.uint8), PixelFormat.MONO8, SETTINGS)
                in_flight.append((slot, grey))


def test_nothing_is_allocated_per_frame(make_engine, fake_cuda):
    engine, ring = make_engine()
    for seed in range(3):
        run(engine, ring, frame(seed))
    names = (
        "cuMemAlloc",
        "cuMemHostAlloc",
        "cuMemAllocHost",
        "cuEventCreate",
        "cuStreamCreate",
        "cuGraphInstantiateWithFlags",
    )
    before = [fake_cuda.calls(name) for name in names], fake_cuda.live()
    for seed in range(20):
        run(engine, ring, frame(seed))
    assert ([fake_cuda.calls(name) for name in names], fake_cuda.live()) == before


def test_everything_is_given_back(make_engine, fake_cuda):
    engine, ring = make_engine()
    engine.adopt(np.zeros(4096, np.uint8))
    run(engine, ring, frame(1))
    assert fake_cuda.live()
    make_engine.opened.pop().close()
    assert fake_cuda.live() == {}
    assert ring.slots[0].score.base is None


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_frames_in_adopted_memory_are_read_where_they_are(make_engine, fake_cuda, transfer):
    engine, ring = make_engine(transfer)
    memory = np.zeros(3 * 40 * 60, np.uint8)
    engine.adopt(memory)
    assert fake_cuda.live().get("registered", 0) == (transfer != "managed")
    for number, grey in enumerate((50, 90, 130)):
        image = memory[number * 2400 : (number + 1) * 2400].reshape(40, 60)
        image[:] = grey
        assert run(engine, ring, image).score[0] == pytest.approx(grey / 255, abs=1e-6)
    # Rows that lie apart cannot be read in place.
    assert run(engine, ring, memory.reshape(40, 180)[:, :60]).score[0] <= 130 / 255 + 1e-6
    engine.adopt(None)
    assert "registered" not in fake_cuda.live()


def test_memory_that_cannot_be_locked_is_copied(make_engine, fake_cuda):
    engine, ring = make_engine()
    fake_cuda.fail_next("cuMemHostRegister", 801)
    memory = np.full(2400, 90, np.uint8)
    engine.adopt(memory)
    assert run(engine, ring, memory.reshape(40, 60)).score[0] == pytest.approx(90 / 255, abs=1e-6)


def test_a_slow_gpu_is_waited_for_no_longer_than_asked(make_engine, fake_cuda):
    engine, ring = make_engine()
    slot = ring.acquire()
    engine.enqueue(slot, frame(1), PixelFormat.MONO8, SETTINGS)
    fake_cuda.fail_next("cuEventQuery", NOT_READY)
    assert not engine.wait(slot, 0.0)
    assert slot.owner is Owner.ENGINE
    assert engine.wait(slot, 10.0)


def test_idle_keeps_the_gpu_warm(make_engine, fake_cuda):
    engine, ring = make_engine(keep_warm_s=0.0)
    right = run(engine, ring, frame(1)).score.copy()
    launched = fake_cuda.calls("cuGraphLaunch")
    engine.idle()
    assert fake_cuda.calls("cuGraphLaunch") == launched + 1
    assert run(engine, ring, frame(1)).score == right
    lazy, _ = make_engine()
    lazy.idle()
    assert fake_cuda.calls("cuGraphLaunch") == launched + 2


def test_without_graphs_the_answers_are_the_same(make_engine, fake_cuda):
    engine, ring = make_engine()
    right = run(engine, ring, frame(1)).score.copy()
    fake_cuda.fail_next("cuStreamBeginCapture", 801, every=1)
    plain, plain_ring = make_engine()
    assert (engine.has_graphs, plain.has_graphs) == (True, False)
    assert run(plain, plain_ring, frame(1)).score == right


@pytest.mark.parametrize(
    ("image", "pixel_format", "settings", "words"),
    [
        (np.zeros((40, 7), np.uint8), PixelFormat.MONO12P, SETTINGS, "not an image in Mono12p"),
        (np.zeros((2, 9), np.uint8), PixelFormat.BAYER_RG8, SETTINGS, "too small"),
        (
            np.zeros((40, 60), np.uint8),
            PixelFormat.MONO8,
            SETTINGS.model_copy(update={"roi_xywh": (0, 0, 61, 40)}),
            "region of interest",
        ),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_and_the_host_keeps_the_slot(
    make_engine, image, pixel_format, settings, words
):
    engine, ring = make_engine()
    slot = ring.acquire()
    with pytest.raises(ImageError, match=words):
        engine.enqueue(slot, image, pixel_format, settings)
    assert slot.owner is Owner.HOST


class TestFaults:
    """What goes wrong is said, and no old answer passes for a new one."""

    def test_a_kernel_fault_ends_the_engine(self, make_engine, fake_cuda):
        engine, ring = make_engine()
        run(engine, ring, frame(1))
        first, second = ring.acquire(), ring.acquire()
        for slot in (first, second):
            engine.enqueue(slot, frame(2), PixelFormat.MONO8, SETTINGS)
        fake_cuda.fault_kernel()
        for slot in (first, second):
            with pytest.raises(EngineLostError, match=r"the GPU failed .*ILLEGAL_ADDRESS"):
                engine.wait(slot, 10.0)
            assert slot.owner is Owner.HOST
            ring.release(slot)
        slot = ring.acquire()
        with pytest.raises(EngineLostError):
            engine.enqueue(slot, frame(3), PixelFormat.MONO8, SETTINGS)
        with pytest.raises(EngineLostError):
            engine.fetch(slot)

    def test_no_memory_for_a_larger_frame_is_that_frame_s_fault_alone(self, make_engine, fake_cuda):
        engine, ring = make_engine()
        run(engine, ring, frame(1))
        run(engine, ring, frame(1))
        fake_cuda.fail_next("cuMemAlloc", OUT_OF_MEMORY, every=1)
        slot = ring.acquire()
        with pytest.raises(EngineError, match="no memory left") as raised:
            engine.enqueue(slot, frame(2, (600, 800)), PixelFormat.MONO8, SETTINGS)
        assert not isinstance(raised.value, EngineLostError)
        ring.release(slot)
        assert np.isfinite(run(engine, ring, frame(1)).score)

    def test_a_refused_enqueue_is_an_error(self, make_engine, fake_tensorrt):
        fake_tensorrt.fake.fail_enqueue = True
        with pytest.raises(EngineError, match="does not run the plan"):
            make_engine()

    @pytest.mark.parametrize("scale", [1.5, float("nan")])
    def test_a_tensorrt_that_miscomputes_is_refused(self, make_engine, fake_tensorrt, bundle_dir, scale):
        engine, ring = make_engine()
        fake_tensorrt.fake.scale = scale
        with pytest.raises(EngineError, match="contradicts the golden vectors"):
            check_golden(engine, load_bundle(bundle_dir), "fp32", ring)

    @pytest.mark.parametrize(("code", "words"), [(100, "no CUDA-capable device"), (803, "mismatch")])
    def test_no_gpu_and_no_driver_that_fits(self, make_engine, fake_cuda, code, words):
        fake_cuda.fail_next("cuInit", code)
        with pytest.raises(AcceleratorError, match="no NVIDIA GPU answers"):
            make_engine()
