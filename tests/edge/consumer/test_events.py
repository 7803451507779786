"""Events as a receiver sees them: what the station's models write is read, each once, and what is none is refused."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.consumer import Consumer, Event, MessageError, parse_event
from edge.consumer.events import KINDS, EventReader
from edge.consumer.session import Arrival, Broker
from edge.events import Event as Written
from edge.events import Fact, UserAction

PLACE = "plant/paint/l1/s1"


def written(boot, **changes):
    login = UserAction(kind="login", user="olga", role="operator", address="10.0.0.7")
    message = Written(boot_id=boot, seq=0, ts="2025-11-22T05:01:35.000123Z", count=3, event=login)
    return json.dumps(json.loads(message.encode()) | changes).encode()


def test_the_kinds_are_those_of_the_station():
    models = [model.model_fields["kind"].annotation for model in get_args(Fact)]
    assert sorted(KINDS) == sorted(kind for kinds in models for kind in get_args(kinds))


def test_an_event_is_read(boot_id):
    facts = {"user": "olga", "role": "operator", "address": "10.0.0.7"}
    ts = datetime(2025, 11, 22, 5, 1, 35, 123, timezone.utc)
    assert parse_event(PLACE, written(boot_id, seq=4)) == Event(PLACE, boot_id, 4, ts, 3, "login", facts)


def test_repetitions_and_kinds_of_later_versions_are_not_handed_out(boot_id):
    reader = EventReader()
    later = {"event": {"kind": "plan_rebuilt", "ms": 3}, "schema_version": "1.4.0", "also": 1}
    payloads = [written(boot_id), written(boot_id), written(boot_id, seq=1, **later), written(boot_id, seq=2)]
    read = [reader.read(PLACE, payload) for payload in payloads]
    assert [event and event.seq for event in read] == [0, None, None, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "urn:tfanet-edge:event:2"},
        {"schema": 1},
        {"schema_version": "2.0.0"},
        {"seq": -1},
        {"count": 0},
        {"boot_id": "x"},
        {"ts": "today"},
        {"event": {}},
        {"event": "login"},
        {"event": {"kind": 1}},
    ],
)
def test_what_breaks_the_rules_is_refused(boot_id, changes):
    with pytest.raises(MessageError):
        parse_event(PLACE, written(boot_id, **changes))


@given(st.binary(max_size=60), st.integers(0, 300), st.integers(0, 3))
def test_no_bytes_raise_anything_else(boot_id, noise, place, cut):
    good = written(boot_id)
    for payload in (noise, good[:place] + noise + good[place + cut :]):
        try:
            parse_event(PLACE, payload)
        except MessageError:
            continue


def test_a_bad_event_is_told_and_what_a_hook_raises_ends_the_loop(boot_id):
    bad, events = [], []

    def keep(event):
        events.append(event)
        if event.seq == 1:
            raise MessageError("not mine")

    consumer = Consumer(Broker("127.0.0.1", "events"), on_bad=bad.append, on_event=keep)
    for payload in (b"{}", written(boot_id), written(boot_id, seq=1)):
        consumer._session._news.put(Arrival(f"tfanet/v1/{PLACE}/event", payload, 1, 1, -1))
    with pytest.raises(MessageError, match="not mine"):
        next(consumer)
    assert [event.seq for event in events] == [0, 1]
    assert {event.station for event in events} == {PLACE}
    assert [message.source for message in bad] == [f"tfanet/v1/{PLACE}/event"]
