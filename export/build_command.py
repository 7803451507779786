"""The verb `build`: TensorRT plans of a bundle's variants, for the GPU of this machine."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from edge.arguments import whole_number_from
from edge.bundle import Bundle, load_bundle
from edge.engines.choice import not_installed
from edge.engines.golden import compare_golden, contradiction
from edge.engines.plan_cache import (
    DamagedPlanError,
    Plan,
    PlanKey,
    default_cache,
    find_plan,
    store_plan,
    timing_cache_path,
    write_atomically,
)
from edge.errors import EngineError, RefusedError
from edge.manifest import Precision

if TYPE_CHECKING:
    from export.build_engine import BuildOptions
    from export.plan_runner import PlanRunner

PRECISIONS: tuple[Precision, ...] = ("int8", "fp16", "fp32")


def add_command(verbs: argparse._SubParsersAction[Any]) -> None:
    """Register `build`."""
    parser = verbs.add_parser(
        "build",
        help="build TensorRT plans of a bundle for this machine's GPU",
        description="Builds TensorRT plans of a bundle's variants on the GPU that will run them, and keeps those that "
        "reproduce the bundle's golden vectors. Exit status 3 when one does not.",
        allow_abbrev=False,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the directory that the export made")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, metavar="P", help="of int8, fp16, fp32; all the bundle has"
    )
    parser.add_argument(
        "--max-batch", type=whole_number_from(1), default=1, metavar="N", help="frames per run at most (1)"
    )
    parser.add_argument(
        "--workspace-mib", type=whole_number_from(1), metavar="N", help="device memory for a layer's own use (all)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        metavar="DIR",
        help="where plans are kept: /var/cache/tfanet-edge, or the user's cache directory where that may not be written"
        " (%(default)s)",
    )
    parser.set_defaults(handler=_run)


def _run(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    have = bundle.manifest.variants
    chosen = arguments.precision or [precision for precision in PRECISIONS if precision in have]
    for precision in chosen:
        bundle.variant(precision)
    try:
        from export.build_engine import BuildOptions
        from export.plan_runner import GpuPlanRunner
    except ImportError as error:
        raise not_installed(error) from error
    gpu = GpuPlanRunner(arguments.cache)
    build_variants(bundle, chosen, BuildOptions(arguments.max_batch, arguments.workspace_mib), arguments.cache, gpu)
    return 0


def build_variants(
    bundle: Bundle, precisions: list[Precision], options: BuildOptions, cache: Path, gpu: PlanRunner
) -> list[Plan]:
    """Find or build the plan of each variant and say so; what contradicts the golden vectors is not kept.

    Raises:
        BundleError: the parser refuses a network.
        EngineError: the builder fails.
        RefusedError: at the end, when a plan contradicted the golden vectors.
    """
    plans, refusals = [], []
    for precision in precisions:
        try:
            plans.append(_find_or_build(bundle, precision, options, cache, gpu))
        except RefusedError as error:
            print(f"{precision}: not kept")
            refusals.append(error)
    if refusals:
        raise RefusedError("; ".join(error.problem for error in refusals), refusals[0].remedy)
    return plans


def _find_or_build(bundle: Bundle, precision: Precision, options: BuildOptions, cache: Path, gpu: PlanRunner) -> Plan:
    variant = bundle.variant(precision)
    key = PlanKey(
        onnx_sha256=bundle.manifest.files[variant.file],
        precision=precision,
        max_batch=options.max_batch,
        workspace_mib=options.workspace_mib,
        device=gpu.facts,
    )
    try:
        found = find_plan(cache, key)
    except DamagedPlanError as error:
        print(f"{precision}: {error}; building it again")
        found = None
    if found is not None:
        print(f"{precision}: already built: {found.path}")
        return found
    return _build(bundle, key, options, cache, gpu)


def _build(bundle: Bundle, key: PlanKey, options: BuildOptions, cache: Path, gpu: PlanRunner) -> Plan:
    from export.build_engine import build_plan

    variant, golden = bundle.variant(key.precision), bundle.golden()
    timing_path = timing_cache_path(cache, key.device)
    timing = timing_path.read_bytes() if timing_path.exists() else b""
    with BuildBar(key.precision) as bar:
        built = build_plan(bundle.path / variant.file, key.precision, options, timing, bar)
    write_atomically(timing_path, built.timing_cache)
    result = compare_golden(*gpu.run(built.plan, key.precision, golden.image), golden)
    if not result.is_within(variant):
        problem = contradiction(f"the {key.precision} plan for {key.device.gpu}", result, variant).problem
        raise RefusedError(
            f"{problem}, so it was not kept",
            f"build another precision, or with another TensorRT than {key.device.tensorrt} (10.3 and 10.4 are known to "
            "compute some vision transformers wrongly)",
        )
    plan = store_plan(cache, built.plan, key, built.build_s, result.map_error, result.score_error)
    print(
        f"{key.precision}: {plan.path}, {len(built.plan) / 2**20:.1f} MiB, built in {built.build_s:.0f} s; golden map "
        f"off by {result.map_error:.1e}, score by {result.score_error:.1e}"
    )
    return plan


class BuildBar:
    """A progress bar that is told of a build; Ctrl-C ends the build at its next step."""

    def __init__(self, label: str) -> None:
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
        self._bar = tqdm(desc=label, total=1.0, bar_format=form, disable=None, leave=False)
        self._phases: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._interrupted = False

    def __enter__(self) -> BuildBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._bar.close()
        if self._interrupted and isinstance(error, EngineError):
            raise KeyboardInterrupt from error

    @property
    def share(self) -> float:
        """How much of the build is done: a phase's steps count alike, and the phase within it is one of them."""
        share = 0.0
        for done, steps in reversed(self._phases.values()):
            share = min(1.0, (done + share) / steps)
        return share

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[phase] = 0, steps
            self._bar.set_postfix_str(phase)

    def step(self, phase: str, step: int) -> bool:
        try:
            with self._lock:
                self._phases[phase] = step + 1, self._phases[phase][1]
                self._bar.update(max(0.0, self.share - self._bar.n))
        except KeyboardInterrupt:
            # TensorRT must not see the exception: it is told to stop, and the build fails then.
            self._interrupted = True
        return not self._interrupted

    def end(self, phase: str) -> None:
        with self._lock:
            self._phases.pop(phase, None)
