"""Tells how many cases were accepted and refused."""

from __future__ import annotations

from collections import Counter

import pytest

_COUNTS: dict[str, Counter[str]] = {}


@pytest.fixture
def fuzz_counts(request: pytest.FixtureRequest) -> Counter[str]:
    """Of this test."""
    return _COUNTS.setdefault(request.node.callspec.id, Counter())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, counts in sorted(_COUNTS.items()):
        terminalreporter.write_line(f"fuzz {name}: {counts['accepted']} accepted, {counts['refused']} refused")
