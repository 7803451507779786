"""The verb `evaluate`: how good one run is, or several that differ in their seed, on labelled test images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import get_args

from edge.arguments import rate, whole_number_from
from edge.errors import ConfigError
from edge.manifest import ScoreRule
from training.distributed import joined_world
from training.evaluation.evaluate import evaluate_run, refuse_different
from training.evaluation.limit import held_out_limit
from training.evaluation.predict import read_parts
from training.evaluation.report import REPORT, write_report
from training.evaluation.results import Result, document, table
from training.files import made_directory, write_text
from training.run import Run, load_run


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate --run RUN --data DIR --json OUT` and its options."""
    parser = subparsers.add_parser("evaluate", help="measure a trained detector on labelled test images")
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        action="append",
        metavar="RUN",
        dest="runs",
        help="run directory; given several times, runs of different seeds become mean and deviation",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the product's images")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="file to write all figures to")
    parser.add_argument("--report", type=Path, metavar="DIR", help="for report.html (default: RUN/evaluation)")
    parser.add_argument("--score-rule", choices=get_args(ScoreRule), help="default: the run's")
    parser.add_argument("--fusion", metavar="NAME", help="how its maps become one (default: the run's)")
    parser.add_argument(
        "--snapshot", type=whole_number_from(1), metavar="N", help="weights after epoch N (default: the result)"
    )
    parser.add_argument(
        "--false-reject-rate",
        type=rate,
        default=0.01,
        metavar="RATE",
        help="of good parts, for the threshold from held-out good ones (default: %(default)s)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    false_reject_rate, snapshot = arguments.false_reject_rate, arguments.snapshot
    runs = [load_run(path) for path in arguments.runs]
    refuse_different(runs)
    _refuse_unknown(arguments.fusion, runs[0])
    report = made_directory(arguments.report or runs[0].path / "evaluation", "give another with --report")
    made_directory(arguments.json.parent, "give another with --json")
    parts = read_parts(arguments.data, runs[0].record.settings.data)
    results = []
    with joined_world(arguments.device) as world:
        for run in runs:
            found = evaluate_run(run, parts, world.device, arguments.score_rule, arguments.fusion, snapshot)
            limit = held_out_limit(
                run, arguments.data, world.device, found.score_rule, found.fusion, false_reject_rate, snapshot
            )
            results.append(Result(run, found, limit))
    content = document(results, parts, arguments.data, snapshot, false_reject_rate)
    write_text(arguments.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_report(report, results, parts, content)
    print(table(content["figures"]))
    print(f"report: {report / REPORT}")
    return 0


def _refuse_unknown(fusion: str | None, run: Run) -> None:
    kind = run.record.settings.kind
    if fusion is not None and fusion not in kind.fusions:
        raise ConfigError(f"{kind.title} has no fusion '{fusion}'", f"choose among: {', '.join(kind.fusions)}")
