"""Events on their way to the outbox: none is forgotten, a flood becomes few, and none costs a verdict a sync."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edge.audit import BURST, PATIENCE_S, REFILL_S, AuditTrail
from edge.events import (
    BundleLoaded,
    CameraConnected,
    CommandAnswered,
    Event,
    Fact,
    GoldenTest,
    LoginRefused,
    OutboxSalvaged,
    ThresholdChanged,
    Thresholds,
    UserAction,
)
from edge.messages import VERDICT_MAX_BYTES, Model, Recipe
from edge.outbox import Outbox

BOOT_ID = "01JD9V3N0000000000000000B0"
WIDE = "\U0001f600"
LONGEST = 2**63 - 1
LIMITS = Thresholds(image=-1.2345678901234567e-300, pixel=-1.2345678901234567e-300, min_defect_area_px=LONGEST)
LARGEST: list[Fact] = [
    BundleLoaded(
        bundle_sha256="0" * 64,
        recipe=Recipe(id=WIDE * 64, version=WIDE * 32),
        model=Model(name=WIDE * 64, version=WIDE * 32, precision="fp32", engine_sha256="0" * 64),
        thresholds=LIMITS,
    ),
    ThresholdChanged(before=LIMITS, now=LIMITS),
    GoldenTest(passed=True, vectors=LONGEST, map_error=1e300, score_error=1e300),
    GoldenTest(passed=False, problem=WIDE * 1000),
    CameraConnected(vendor=WIDE * 1000, model="", serial="two\nlines"),
    UserAction(kind="login", user="u" * 32, role="operator", address="fe80::1%eth0"),
    UserAction(kind="logout", user="u" * 32, role="viewer", address=""),
    UserAction(kind="counters_reset", user="u" * 32, role="viewer", address=""),
    LoginRefused(address=WIDE * 1000, reason=WIDE * 1000),
    CommandAnswered(action=WIDE * 1000, command_id="c" * 64, result="refused", reason=WIDE * 1000),
    OutboxSalvaged(problem=WIDE * 1000, saved=LONGEST, missing=LONGEST),
]


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.sqlite", 1000)) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(outbox: Outbox, clock: Clock) -> AuditTrail:
    return AuditTrail(outbox, BOOT_ID, "root/event", clock)


def refused(number: int = 0) -> LoginRefused:
    return LoginRefused(address=f"10.0.0.{number}", reason="wrong name or password")


def events_in(outbox: Outbox) -> list[Event]:
    return [Event.model_validate_json(row.message.payload) for row in outbox.pending(1000)]


@pytest.mark.parametrize("fact", LARGEST, ids=lambda fact: fact.kind)
def test_every_kind_keeps_the_schema_and_is_small(
    fact: Fact, outbox: Outbox, audit: AuditTrail, validators: dict[str, Draft202012Validator]
) -> None:
    audit.record(fact)
    audit.flush()
    (row,) = outbox.pending(10)
    message = row.message
    assert (message.topic, message.kind, message.qos, message.retain) == ("root/event", "event", 1, False)
    assert len(message.payload) <= VERDICT_MAX_BYTES  # so that no broker's limit is ever suspected
    document = json.loads(message.payload)
    validators["event"].validate(document)
    assert document["event"]["kind"] == fact.kind
    document["event"]["kind"] = "unheard_of"
    assert not validators["event"].is_valid(document)


def test_events_go_with_the_next_verdict_a_few_at_a_time(outbox: Outbox, audit: AuditTrail) -> None:
    for number in range(3):
        audit.record(refused(number))
    assert [message.seq for message in audit.take()] == [0, 1]
    assert [message.seq for message in audit.take()] == [2]
    assert audit.take() == []
    assert outbox.count() == 0


def test_without_a_verdict_they_go_alone_after_a_second(outbox: Outbox, audit: AuditTrail, clock: Clock) -> None:
    audit.flush_overdue()
    audit.record(refused())
    clock.now_s += 0.9 * PATIENCE_S
    audit.flush_overdue()
    assert outbox.count() == 0
    clock.now_s += 0.2 * PATIENCE_S
    audit.flush_overdue()
    assert len(events_in(outbox)) == 1


def test_a_flood_of_refused_logins_is_a_few_rows_and_every_one_is_counted(
    outbox: Outbox, audit: AuditTrail, clock: Clock
) -> None:
    minutes = 30
    for number in range(6000 * minutes // 60):
        audit.record(refused(number % 250))
        if number == 1500:
            audit.record(UserAction(kind="login", user="olga", role="operator", address="10.0.0.7"))
        clock.now_s += 0.6
        audit.flush_overdue()
    audit.flush()
    events = events_in(outbox)
    floods = [event for event in events if event.event.kind == "login_refused"]
    assert BURST < len(floods) <= BURST + minutes + 1
    assert sum(event.count for event in floods) == 3000
    assert [event.count for event in floods[:BURST]] == [1] * BURST
    assert [event.count for event in events if event.event.kind == "login"] == [1]


kinds = st.sampled_from([refused(), LARGEST[2], LARGEST[5]])
steps = st.lists(st.tuples(kinds, st.floats(0, REFILL_S), st.sampled_from(["record", "take", "overdue"])), max_size=60)


@given(steps, st.integers(1, 30))
def test_nothing_is_forgotten_counted_twice_or_told_too_often(steps: Any, times: int) -> None:
    clock, told = Clock(), []

    class Kept:
        @staticmethod
        def append_many(messages: Any) -> None:
            told.extend(messages)

    audit = AuditTrail(Kept(), BOOT_ID, "root/event", clock)  # type: ignore[arg-type]
    recorded: Counter[str] = Counter()
    for fact, pause_s, what in steps:
        if what == "record":
            recorded[fact.kind] += times
            for _ in range(times):
                audit.record(fact)
        elif what == "take":
            told += audit.take()
        else:
            audit.flush_overdue()
        clock.now_s += pause_s
    audit.flush()
    events = [Event.model_validate_json(message.payload) for message in told]
    assert [event.seq for event in events] == [message.seq for message in told] == list(range(len(told)))
    counted: Counter[str] = Counter()
    for event in events:
        counted[event.event.kind] += event.count
    assert counted == recorded
    minutes = (clock.now_s - 1000) / REFILL_S
    assert all(number <= BURST + minutes + 1 for number in Counter(event.event.kind for event in events).values())


def test_any_thread_may_record(outbox: Outbox, audit: AuditTrail) -> None:
    def record_500() -> None:
        for _ in range(500):
            audit.record(refused())

    threads = [threading.Thread(target=record_500) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = []
    while any(thread.is_alive() for thread in threads):
        taken += audit.take()
    outbox.append_many(taken)
    audit.flush()
    assert sum(event.count for event in events_in(outbox)) == 2000
