"""Every difference between TensorRT 8.6, 10.x and 11.x that matters here, and what its Python bindings need said twice.

Asked of the module itself, never of its version number. `tensorrt` is imported where it is used: this module is there
on machines without it. What is the same everywhere (named tensors, `build_serialized_network`, `execute_async_v3`) the
callers use directly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from edge.manifest import Precision

if TYPE_CHECKING:
    import tensorrt

# What a builder that chooses types itself may use; where the network's own types rule, nothing is asked.
_ALLOWED: dict[Precision, tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}


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


def sizes(dims: tensorrt.Dims) -> list[int]:
    """Dimensions as plain numbers; a dynamic one is -1."""
    return [dims[index] for index in range(len(dims))]


def parser_error(parser: tensorrt.OnnxParser) -> str:
    """What the parser refused first, on one line, with the node's name, or its number where the name is not told."""
    error: Any = parser.get_error(0)
    node = f"'{error.node_name()}'" if hasattr(error, "node_name") else f"{error.node()}"
    operator = f" ({error.node_operator()})" if hasattr(error, "node_operator") else ""
    return f"node {node}{operator}: {' '.join(error.desc().split())}"
