"""The verb `verify`: whether a bundle is whole, and whether the engines on this machine compute what it says.

Exit status 1: an engine failed, or contradicts the golden vectors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from edge.bundle import Bundle, load_bundle
from edge.config import EngineConfig
from edge.engines.choice import open_tensorrt
from edge.engines.engine import Engine
from edge.engines.golden import GoldenResult, bound_ring, contradiction, run_golden
from edge.engines.ort import OrtEngine
from edge.errors import AcceleratorError
from edge.manifest import Precision, Variant

OpenEngine = Callable[[Bundle, Precision], Engine]

ENGINES: Mapping[str, OpenEngine] = {
    "onnxruntime": lambda bundle, precision: OrtEngine(bundle, precision, threads=None),
    "tensorrt": lambda bundle, precision: open_tensorrt(EngineConfig(precision=precision), bundle),
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What one engine made of one variant's golden vectors."""

    precision: Precision
    engine: str
    variant: Variant
    result: GoldenResult

    @property
    def is_ok(self) -> bool:
        """Whether the vectors were reproduced."""
        return self.result.is_within(self.variant)


@dataclass(frozen=True, slots=True)
class Absence:
    """An engine that this machine does not have, or not for that variant."""

    precision: Precision
    engine: str
    reason: str


def prove(bundle: Bundle, precisions: Sequence[Precision]) -> Iterator[Proof | Absence]:
    """Run the golden vectors through every engine that this machine has, variant by variant.

    Raises:
        BundleError: there is no such variant, or the golden vectors cannot be read.
        EngineError: an engine cannot load or run a variant.
    """
    golden = bundle.golden()
    for precision in precisions:
        variant = bundle.variant(precision)
        for name, open_engine in ENGINES.items():
            try:
                opened = open_engine(bundle, precision)
            except AcceleratorError as error:
                yield Absence(precision, name, error.problem)
                continue
            with closing(opened) as engine:
                yield Proof(precision, name, variant, run_golden(engine, golden, bound_ring(engine, bundle)))


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `verify BUNDLE [--precision P]`."""
    parser = subparsers.add_parser("verify", help="check a bundle's files and what this machine's engines make of it")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle directory")
    parser.add_argument(
        "--precision",
        action="append",
        choices=get_args(Precision),
        help="of the variant to run; may be given several times (default: all that there are)",
    )
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    manifest = bundle.manifest
    print(f"{manifest.name} {manifest.version}: all {len(manifest.files)} files are as the manifest says", flush=True)
    print(_row("variant", "engine", "map error", "(allowed)", "score error", "(allowed)", ""), flush=True)
    contradictions, absences = [], []
    for proof in prove(bundle, arguments.precision or list(manifest.variants)):
        if isinstance(proof, Absence):
            absences.append(proof)
            continue
        result, variant = proof.result, proof.variant
        allowed = f"({variant.map_tolerance:.1e})", f"({variant.score_tolerance:.1e})"
        errors = f"{result.map_error:.1e}", f"{result.score_error:.1e}"
        word = "ok" if proof.is_ok else "WRONG"
        print(_row(proof.precision, proof.engine, errors[0], allowed[0], errors[1], allowed[1], word), flush=True)
        if not proof.is_ok:
            contradictions.append(proof)
    for absence in absences:
        print(f"{absence.precision:<8} {absence.engine:<12} not run: {absence.reason}", flush=True)
    if contradictions:
        first = contradictions[0]
        raise contradiction(f"the {first.precision} variant in {first.engine}", first.result, first.variant)
    return 0


def _row(precision: str, engine: str, *cells: str) -> str:
    return f"{precision:<8} {engine:<12} {' '.join(f'{cell:>11}' for cell in cells)}".rstrip()
