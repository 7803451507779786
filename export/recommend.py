"""The verb `recommend`: which detector of the table to take for a product and a time budget, by short trainings.

Each detector's smallest preset is trained on the product's good parts, unless it is too slow already. How well it
separates held-out good parts from the same parts with drawn defects is the evidence; test images are never opened. A
kill loses an epoch at most.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.arguments import rate, share
from edge.bench.machine import machine_facts, versions
from edge.bench.result import MachineFacts
from edge.bundle import file_sha256
from edge.engines.ort import default_threads
from edge.errors import ConfigError
from export import candidate
from export.candidate import timed, trained, untrained_detector
from export.choice import Choice, Measured, choose
from export.recommend_page import recommendation_page, recommendation_table
from training.allocator import keep_freed_memory
from training.command import GIB, preferred_precision
from training.data.good_parts import GoodParts, load_good_parts
from training.distributed import World, joined_world
from training.files import made_directory, write_text
from training.networks.backbones import ARCHITECTURES
from training.networks.table import DETECTORS
from training.options import settings_from
from training.provenance import code_version
from training.run import NETWORK, RECORD
from training.settings import TrainSettings
from training.train import train_run

MEASURED, RECOMMENDATION, PAGE = "measured.json", "recommendation.json", "recommendation.html"


class Recommendation(BaseModel):
    """`recommendation.json`; `chosen` is None where no detector fits the budget."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    product: str
    data_sha256: str
    train_images: int
    held_out_images: int
    budget_ms: float
    chosen: str | None
    reason: str
    as_good: tuple[str, ...]
    candidates: tuple[Measured, ...]
    threads: int
    machine: MachineFacts
    versions: dict[str, str]
    code_version: str
    command: str


class _Kept(BaseModel):
    """A measurement, and what it was made of and on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: dict[str, str]
    measured: Measured


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `recommend --data DIR --out DIR --budget-ms MS` and its options."""
    parser = subparsers.add_parser("recommend", help="which detector to take for a product and a time budget")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the product's images")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the result; goes on with one begun")
    parser.add_argument(
        "--budget-ms", type=_milliseconds, required=True, metavar="MS", help="for the network's answer to a frame"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="backbone's state dict (default: PyTorch's hub)")
    parser.add_argument(
        "--backbone", choices=tuple(ARCHITECTURES), default="resnet18", help="of every detector (default: %(default)s)"
    )
    parser.add_argument(
        "--detectors",
        nargs="+",
        choices=tuple(DETECTORS),
        default=tuple(DETECTORS),
        metavar="NAME",
        help=f"only these of {', '.join(DETECTORS)}",
    )
    parser.add_argument(
        "--epochs-share",
        type=share,
        default=0.2,
        metavar="SHARE",
        help="of the epochs of each detector's recipe, one at least (default: %(default)s)",
    )
    parser.add_argument(
        "--held-out-share",
        type=rate,
        default=0.2,
        metavar="SHARE",
        help="good images kept back to compare on (default: %(default)s)",
    )
    parser.add_argument("--roi-xywh", type=int, nargs=4, metavar=("X", "Y", "W", "H"), help="region of interest")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings and the drawn defects (default: 0)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="to train on")
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    chosen_settings = [_settings(arguments, detector) for detector in dict.fromkeys(arguments.detectors)]
    parts = load_good_parts(arguments.data, chosen_settings[0].data, arguments.seed)
    if not len(parts.held_out):
        raise ConfigError(f"'{arguments.data}' leaves no held-out parts", "give a greater --held-out-share")
    made_directory(arguments.out, "give another with --out")
    machine = machine_facts({}, os.getloadavg()[0])
    keep_freed_memory()
    candidates = []
    with joined_world(arguments.device) as world:
        for number, settings in enumerate(chosen_settings, 1):
            print(f"{number} of {len(chosen_settings)}: {settings.kind.title}", file=sys.stderr)
            candidates.append(_candidate(arguments, settings, parts, world, machine))
    choice = choose(candidates, arguments.budget_ms)
    result = _result(arguments, parts, candidates, choice, machine)
    write_text(arguments.out / RECOMMENDATION, result.model_dump_json(indent=1) + "\n")
    write_text(arguments.out / PAGE, recommendation_page(result.product, candidates, choice, result.budget_ms, machine))
    print(recommendation_table(candidates, choice, arguments.budget_ms))
    print(f"written: {arguments.out / PAGE}", file=sys.stderr)
    return 0


def _settings(arguments: argparse.Namespace, detector: str) -> TrainSettings:
    """The recipe of a detector's default preset, the smallest of each, with a share of its epochs."""
    wishes: dict[str, Any] = {
        "detector": detector,
        **{name: getattr(arguments, name) for name in ("backbone", "held_out_share", "roi_xywh", "seed")},
    }
    usual = {"precision": preferred_precision(arguments.device)}
    epochs = settings_from(wishes, None, usual).epochs
    return settings_from({**wishes, "epochs": max(1, math.ceil(arguments.epochs_share * epochs))}, None, usual)


def _candidate(
    arguments: argparse.Namespace, settings: TrainSettings, parts: GoodParts, world: World, machine: MachineFacts
) -> Measured:
    """Train and measure, or read what an earlier call measured of the same network on the same machine.

    What is too slow before any training is not trained.
    """
    out, untrained = arguments.out / settings.detector, None
    if not (out / RECORD).is_file():
        untrained = timed(settings, untrained_detector(settings, arguments.weights), parts.held_out[:1])
        if untrained.p95_ms > arguments.budget_ms:
            return untrained
    run = train_run(arguments.data, arguments.weights, settings, out, world, 8 * GIB)
    of = {
        "network": file_sha256(out / NETWORK),
        "data": parts.sha256,
        "machine": f"{machine.model}, {default_threads()} threads",
        "measuring": f"{candidate.DEFECTS_PER_PART} defects, {candidate.FRAMES} frames",
    }
    kept = _kept(out / MEASURED)
    if kept is not None and kept.of == of:
        return kept.measured
    untrained = untrained or timed(settings, run.detector(), parts.held_out[:1])
    measured = untrained.model_copy(update=trained(run, parts.held_out, world))
    write_text(out / MEASURED, _Kept(of=of, measured=measured).model_dump_json(indent=1) + "\n")
    return measured


def _kept(path: Path) -> _Kept | None:
    """None where there is none, or an earlier version's."""
    try:
        return _Kept.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _result(
    arguments: argparse.Namespace,
    parts: GoodParts,
    candidates: list[Measured],
    choice: Choice,
    machine: MachineFacts,
) -> Recommendation:
    return Recommendation(
        product=arguments.data.resolve().name,
        data_sha256=parts.sha256,
        train_images=len(parts.train),
        held_out_images=len(parts.held_out),
        budget_ms=arguments.budget_ms,
        chosen=choice.chosen.detector if choice.chosen else None,
        reason=choice.reason,
        as_good=tuple(one.detector for one in choice.as_good),
        candidates=tuple(candidates),
        threads=default_threads(),
        machine=machine,
        versions=versions(),
        code_version=code_version(),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of milliseconds above 0")
    return value
