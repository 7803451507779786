"""What the station answers to commands: the rules alone, then over a real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge.commands import COMMAND_MAX_BYTES, REMEMBERED, WINDOW_S, CommandDesk
from edge.config import MqttConfig
from edge.errors import OutboxError
from edge.events import CommandAnswered, Fact
from edge.mqtt.publisher import Publisher
from edge.notices import CommandResult
from edge.outbox import Outbox
from edge.wire import Topics, utc_text

BOOT_ID = "01JD9V3N0000000000000000B0"
NOON_NS = 1_800_000_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = NOON_NS

    def __call__(self) -> int:
        return self.now_ns


class Counter:
    """An action that tells how often it was done."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, float | str]:
        self.calls += 1
        return {"calls": float(self.calls)}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def desk(clock: Clock, counter: Counter) -> CommandDesk:
    made = CommandDesk(BOOT_ID, lambda _: None, clock)
    made.offer("count", counter)
    return made


def command(command_id: str = "a-1", age_s: float = 0.0) -> bytes:
    ts = utc_text(NOON_NS - int(age_s * 1e9))
    return json.dumps({"command_id": command_id, "ts": ts}).encode()


def test_a_command_is_done_and_its_id_echoed(desk: CommandDesk) -> None:
    result = desk.answer("count", command())
    assert (result.result, result.command_id, result.action, result.values) == ("done", "a-1", "count", {"calls": 1.0})


def test_repeating_a_command_gives_the_same_answer_and_does_nothing(
    desk: CommandDesk, counter: Counter, clock: Clock
) -> None:
    first = desk.answer("count", command())
    clock.now_ns += int(WINDOW_S * 0.9e9)
    assert desk.answer("count", command()) == first
    assert counter.calls == 1
    assert desk.answer("count", command("a-2", age_s=-30)).values == {"calls": 2.0}


def test_every_command_is_recorded_once_whatever_becomes_of_it(clock: Clock, counter: Counter) -> None:
    recorded: list[Fact] = []
    desk = CommandDesk(BOOT_ID, lambda _: None, clock, recorded.append)
    desk.offer("count", counter)
    for action, payload in (("count", command()), ("count", command()), ("shutdown", command("a-2")), ("count", b"{")):
        desk.answer(action, payload)
    done, unknown, broken = recorded
    assert done == CommandAnswered(action="count", command_id="a-1", result="done", reason=None)
    assert unknown == CommandAnswered(
        action="shutdown", command_id="a-2", result="refused", reason="no such action; there are count"
    )
    assert isinstance(broken, CommandAnswered)
    assert (broken.command_id, broken.result) == (None, "refused")


def test_a_recorded_command_is_never_done_again(desk: CommandDesk, counter: Counter, clock: Clock) -> None:
    """However long it is kept: as long as its time is good its answer is remembered."""
    ahead = command(age_s=-WINDOW_S)
    desk.answer("count", ahead)
    for _ in range(30):
        clock.now_ns += int(WINDOW_S * 1e9 / 10)
        desk.answer("count", ahead)
    assert counter.calls == 1


@pytest.mark.parametrize(
    ("action", "payload", "words"),
    [
        ("count", command(age_s=WINDOW_S + 1), "station's clock"),
        ("count", command(age_s=-WINDOW_S - 1), "station's clock"),
        ("shutdown", command(), "no such action; there are count"),
        ("count", None, "larger than"),
        ("count", b"", "not a command"),
        ("count", b"{", "not a command"),
        ("count", b"[" * 1000, "not a command"),
        ("count", b"\xff", "not a command"),
        ("count", b'{"command_id": "x"}', "ts: Field required"),
        ("count", b'{"command_id": "x", "ts": "2025-02-30T00:00:00.000000Z"}', "ts is no moment"),
        ("count", b'{"command_id": "x", "ts": "0001-01-01T00:00:00.000000Z"}', "ts"),
        ("count", b'{"command_id": "line\\nbreak", "ts": "2025-02-20T00:00:00.000000Z"}', "command_id"),
        ("count", command()[:-1] + b', "also": 1}', "also"),
    ],
)
def test_what_is_refused_says_why(desk: CommandDesk, counter: Counter, action: str, payload: Any, words: str) -> None:
    result = desk.answer(action, payload)
    assert (result.result, result.values) == ("refused", {})
    assert result.reason is not None
    assert words in result.reason
    assert counter.calls == 0


def test_a_retained_command_is_refused(desk: CommandDesk, counter: Counter) -> None:
    result = desk.answer("count", command(), is_retained=True)
    assert result.result == "refused"
    assert "retained" in str(result.reason)
    assert result.command_id == "a-1"
    assert counter.calls == 0


def test_an_id_belongs_to_one_command(desk: CommandDesk) -> None:
    desk.offer("other", dict)
    desk.answer("count", command())
    assert "another command" in str(desk.answer("other", command()).reason)


def test_memory_is_bounded_and_frees_itself(desk: CommandDesk, counter: Counter, clock: Clock) -> None:
    for number in range(REMEMBERED + 5):
        desk.answer("count", command(f"n{number}"))
    assert counter.calls == REMEMBERED
    assert desk.answer("count", command("n0")).result == "done"  # remembered ones are answered still
    clock.now_ns += int((WINDOW_S + 1) * 1e9)
    assert desk.answer("count", command("later", age_s=-WINDOW_S)).result == "done"


def test_an_action_that_fails_is_an_answer(desk: CommandDesk) -> None:
    def fail() -> dict[str, float | str]:
        raise OutboxError("the outbox cannot be read", "check the disk")

    desk.offer("fail", fail)
    assert desk.answer("fail", command()).reason == "the outbox cannot be read: check the disk"


@given(st.text(max_size=200), st.binary(max_size=COMMAND_MAX_BYTES), st.booleans())
def test_whatever_comes_is_answered_within_the_schema(action: str, payload: bytes, is_retained: bool) -> None:
    desk = CommandDesk(BOOT_ID, lambda _: None)
    result = desk.answer(action, payload, is_retained=is_retained)
    assert CommandResult.model_validate_json(result.encode()) == result


class Host:
    """A line host that commands a station."""

    def __init__(self, port: int, topics: Topics) -> None:
        self.results: list[dict[str, Any]] = []
        self._topics = topics
        self._client = Client(CallbackAPIVersion.VERSION2, "host")
        self._client.on_message = lambda _client, _data, message: self.results.append(json.loads(message.payload))
        self._subscribed = False
        self._client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(topics.command_result, 1)
        self._client.loop_start()
        wait_for(lambda: self._subscribed)

    def send(self, action: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(self._topics.command(action), payload, 1, retain).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def wait_for(condition: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_commands_over_a_broker(
    mosquitto: Any,
    topics: Topics,
    tmp_path: Path,
    validators: dict[str, Draft202012Validator],
    counter: Counter,
    protocol: str,
) -> None:
    broker = mosquitto().start()
    host = Host(broker.port, topics)
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    config = MqttConfig.model_validate({"port": broker.port, "protocol": protocol})
    publisher = Publisher(config, topics, outbox, boot_id=BOOT_ID, version="0")
    desk = CommandDesk(BOOT_ID, lambda result: publisher.answer(topics.command_result, "command_result", result))
    desk.offer("count", counter)
    publisher.listen(topics.command("+"), desk.receive, COMMAND_MAX_BYTES)
    now = json.dumps({"command_id": "now", "ts": utc_text(time.time_ns())}).encode()
    try:
        host.send("count", now, retain=True)
        publisher.start()
        wait_for(lambda: len(host.results) == 1)
        host.send("count", b"x" * (COMMAND_MAX_BYTES + 1))
        for _ in range(3):
            host.send("count", now)
        wait_for(lambda: len(host.results) == 5)
        time.sleep(0.1)  # its own results reach the station, and are not answered
    finally:
        publisher.stop(0.0)
        outbox.close()
        host.close()
    assert [result["result"] for result in host.results] == ["refused", "refused", "done", "done", "done"]
    assert host.results[2] == host.results[3] == host.results[4]
    assert counter.calls == 1
    for result in host.results:
        assert not [*validators["command_result"].iter_errors(result)]
    assert not [*validators["command"].iter_errors(json.loads(now))]
