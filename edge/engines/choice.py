"""Which engine a station runs: as configured, or the quickest that this machine has."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edge.bundle import Bundle
from edge.config import EngineConfig
from edge.engines.engine import Engine
from edge.engines.ort import OrtEngine
from edge.engines.plan_cache import DamagedPlanError, default_cache, station_plan
from edge.errors import AcceleratorError, ConfigError

if TYPE_CHECKING:
    from edge.cuda import Gpu, Transfer
    from edge.engines.cuda_engine import CudaEngine
    from edge.engines.gpu_kernels import Kernels

_log = logging.getLogger(__name__)


def open_engine(config: EngineConfig, bundle: Bundle) -> Engine:
    """The engine, loaded.

    Raises:
        AcceleratorError: TensorRT was asked for, and something is missing for it.
        BundleError: the bundle has no such variant.
        EngineError: the engine cannot load the variant.
    """
    if config.kind != "onnxruntime":
        try:
            return open_tensorrt(config, bundle)
        except AcceleratorError as error:
            if config.kind == "tensorrt":
                raise
            _log.info("ONNX Runtime on the CPU, since TensorRT cannot be used: %s", error.problem)
    return OrtEngine(bundle, config.precision, config.threads)


def open_tensorrt(config: EngineConfig, bundle: Bundle) -> CudaEngine:
    """TensorRT on the first GPU.

    Raises:
        AcceleratorError: TensorRT, PyCUDA, a GPU, or a plan of the bundle for it is missing.
        BundleError: the bundle has no such variant.
        ConfigError: the GPU has no such way of transfer.
        EngineError: the plan cannot be loaded.
    """
    variant = bundle.variant(config.precision)
    try:
        from edge.cuda import Gpu
        from edge.engines.cuda_engine import CudaEngine
        from edge.engines.device import read_device_facts
        from edge.engines.gpu_kernels import load_kernels
        from edge.engines.tensorrt import TensorRtNetwork
    except ImportError as error:
        raise not_installed(error) from error
    with ExitStack() as on_failure:
        gpu = Gpu()
        on_failure.callback(gpu.close)
        cache = config.plans or default_cache()
        facts = read_device_facts(gpu.device)
        try:
            plan = station_plan(cache, bundle.manifest.files[variant.file], config.precision, facts)
        except DamagedPlanError as error:
            raise AcceleratorError(str(error), "build it again: tfanet-edge build BUNDLE") from error
        with gpu.current():
            kernels = load_kernels(gpu.compute_capability, cache)
            transfer = _choose_transfer(config.transfer, gpu, kernels)
            size_hw = bundle.manifest.preprocessing.input_size_px
            network = TensorRtNetwork(plan.path.read_bytes(), config.precision, size_hw, plan.record)
        on_failure.pop_all()
    keep_warm_s = None if config.keep_warm_ms is None else config.keep_warm_ms / 1e3
    return CudaEngine(gpu, network, kernels, bundle.manifest.pixel_threshold.value, transfer, keep_warm_s)


def _choose_transfer(wanted: str, gpu: Gpu, kernels: Kernels) -> Transfer:
    from edge.engines.transfer import measure_transfers

    possible = {way.value: way for way in gpu.transfers}
    if wanted == "auto":
        measured = measure_transfers(gpu, kernels)
        _log.info("%s: %s", gpu.name, ", ".join(f"{way.value} {ms:.2f} ms" for way, ms in measured.items()))
        return min(measured, key=lambda way: measured[way])
    if wanted not in possible:
        raise ConfigError(f"{gpu.name} has no {wanted} memory", f"set engine.transfer to {' or '.join(possible)}")
    return possible[wanted]


def not_installed(error: ImportError) -> AcceleratorError:
    """What is missing for TensorRT, and where it comes from.

    Raises:
        ImportError: the same, when it is none of NVIDIA's.
    """
    if not isinstance(error, ModuleNotFoundError):
        return AcceleratorError(f"NVIDIA's libraries cannot be loaded ({error})", "install the NVIDIA driver")
    remedies = {
        "tensorrt": "on a Jetson, make the virtual environment with --system-site-packages (JetPack brings it), "
        "elsewhere: pip install tensorrt",
        "pycuda": "pip install 'tfanet-edge[jetson]'",
    }
    missing = (error.name or "").partition(".")[0]
    if missing not in remedies:
        raise error
    return AcceleratorError(f"the Python package '{missing}' is not installed", remedies[missing])
