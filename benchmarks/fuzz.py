"""Feeds everything that reads bytes from outside with cases near what it accepts, and counts what becomes of them.

python benchmarks/fuzz.py [--cases N] [--only NAME …]    writes benchmarks/results/fuzz.json

A case that fails is kept in tests/fuzz/corpus, where a test repeats it ever after; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from fuzz_targets import Target, outcome, targets  # noqa: E402

CORPUS = ROOT / "tests" / "fuzz" / "corpus"
RESULT = Path(__file__).parent / "results" / "fuzz.json"


def fuzz(target: Target, cases: int, seed_: int) -> dict[str, Any]:
    """Counts of one target, and the kinds of failure with the shortest case of each."""
    counts: Counter[str] = Counter()
    failures: dict[str, bytes] = {}
    begin_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, target.opened(Path(directory)) as run:

        @seed(seed_)
        @settings(
            max_examples=max(1, int(cases * target.share)),
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=[*HealthCheck],
        )
        @given(target.cases)
        def check(case: bytes) -> None:
            try:
                counts[outcome(run, case)] += 1
            except Exception as error:  # noqa: BLE001 - it is what is looked for
                counts["failed"] += 1
                kind = f"{type(error).__name__}: {str(error)[:120]}"
                if kind not in failures or len(case) < len(failures[kind]):
                    failures[kind] = case

        check()
    for case in failures.values():
        (CORPUS / target.name).mkdir(parents=True, exist_ok=True)
        (CORPUS / target.name / f"{hashlib.sha256(case).hexdigest()[:12]}.bin").write_bytes(case)
    return {
        "accepted": counts["accepted"],
        "refused": counts["refused"],
        "failed": counts["failed"],
        "failures": sorted(failures),
        "seconds": round(time.perf_counter() - begin_s, 1),
    }


def main() -> int:
    """Run, write, and tell. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="of each target; slow ones get a part of it")
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    seed_ = random.randrange(2**32)
    results = {}
    for target in targets():
        if arguments.only is None or target.name in arguments.only:
            results[target.name] = figures = fuzz(target, arguments.cases, seed_)
            print(target.name, figures, flush=True)
    if arguments.only is None:
        content = {"python": platform.python_version(), "seed": seed_, "targets": results}
        RESULT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return int(any(figures["failed"] for figures in results.values()))


if __name__ == "__main__":
    sys.exit(main())
