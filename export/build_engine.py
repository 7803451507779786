"""A TensorRT plan from an ONNX file. The file says what computes in which type: Q/DQ where in INT8, casts where in
float16; nothing is calibrated here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorrt as trt

from edge.engines import trt_compat
from edge.errors import BundleError, EngineError
from edge.manifest import Precision


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        max_batch: frames that one run may take; the plan takes 1 to so many and is fastest at the most.
        workspace_mib: device memory that a layer may use for itself; None leaves it to TensorRT.
        aim_at: compute capability of a GPU that is not in this machine, where TensorRT can; None builds for this one.
    """

    max_batch: int = 1
    workspace_mib: int | None = None
    aim_at: tuple[int, int] | None = None


@dataclass(frozen=True)
class BuiltPlan:
    """A serialized engine, the builder's measurements for the next build, and what the two steps took."""

    plan: bytes
    timing_cache: bytes
    parse_s: float
    build_s: float


def build_plan(
    onnx_file: Path,
    precision: Precision,
    options: BuildOptions,
    timing_cache: bytes,
    progress: trt_compat.BuildProgress,
) -> BuiltPlan:
    """Parse and build.

    Args:
        onnx_file: with a dynamic or fixed batch.
        precision: of the variant.
        options: how to build.
        timing_cache: of an earlier build on this device; empty for none.
        progress: hears how far it is, where TensorRT tells.

    Raises:
        BundleError: NVIDIA's parser refuses the network; the message names the node.
        EngineError: the builder failed, or was told to stop.
    """
    logger, messages = trt_compat.logger()
    messages.lines.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(trt_compat.network_flags())
    started_s = time.perf_counter()
    parse_onnx(onnx_file, network, logger)
    parsed_s = time.perf_counter()
    config = builder.create_builder_config()
    _configure(config, precision, options)
    _add_batches(builder, network, config, options.max_batch)
    _use_timing_cache(config, timing_cache)
    monitor = trt_compat.watch(config, progress)
    plan: Any = builder.build_serialized_network(network, config)
    del monitor
    if plan is None:
        raise EngineError(
            f"TensorRT {trt.__version__} cannot build '{onnx_file}' ({messages.last_error()})",
            "free memory, give --workspace-mib, or choose another precision",
        )
    measured: Any = config.get_timing_cache().serialize()
    return BuiltPlan(bytes(plan), bytes(measured), parsed_s - started_s, time.perf_counter() - parsed_s)


def parse_onnx(onnx_file: Path, network: trt.INetworkDefinition, logger: trt.ILogger) -> None:
    """Fill a network from a file.

    Raises:
        BundleError: the parser refuses it.
    """
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_file.read_bytes()):
        raise BundleError(
            f"TensorRT {trt.__version__} cannot take '{onnx_file}': {trt_compat.parser_error(parser)}",
            "export the bundle again with this version of tfanet-edge",
        )


def _configure(config: trt.IBuilderConfig, precision: Precision, options: BuildOptions) -> None:
    # TF32 keeps 10 bits of a float32's 23: what stays in float32 stays there for their sake.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    trt_compat.allow_precision(config, precision)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.aim_at is not None and not trt_compat.aim_at(config, options.aim_at):
        raise EngineError(f"TensorRT {trt.__version__} builds for the GPU in this machine only")


def _add_batches(
    builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig, max_batch: int
) -> None:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = trt_compat.sizes(tensor.shape)
        if shape[0] < 0:
            least, most = (trt.Dims([batch, *shape[1:]]) for batch in (1, max_batch))
            profile.set_shape(tensor.name, least, most, most)
    config.add_optimization_profile(profile)


def _use_timing_cache(config: trt.IBuilderConfig, content: bytes) -> None:
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
