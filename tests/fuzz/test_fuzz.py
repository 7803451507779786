"""Bytes from outside are accepted or refused with an error of ours, and nothing else happens.

TFANET_FUZZ_CASES sets how many; with it they are new ones each time, without it always the same.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from fuzz_targets import Target, outcome, targets
from hypothesis import HealthCheck, Phase, given, settings

CASES = int(os.environ.get("TFANET_FUZZ_CASES", "40"))
IS_LONG = "TFANET_FUZZ_CASES" in os.environ
CORPUS = Path(__file__).parent / "corpus"
TARGETS = targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.timeout(600)
def test_cases(target: Target, tmp_path: Path, fuzz_counts: Counter[str]) -> None:
    with target.opened(tmp_path) as run:

        @settings(
            max_examples=max(1, int(CASES * target.share)),
            derandomize=not IS_LONG,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=[*HealthCheck],
        )
        @given(target.cases)
        def check(case: bytes) -> None:
            fuzz_counts[outcome(run, case)] += 1

        check()


@pytest.mark.parametrize("target", [t for t in TARGETS if (CORPUS / t.name).is_dir()], ids=lambda target: target.name)
def test_what_once_failed_does_so_no_more(target: Target, tmp_path: Path) -> None:
    with target.opened(tmp_path) as run:
        for path in sorted((CORPUS / target.name).iterdir()):
            outcome(run, path.read_bytes())
