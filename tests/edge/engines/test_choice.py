"""Which engine a station runs, and what it says when that cannot be."""

from __future__ import annotations

from contextlib import closing

import pytest

from edge.bundle import file_sha256, load_bundle
from edge.config import EngineConfig
from edge.engines.choice import not_installed, open_engine
from edge.engines.golden import bound_ring, check_golden
from edge.engines.ort import OrtEngine
from edge.errors import AcceleratorError, BundleError, ConfigError
from edge.verify import Absence, Proof, prove


@pytest.fixture
def bundle(bundle_dir):
    return load_bundle(bundle_dir)


def opened(bundle, **settings):
    return closing(open_engine(EngineConfig(**settings), bundle))


def test_a_machine_with_a_plan_runs_it(make_plan, bundle):
    make_plan(max_batch=4)
    path = make_plan()
    with opened(bundle) as engine:
        assert type(engine).__name__ == "CudaEngine"
        check_golden(engine, bundle, "fp32", bound_ring(engine, bundle))
        assert (engine.precision, engine.artefact_sha256) == ("fp32", file_sha256(path))


def test_one_without_runs_onnx_runtime(gpu, bundle, caplog):
    caplog.set_level("INFO")
    with opened(bundle) as engine:
        assert isinstance(engine, OrtEngine)
    assert "ONNX Runtime on the CPU, since TensorRT cannot be used: " in caplog.text


def test_onnx_runtime_can_be_asked_for(make_plan, bundle):
    make_plan()
    with opened(bundle, kind="onnxruntime") as engine:
        assert isinstance(engine, OrtEngine)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpu": "Orin"}, r"no fp32 plan of this bundle for .* with TensorRT 10\.3\.0 \(there is one for Orin\)"),
        ({"tensorrt": "10.13.3.9"}, r"\(there is one for TensorRT 10\.13\.3\.9\)"),
        ({"driver": "11.4", "l4t": "35.1"}, r"\(there is one for CUDA 11\.4, Jetson Linux 35\.1\)"),
        ({"compute_capability": (7, 2)}, r"\(there is one for compute capability 7\.2\)"),
    ],
)
def test_a_plan_of_another_device_or_version_is_named(make_plan, bundle, changes, words):
    make_plan(**changes)
    with pytest.raises(AcceleratorError, match=words):
        opened(bundle, kind="tensorrt")


def test_a_damaged_plan_is_refused(make_plan, bundle):
    make_plan(damaged=True)
    with pytest.raises(AcceleratorError, match=r"was changed: build it again"):
        opened(bundle, kind="tensorrt")


def test_no_gpu_no_driver_and_no_variant_are_told_apart(gpu, make_plan, bundle):
    with pytest.raises(BundleError, match="no variant 'int8'"):
        opened(bundle, kind="tensorrt", precision="int8")
    gpu.set_device(count=0)
    with pytest.raises(AcceleratorError, match="no NVIDIA GPU answers"):
        opened(bundle, kind="tensorrt")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError(name="pycuda.driver"), r"package 'pycuda' is not installed: pip install"),
        (ModuleNotFoundError(name="tensorrt"), r"package 'tensorrt' is not installed: on a Jetson"),
        (ImportError("libcuda.so.1: cannot open"), r"cannot be loaded \(libcuda.*\): install the NVIDIA driver"),
    ],
)
def test_what_is_not_installed_is_named(error, words):
    with pytest.raises(AcceleratorError, match=words):
        raise not_installed(error)


def test_a_module_of_our_own_that_is_missing_is_no_matter_of_installing():
    with pytest.raises(ModuleNotFoundError):
        not_installed(ModuleNotFoundError(name="edge.cuda"))


@pytest.mark.parametrize("transfer", ["auto", "pinned", "mapped"])
def test_the_way_of_transfer_is_measured_or_asked_for(make_plan, bundle, transfer, caplog):
    caplog.set_level("INFO")
    make_plan()
    with opened(bundle, transfer=transfer) as engine:
        check_golden(engine, bundle, "fp32", bound_ring(engine, bundle))
    assert ("pinned" in caplog.text and "mapped" in caplog.text) == (transfer == "auto")


def test_a_way_that_the_gpu_has_not_is_refused(make_plan, bundle, gpu):
    make_plan()
    concurrent_managed_access = 89
    gpu.set_attribute(concurrent_managed_access, 0)
    with pytest.raises(ConfigError, match=r"has no managed memory: set engine\.transfer to pinned or mapped"):
        opened(bundle, kind="tensorrt", transfer="managed")


def test_verify_runs_every_engine_there_is(make_plan, bundle, fake_tensorrt):
    (host, absent) = prove(bundle, ["fp32"])
    assert isinstance(absent, Absence)
    make_plan()
    host, gpu = prove(bundle, ["fp32"])
    assert isinstance(host, Proof)
    assert isinstance(gpu, Proof)
    assert (gpu.engine, gpu.is_ok) == ("tensorrt", True)
    fake_tensorrt.fake.scale = 1.5
    assert [proof.is_ok for proof in prove(bundle, ["fp32"])] == [True, False]
