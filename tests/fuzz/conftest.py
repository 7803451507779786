"""Tells how many cases were accepted and refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest


@pytest.fixture
def fuzz_counts(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Of this test."""
    counts: Counter[str] = Counter()
    yield counts
    name = request.node.callspec.id
    line = f"fuzz {name}: {counts['accepted']} accepted, {counts['refused']} refused"
    request.node.user_properties.append(("fuzz", line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Reports come from wherever the tests ran.
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    said = {value for report in reports for key, value in getattr(report, "user_properties", ()) if key == "fuzz"}
    for line in sorted(said):
        terminalreporter.write_line(line)
