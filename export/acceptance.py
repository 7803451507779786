"""What NVIDIA's parser and builder make of an ONNX file, found without a GPU: `python -m export.acceptance FILE`.

TensorRT for RTX can build for a GPU that is not there, and its log then names the kernels of the plan with the types
they read and write. It parses as TensorRT does; which kernels TensorRT itself chooses on a Jetson may differ.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edge.errors import BundleError, EngineError, InputError

AMPERE = (8, 6)
_KERNEL = re.compile(r"^Name: (?P<name>.+?), LayerType: (?P<type>\w+), Inputs: (?P<inputs>.*)$", re.MULTILINE)
_TYPE = re.compile(r"Datatype: (\w+)")
# Convolution, matrix product, matrix products fused with what is around them; all others only move or map values, but
# for those with this in their name, which are a whole attention.
_PRODUCTS = {"correlation", "gemm", "runtime_fusion"}
_ATTENTION = "_mha_"
_PRECISIONS = {"Float": "fp32", "Half": "fp16", "Int8": "int8"}


class Kernel(BaseModel):
    """A convolution or matrix product of a plan, and the type of the values it multiplies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    computes_in: str


class Acceptance(BaseModel):
    """What became of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensorrt: str
    compute_capability: tuple[int, int]
    refusal: str | None = Field(description="the parser's or builder's words; None when there is a plan")
    warnings: tuple[str, ...]
    inputs: dict[str, str] = Field(description="name to type, as the parser read the file")
    outputs: dict[str, str]
    layers: dict[str, int] = Field(description="how many of each type the parser made")
    kernels: tuple[Kernel, ...]
    parse_s: Annotated[float, Field(ge=0)]
    build_s: Annotated[float, Field(ge=0)]
    plan_bytes: Annotated[int, Field(ge=0)]

    @property
    def computes_in(self) -> Counter[str]:
        """How many convolutions and matrix products compute in each type."""
        return Counter(kernel.computes_in for kernel in self.kernels)

    @property
    def fused_attentions(self) -> int:
        """How many attentions are one kernel each."""
        return sum(_ATTENTION in kernel.name for kernel in self.kernels)


def examine(onnx_file: Path, compute_capability: tuple[int, int] = AMPERE) -> Acceptance:
    """Parse and build in a process of its own.

    Raises:
        InputError: TensorRT for RTX is not installed.
    """
    major, minor = compute_capability
    command = [sys.executable, "-m", "export.acceptance", str(onnx_file), "--compute-capability", f"{major}.{minor}"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        reason = (child.stderr.strip() or f"exit status {child.returncode}").splitlines()[-1]
        raise InputError(f"'{onnx_file}' cannot be examined ({reason})")
    return Acceptance.model_validate_json(child.stdout)


def examine_here(onnx_file: Path, compute_capability: tuple[int, int]) -> Acceptance:
    """Parse and build; `tensorrt` must be TensorRT for RTX."""
    import tensorrt as trt

    from edge.engines import trt_compat
    from export.build_engine import BuildOptions, build_plan, parse_onnx

    logger, messages = trt_compat.logger()
    messages.verbose = True
    network = trt.Builder(logger).create_network(trt_compat.network_flags())
    built, refusal = None, None
    try:
        parse_onnx(onnx_file, network, logger)
        built = build_plan(onnx_file, "fp32", BuildOptions(aim_at=compute_capability), b"", _Silence())
    except (BundleError, EngineError) as error:
        refusal = error.problem
    ends = (
        {tensor.name: tensor.dtype.name for tensor in map(get, range(count))}
        for get, count in ((network.get_input, network.num_inputs), (network.get_output, network.num_outputs))
    )
    return Acceptance(
        tensorrt=trt.__version__,
        compute_capability=compute_capability,
        refusal=refusal,
        warnings=tuple(text for severity, text in messages.lines if severity == "WARNING"),
        inputs=next(ends),
        outputs=next(ends),
        layers=Counter(network.get_layer(index).type.name for index in range(network.num_layers)),
        kernels=kernels([text for _, text in messages.lines]),
        parse_s=built.parse_s if built else 0.0,
        build_s=built.build_s if built else 0.0,
        plan_bytes=len(built.plan) if built else 0,
    )


def kernels(log: list[str]) -> tuple[Kernel, ...]:
    """The convolutions and matrix products of the plan that a verbose build ended with."""
    listing = next((text for text in reversed(log) if text.startswith("Layers:")), "")
    return tuple(
        Kernel(name=found["name"], computes_in=_computes_in(found["type"], found["inputs"]))
        for found in _KERNEL.finditer(listing)
        if found["type"] in _PRODUCTS or _ATTENTION in found["name"]
    )


def _computes_in(kind: str, operands: str) -> str:
    # A fused product may read INT8 and convert it first: what it writes tells.
    counted = operands.partition("Outputs: ")[2] if kind == "runtime_fusion" else operands
    types: list[str] = _TYPE.findall(counted)
    return _PRECISIONS.get(types[0], types[0])


class _Silence:
    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """Nothing."""

    def step(self, phase: str, step: int) -> bool:
        """Goes on."""
        return True

    def end(self, phase: str) -> None:
        """Nothing."""


def main() -> None:
    """Command line: prints an `Acceptance` as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx_file", type=Path)
    parser.add_argument("--compute-capability", default="8.6", metavar="M.N", help="of the GPU to build for (8.6)")
    arguments = parser.parse_args()
    major, minor = arguments.compute_capability.split(".")
    sys.modules["tensorrt"] = importlib.import_module("tensorrt_rtx_bindings")
    print(examine_here(arguments.onnx_file, (int(major), int(minor))).model_dump_json(indent=2))


if __name__ == "__main__":
    main()
