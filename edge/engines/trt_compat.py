"""Every difference between TensorRT 8.6, 10.x and 11.x that matters here, and what its Python bindings need said twice.

Asked of the module itself, never of its version number. `tensorrt` is imported where it is used: this module is there
on machines without it. What is the same everywhere (named tensors, `build_serialized_network`, `execute_async_v3`) the
callers use directly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from edge.errors import EngineError
from edge.manifest import Precision

if TYPE_CHECKING:
    import tensorrt

    from edge.engines.plan_cache import PlanRecord

# What a builder that chooses types itself may use; where the network's own types rule, nothing is asked.
_ALLOWED: dict[Precision, tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}

# What it says of a plan that it does not load, from 8.6 on.
_OTHER_VERSION = ("not compatible with this version of TensorRT", "Version tag does not match")
_OTHER_DEVICE = "generated on an incompatible device"
_DAMAGED = "Serialization"


class BuildProgress(Protocol):
    """Hears how far a build is; phases nest, and the calls may come from several threads."""

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""

    def step(self, phase: str, step: int) -> bool:
        """A step of a phase is done, counted from 0. Returns whether to go on."""

    def end(self, phase: str) -> None:
        """A phase is over, all its steps done or not."""


class Messages:
    """What TensorRT said in this process: it keeps the first logger that it is given, so there is one.

    Attributes:
        lines: (severity, text) in the order they came; severity is `ERROR`, `WARNING`, …
        verbose: whether everything is kept; else only warnings and errors.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.verbose = False

    def hear(self, severity: tensorrt.ILogger.Severity, text: str) -> None:
        """Called by TensorRT."""
        if self.verbose or severity.name in ("INTERNAL_ERROR", "ERROR", "WARNING"):
            self.lines.append((severity.name, text.strip()))

    def last_error(self) -> str:
        """The first line of the last error."""
        errors = [text for severity, text in self.lines if severity in ("INTERNAL_ERROR", "ERROR")]
        return errors[-1].splitlines()[0] if errors else "it gives no reason"

    def first_error(self, start: int) -> str:
        """The first error from a line on, as one line: those after it are mostly its consequences."""
        errors = [text for severity, text in self.lines[start:] if severity in ("INTERNAL_ERROR", "ERROR")]
        return " ".join(errors[0].split()) if errors else "it gives no reason"


@cache
def logger() -> tuple[tensorrt.ILogger, Messages]:
    """The process's TensorRT logger, and what it heard."""
    import tensorrt as trt

    messages = Messages()
    members = {"log": lambda _, severity, text: messages.hear(severity, text)}
    return type("Logger", (trt.ILogger,), members)(), messages


def network_flags() -> int:
    """For `create_network`: the network's own types where the builder can obey them, else its batch dimension alone."""
    import tensorrt as trt

    flag = trt.NetworkDefinitionCreationFlag
    if hasattr(flag, "STRONGLY_TYPED"):
        return 1 << int(flag.STRONGLY_TYPED)
    return 1 << int(flag.EXPLICIT_BATCH) if hasattr(flag, "EXPLICIT_BATCH") else 0


def allow_precision(config: tensorrt.IBuilderConfig, precision: Precision) -> None:
    """Let a builder that chooses types itself use the variant's; one that obeys the network's is asked nothing."""
    import tensorrt as trt

    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        for name in _ALLOWED[precision]:
            config.set_flag(getattr(trt.BuilderFlag, name))


def watch(config: tensorrt.IBuilderConfig, progress: BuildProgress) -> Any:
    """Report a build's progress, where TensorRT can (8.6 cannot); else nothing happens.

    Returns:
        What must be kept until the build is over.
    """
    import tensorrt as trt

    if not (hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor")):
        return None
    members: dict[str, Callable[..., Any]] = {
        "phase_start": lambda _, phase, parent, steps: progress.begin(phase, parent, steps),
        "step_complete": lambda _, phase, step: progress.step(phase, step),
        "phase_finish": lambda _, phase: progress.end(phase),
    }
    config.progress_monitor = monitor = type("Monitor", (trt.IProgressMonitor,), members)()
    return monitor


def aim_at(config: Any, compute_capability: tuple[int, int]) -> bool:
    """Build for a GPU that need not be in this machine. Returns whether this TensorRT can (that for RTX can)."""
    import tensorrt as trt

    if not hasattr(trt, "ComputeCapability"):
        return False
    config.num_compute_capabilities = 1
    major, minor = compute_capability
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{major}{minor}"), 0)
    return True


def deserialize(plan: bytes, record: PlanRecord | None = None) -> tensorrt.ICudaEngine:
    """The engine of a plan, for the current device.

    Args:
        plan: of this version and this kind of device.
        record: what is known of the plan; None where it was just built.

    Raises:
        EngineError: the plan is of another TensorRT version, of another device, damaged, or cannot be loaded for
            another reason; the message says which, and what TensorRT said.
    """
    import tensorrt as trt

    own_logger, messages = logger()
    start = len(messages.lines)
    engine: Any = trt.Runtime(own_logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise _refusal(messages.first_error(start), plan, record, trt.__version__)
    loaded: tensorrt.ICudaEngine = engine
    return loaded


def _refusal(said: str, plan: bytes, record: PlanRecord | None, version: str) -> EngineError:
    built_for = None if record is None else record.key.device
    remedy = "build it again on this device: tfanet-edge build"
    if record is not None and hashlib.sha256(plan).hexdigest() != record.plan_sha256:
        return EngineError(f"the plan is damaged: it is not what its record says ({said})", remedy)
    if any(words in said for words in _OTHER_VERSION) or (built_for and built_for.tensorrt != version):
        other = built_for.tensorrt if built_for else "of another version"
        return EngineError(f"the plan is for TensorRT {other}, this is {version} ({said})", remedy)
    if _OTHER_DEVICE in said:
        return EngineError(f"the plan is for {built_for.gpu if built_for else 'another device'} ({said})", remedy)
    if _DAMAGED in said:
        return EngineError(f"the plan is damaged ({said})", remedy)
    return EngineError(f"TensorRT {version} cannot load the plan ({said})", "free memory, or build it again")


def warn_about(version: str) -> str | None:
    """What is known to go wrong with vision transformers in a TensorRT version, in one sentence; None when nothing is.

    Args:
        version: as `tensorrt.__version__` has it.

    Source: NVIDIA/TensorRT issues 4558, 4723 and 4742.
    """
    release = tuple(int(part) for part in version.split(".")[:2])
    if not (10, 0) <= release < (10, 5):
        return None
    return (
        f"TensorRT {version} may compute this network wrongly, as 10.0 to 10.4 do some vision transformers "
        "(NVIDIA/TensorRT issues 4558, 4723, 4742): the golden vectors decide; use 10.5 or newer"
    )


def sizes(dims: tensorrt.Dims) -> list[int]:
    """Dimensions as plain numbers; a dynamic one is -1."""
    return [dims[index] for index in range(len(dims))]


def parser_error(parser: tensorrt.OnnxParser) -> str:
    """What the parser refused first, on one line, with the node's name, or its number where the name is not told."""
    error: Any = parser.get_error(0)
    node = f"'{error.node_name()}'" if hasattr(error, "node_name") else f"{error.node()}"
    operator = f" ({error.node_operator()})" if hasattr(error, "node_operator") else ""
    return f"node {node}{operator}: {' '.join(error.desc().split())}"
