"""Verdicts from MQTT, as a loop: every one once, in order, with a word about those that never came."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from edge.consumer.bitmap import Bitmap
from edge.consumer.events import Event, EventReader
from edge.consumer.mask_pairs import MaskPairs
from edge.consumer.order import Missing, Ordering, Output, Position, ReplayRequest
from edge.consumer.parsing import parse_verdict
from edge.consumer.reception import BadMessage, Counts
from edge.consumer.sequencer import Sequencer
from edge.consumer.session import Arrival, Broker, Fault, Notice, Session, Stop
from edge.consumer.verdict import Verdict
from edge.errors import MessageError

_WAIT_S = 0.2
_MASK_MAX_BYTES = 1 << 20
_MASK_TOPIC = re.compile(r"/mask/([^/]+)$")
_EVENT = "/event"


def _ignore(_: object) -> None:
    pass


class Consumer:
    """An iterator over verdicts; a context manager around the connection.

    A message is acknowledged when the verdict after it is asked for: what was being handled when the program died comes
    again. Verdicts that wait behind a gap are acknowledged while they wait; a program that must not lose them either
    resumes after those that it has kept (`positions_after`), and asks the station for the rest.
    """

    def __init__(
        self,
        broker: Broker,
        stations: str = "+/+/+/+",
        *,
        prefix: str = "tfanet",
        ordering: Ordering = Ordering(),  # noqa: B008 - immutable
        resume: Iterable[Position] = (),
        from_start: bool = False,
        on_missing: Callable[[Missing], None] = _ignore,
        on_bad: Callable[[BadMessage], None] = _ignore,
        on_notice: Callable[[str], None] = _ignore,
        on_mask: Callable[[Verdict, Bitmap], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Prepare; entering the context connects.

        Args:
            broker: where to connect, and the name of the session.
            stations: path of one station, `site/area/line/station`, with `+` for any.
            prefix: what their topics begin with.
            ordering: whether and how long to wait for what is missing.
            resume: where an earlier run of the program ended.
            from_start: the first boot heard of is wanted from its first verdict: what is missing is asked for.
            on_missing: told of verdicts that were given up, before the verdicts behind them are handed over.
            on_bad: told of each message that breaks the published rules.
            on_notice: told, in a few words, of what becomes of the connection.
            on_mask: given each mask with its verdict, whether it came inline or as a message of its own.
            on_event: given each event of the audit trail, when it comes; events of unknown kinds are ignored.

        All of them are called by the thread that iterates; what they raise ends the iteration.
        """
        self._root = f"{prefix}/v1/"
        kinds = [kind for kind, hook in (("mask/+", on_mask), ("event", on_event)) if hook is not None]
        self._session = Session(broker, tuple(f"{self._root}{stations}/{kind}" for kind in ("verdict", *kinds)))
        self._sequencer = Sequencer(ordering, resume, from_start=from_start)
        self._masks = MaskPairs()
        self._events = EventReader()
        self._on_missing, self._on_bad, self._on_notice = on_missing, on_bad, on_notice
        self._on_mask, self._on_event = on_mask, on_event or _ignore
        self._outputs: deque[Output] = deque()
        self._in_hand: Arrival | None = None
        self._stopping = False
        self._wait_at_s = 0.0
        self._verdicts = self._bad = self._missing = self._requests = 0

    def __enter__(self) -> Consumer:
        self._session.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def __iter__(self) -> Iterator[Verdict]:
        return self

    def __next__(self) -> Verdict:
        """The next verdict, whenever it comes.

        Raises:
            StopIteration: after `stop`, and after what was held has been handed over.
            ValueError: the broker's address, or the filter, cannot be one.
        """
        while True:
            while self._outputs:
                output = self._outputs.popleft()
                if isinstance(output, Verdict):
                    return self._handed_over(output)
                self._tell(output)
            if self._in_hand is not None:
                self._session.acknowledge(self._in_hand)
                self._in_hand = None
            if self._stopping:
                raise StopIteration
            self._receive()

    def run(self, callback: Callable[[Verdict], None]) -> None:
        """Call `callback` with each verdict, until `stop`. What it raises ends the loop."""
        for verdict in self:
            callback(verdict)

    def stop(self) -> None:
        """End the iteration; what is held is handed over first. From any thread, a hook or a signal handler."""
        self._session.stop()

    @property
    def counts(self) -> Counts:
        """Figures since the start."""
        return Counts(
            self._verdicts,
            self._sequencer.repeated,
            self._sequencer.foreign,
            self._bad,
            self._missing,
            self._requests,
            self._sequencer.waiting,
        )

    def _receive(self) -> None:
        news = self._session.next(_WAIT_S)
        match news:
            case Arrival():
                self._in_hand = news
                self._read(news)
            case Notice(text):
                self._on_notice(text)
            case Fault(error):
                self._stopping = True
                raise error
            case Stop():
                self._stopping = True
                self._outputs += self._sequencer.give_up()
        now_s = time.monotonic()
        if now_s >= self._wait_at_s and not self._stopping:
            self._wait_at_s = now_s + _WAIT_S
            self._outputs += self._sequencer.wait(now_s)

    def _read(self, arrival: Arrival) -> None:
        topic, payload = arrival.topic, arrival.payload
        if (found := _MASK_TOPIC.search(topic)) is not None:
            self._read_mask(found[1], topic, payload)
        elif topic.endswith(_EVENT):
            self._read_event(topic, payload)
        else:
            self._read_verdict(topic, payload)

    def _read_mask(self, result_id: str, topic: str, payload: bytes) -> None:
        if len(payload) > _MASK_MAX_BYTES:
            self._complain(topic, payload, MessageError(f"a mask of {len(payload)} bytes"))
        else:
            self._show(self._masks.add_payload(result_id, payload))

    def _read_event(self, topic: str, payload: bytes) -> None:
        try:
            event = self._events.read(topic.removeprefix(self._root).removesuffix(_EVENT), payload)
        except MessageError as error:
            self._complain(topic, payload, error)
        else:
            if event is not None:
                self._on_event(event)

    def _read_verdict(self, topic: str, payload: bytes) -> None:
        try:
            verdict = parse_verdict(payload)
            if topic != f"{self._root}{verdict.station.path}/verdict":
                raise MessageError(f"a verdict of {verdict.station.path} came on '{topic}'")
        except MessageError as error:
            self._complain(topic, payload, error)
        else:
            self._outputs += self._sequencer.accept(verdict, time.monotonic())

    def _complain(self, source: str, payload: bytes, error: MessageError) -> None:
        self._bad += 1
        self._on_bad(BadMessage(source, payload, str(error)))

    def _handed_over(self, verdict: Verdict) -> Verdict:
        self._verdicts += 1
        if self._on_mask is not None:
            self._show(self._masks.add_verdict(verdict))
        return verdict

    def _tell(self, output: Missing | ReplayRequest) -> None:
        if isinstance(output, Missing):
            self._missing += output.to_seq - output.from_seq + 1
            self._on_missing(output)
            return
        self._requests += 1
        asked = {"boot_id": output.boot_id, "from_seq": output.from_seq, "to_seq": output.to_seq}
        self._session.send(f"{self._root}{output.station}/replay/request", json.dumps(asked).encode())

    def _show(self, pair: tuple[Verdict, bytes | None] | None) -> None:
        if pair is None or self._on_mask is None:
            return
        verdict, payload = pair
        mask = verdict.mask
        assert mask is not None
        try:
            bitmap = mask.bitmap(payload)
        except MessageError as error:
            self._complain(f"mask/{verdict.result_id}", payload or str(mask.counts).encode(), error)
            return
        self._on_mask(verdict, bitmap)
