"""TensorRT plans kept on the machine that built them. A plan is good for one network, one device, one set of versions:
all of that is its key, and the key is its file name.

Beside each plan lies a JSON file that names every part of the key and the plan's sha256; it is written last, so a plan
without one was not finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.bundle import file_sha256
from edge.engines.device import DeviceFacts
from edge.errors import AcceleratorError, ConfigError
from edge.manifest import Precision, Sha256

SYSTEM_CACHE = Path("/var/cache/tfanet-edge")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PlanKey(_Strict):
    """What makes two plans the same."""

    onnx_sha256: Sha256
    precision: Precision
    max_batch: Annotated[int, Field(ge=1)]
    workspace_mib: Annotated[int, Field(ge=1)] | None = Field(description="None leaves it to TensorRT")
    device: DeviceFacts

    @property
    def name(self) -> str:
        """The plan's file name without its ending: `int8-` and 32 hexadecimal digits."""
        return f"{self.precision}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]}"


class PlanRecord(_Strict):
    """What is known of a plan: the JSON file beside it."""

    key: PlanKey
    plan_sha256: Sha256
    plan_bytes: Annotated[int, Field(gt=0)]
    build_s: Annotated[float, Field(ge=0)]
    map_error: Annotated[float, Field(ge=0)] = Field(description="against the golden vectors, as a manifest says it")
    score_error: Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Plan:
    """A plan's file, found whole."""

    path: Path
    record: PlanRecord


class DamagedPlanError(Exception):
    """A plan was found that is not what its record says; the text says how."""


def default_cache() -> Path:
    """`/var/cache/tfanet-edge` where this user may write it, as root and the station's service; else the user's own."""
    place = next(path for path in (SYSTEM_CACHE, *SYSTEM_CACHE.parents) if path.exists())
    if os.access(place, os.W_OK):
        return SYSTEM_CACHE
    return user_cache()


def user_cache() -> Path:
    """Where the XDG base directory specification puts what can be computed again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfanet-edge"


def find_plan(cache: Path, key: PlanKey) -> Plan | None:
    """The plan of that key; None when there is none.

    Raises:
        DamagedPlanError: its bytes or its record are not what was written.
    """
    path, record_path = _paths(cache, key)
    if not record_path.exists():
        return None
    try:
        record = PlanRecord.model_validate_json(record_path.read_bytes())
    except ValidationError as error:
        raise DamagedPlanError(f"'{record_path}': {error.errors()[0]['msg']}") from error
    if record.key != key:
        raise DamagedPlanError(f"'{record_path}' is of another plan")
    if not path.exists():
        raise DamagedPlanError(f"'{path}' is missing")
    if file_sha256(path) != record.plan_sha256:
        raise DamagedPlanError(f"'{path}' was changed")
    return Plan(path, record)


def station_plan(cache: Path, onnx_sha256: str, precision: Precision, device: DeviceFacts) -> Plan:
    """The plan of a network that was built for this device, with the smallest batch where there are several.

    Raises:
        AcceleratorError: there is none; the text tells what those that there are were built for.
        DamagedPlanError: its bytes or its record are not what was written.
    """
    keys = [key for key in _keys(cache) if (key.onnx_sha256, key.precision) == (onnx_sha256, precision)]
    fitting = [key for key in keys if key.device == device]
    if fitting:
        plan = find_plan(cache, min(fitting, key=lambda key: (key.max_batch, key.name)))
        if plan is not None:
            return plan
    others = sorted({_difference(key.device, device) for key in keys})
    raise AcceleratorError(
        f"'{cache}' has no {precision} plan of this bundle for {device.gpu} with TensorRT {device.tensorrt}"
        + (f" (there is one for {'; one for '.join(others)})" if others else ""),
        "build one on this device: tfanet-edge build BUNDLE",
    )


def _keys(cache: Path) -> list[PlanKey]:
    found = []
    for path in sorted(cache.glob("*.json")):
        with contextlib.suppress(ValidationError, OSError):
            found.append(PlanRecord.model_validate_json(path.read_bytes()).key)
    return found


def _difference(other: DeviceFacts, device: DeviceFacts) -> str:
    """What of another device's facts is not as it is here."""
    told = {
        "gpu": other.gpu,
        "compute_capability": "compute capability {}.{}".format(*other.compute_capability),
        "driver": f"CUDA {other.driver}",
        "l4t": f"Jetson Linux {other.l4t}",
        "tensorrt": f"TensorRT {other.tensorrt}",
    }
    return ", ".join(text for name, text in told.items() if getattr(other, name) != getattr(device, name))


def store_plan(cache: Path, plan: bytes, key: PlanKey, build_s: float, map_error: float, score_error: float) -> Plan:
    """Keep a plan that reproduced the golden vectors; one of the same key is replaced."""
    path, record_path = _paths(cache, key)
    record = PlanRecord(
        key=key,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        build_s=build_s,
        map_error=map_error,
        score_error=score_error,
    )
    write_atomically(path, plan)
    write_atomically(record_path, record.model_dump_json(indent=2).encode() + b"\n")
    return Plan(path, record)


def timing_cache_path(cache: Path, device: DeviceFacts) -> Path:
    """Where the builder's measurements on this device are kept."""
    return cache / f"{hashlib.sha256(device.model_dump_json().encode()).hexdigest()[:32]}.timing"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that others see all of it or none.

    Raises:
        ConfigError: the directory cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ConfigError(
            f"'{path}' cannot be written ({error.strerror})", "give another --cache, or make room"
        ) from error


def _paths(cache: Path, key: PlanKey) -> tuple[Path, Path]:
    return cache / f"{key.name}.plan", cache / f"{key.name}.json"
