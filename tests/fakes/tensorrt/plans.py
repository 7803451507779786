"""Plans of the stand-in for TensorRT: what each was built for, and an ONNX file; and why one may not be loaded.

The reasons are said in TensorRT's words, but for that of a file that ends too early.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

_MAGIC = b"fake plan"


class RefusedPlanError(Exception):
    """What TensorRT logs as an error."""


@dataclass(frozen=True)
class Plan:
    """What is in a plan, and what TensorRT warns of when it loads it."""

    onnx: bytes
    max_batch: int
    warning: str | None


def make_plan(onnx: bytes, device: Any, version: str, max_batch: int = 1) -> bytes:
    """A plan as a builder would make it.

    Args:
        onnx: an ONNX file.
        device: has `gpu`, the name, and `compute_capability`.
        version: of the TensorRT that builds it.
        max_batch: the most that the optimisation profile allows.
    """
    facts = {"version": version, "gpu": device.gpu, "compute_capability": device.compute_capability}
    header = json.dumps(facts | {"max_batch": max_batch, "crc32": zlib.crc32(onnx)})
    return b"\n".join((_MAGIC, header.encode(), onnx))


def read_plan(plan: bytes, version: str, gpu: str, compute_capability: list[int]) -> Plan:
    """The plan, for TensorRT of this version on this device.

    Raises:
        RefusedPlanError: it is for another one, or damaged.
    """
    magic, _, rest = plan.partition(b"\n")
    header, _, onnx = rest.partition(b"\n")
    if magic != _MAGIC or not onnx:
        raise _assertion("magicTagRead == kMAGIC_TAG failed.Magic tag does not match")
    built = json.loads(header)
    there, here = (text.split(".") for text in (built["version"], version))
    if there[:2] != here[:2]:
        tags = f"Note: Current Version: {''.join(here[:2])}, Serialized Engine Version: {''.join(there[:2])}"
        raise _assertion(f"stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. {tags}")
    if there != here:
        raise _misuse(
            "not compatible with this version of TensorRT, "
            f"expecting library version {version} got \n{built['version']}, please rebuild."
        )
    if compute_capability != built["compute_capability"]:
        expected, got = (".".join(map(str, numbers)) for numbers in (compute_capability, built["compute_capability"]))
        raise _misuse(
            f"generated on an incompatible device, expecting compute {expected} got compute {got}, please rebuild."
        )
    if zlib.crc32(onnx) != built["crc32"]:
        raise _assertion("size <= remaining failed.")
    warning = (
        "Using an engine plan file across different models of devices is not recommended and is likely to affect "
        "performance or even cause errors."
    )
    return Plan(onnx, built["max_batch"], None if gpu == built["gpu"] else warning)


def _assertion(text: str) -> RefusedPlanError:
    return RefusedPlanError(f"Error Code 1: Serialization (Serialization assertion {text})")


def _misuse(text: str) -> RefusedPlanError:
    return RefusedPlanError(f"Error Code 6: API Usage Error (The engine plan file is {text})")
