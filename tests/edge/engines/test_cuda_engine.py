"""The GPU's engine on a stand-in for the driver: the same answers as on the host, whatever goes wrong in between."""

from __future__ import annotations

import json
from contextlib import closing

import numpy as np
import pytest

from edge.bundle import load_bundle
from edge.engines.device import DeviceFacts
from edge.engines.golden import bound_ring, check_golden
from edge.engines.ort import OrtEngine
from edge.engines.plan_cache import PlanKey, store_plan
from edge.errors import AcceleratorError, EngineError, EngineLostError, ImageError
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.slots import Owner, SlotRing

SETTINGS = Preprocessing(input_size_px=(256, 256))
TRANSFERS = ["pinned", "mapped", "managed"]


@pytest.fixture
def make_engine(fake_cuda, fake_tensorrt, host_kernels_path, bundle_dir, tmp_path):
    """Engines of the small bundle's plan, bound to a ring each."""
    from edge.cuda import Gpu, Transfer
    from edge.engines.cuda_engine import CudaEngine
    from edge.engines.device import read_device_facts
    from edge.engines.gpu_kernels import Kernels
    from edge.engines.tensorrt import TensorRtNetwork

    bundle = load_bundle(bundle_dir)
    opened = []

    def make(transfer="pinned", slots=2, keep_warm_s=None):
        gpu = Gpu()
        facts = read_device_facts(gpu.device)
        content = fake_tensorrt.make_plan((bundle_dir / "model.fp32.onnx").read_bytes(), facts, facts.tensorrt)
        key = PlanKey(
            onnx_sha256=bundle.manifest.files["model.fp32.onnx"],
            precision="fp32",
            max_batch=1,
            workspace_mib=None,
            device=facts,
        )
        plan = store_plan(tmp_path / "plans", content, key, 1.0, 0.0, 0.0)
        with gpu.current():
            kernels, network = Kernels(host_kernels_path.read_bytes()), TensorRtNetwork(plan, bundle)
        engine = CudaEngine(gpu, network, kernels, bundle.manifest.pixel_threshold.value, Transfer(transfer), keep_warm_s)
        opened.append(engine)
        return engine, bound_ring(engine, bundle, slots)

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


def test_golden_vectors_are_reproduced(make_engine, bundle_dir):
    engine, ring = make_engine(slots=3)
    assert check_golden(engine, load_bundle(bundle_dir), "fp32", ring).map_error < 1e-6
    assert engine.has_graphs
