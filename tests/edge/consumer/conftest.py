"""Verdicts as a receiver sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edge.consumer import Verdict, parse_verdict

BOOTS = [f"01JD9V3N0000000000000000B{number}" for number in range(3)]


@pytest.fixture(scope="session")
def received(make_verdict: Any) -> Callable[..., Verdict]:
    """The verdict `seq` of boot number `boot`, as it was parsed."""
    pattern = parse_verdict(make_verdict(0).encode())

    def make(seq: int, boot: int = 0, *, historical: bool = False) -> Verdict:
        result_id = f"01JD9V3{boot}{seq:018d}"
        return replace(pattern, seq=seq, boot_id=BOOTS[boot], result_id=result_id, historical=historical)

    return make
