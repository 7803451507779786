"""One connection's worth of delivery: notices first, then live messages, the backlog of an outage, replays."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from edge.errors import DeliveryError
from edge.messages import VERDICT_MAX_BYTES
from edge.mqtt.feed import Feed, Pace
from edge.mqtt.link import Link
from edge.mqtt.notice_board import Notice, NoticeBoard
from edge.outbox import Outbox, Row
from edge.replay import ReplayDesk
from edge.wire import Topics

_IDLE_S = 1.0
_STRIKES = 3
_REMOVE_AT_ONCE = 16
_REMOVE_WITHIN_S = 0.05
_ASK_AGAIN_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """What outlives a connection; written by the publisher's thread only.

    Attributes:
        published: messages of the outbox handed to the broker, repetitions included.
        acknowledged: taken by the broker.
        dropped_oversize: given up because the broker can never take them.
        newest_verdict_id: row of the newest verdict sent.
        strikes: connections lost while this large message was under way, by row.
    """

    published: int = 0
    acknowledged: int = 0
    dropped_oversize: int = 0
    newest_verdict_id: int = 0
    strikes: dict[int, int] = field(default_factory=dict)


class Session:
    """Carries messages over one link until it is lost.

    Attributes:
        complaint: what the broker refuses at present; it stays in the outbox, and is tried again every 30 s.
    """

    def __init__(
        self,
        link: Link,
        outbox: Outbox,
        board: NoticeBoard,
        desk: ReplayDesk,
        tally: Tally,
        topics: Topics,
        *,
        backlog_per_s: float,
        publish_last: bool,
    ) -> None:
        """Set up.

        Args:
            link: connected.
            outbox: where messages wait; rows are removed when they are acknowledged.
            board: notices; all retained ones are sent again.
            desk: where replays are asked for.
            tally: counts on across connections.
            topics: the station's.
            backlog_per_s: messages of the backlog and of replays, together, per second.
            publish_last: whether the newest verdict is kept retained.
        """
        self.complaint: DeliveryError | None = None
        self._link = link
        self._outbox = outbox
        self._board = board
        self._desk = desk
        self._tally = tally
        self._topics = topics
        self._publish_last = publish_last
        self._pace = Pace(backlog_per_s)
        self._feed = Feed(outbox, self._pace)
        self._under_way: dict[int, Row | str] = {}  # packet id → row, or topic of what is not in the outbox
        self._acknowledged: list[int] = []
        self._remove_at_s = 0.0
        self._suspects: list[Row] = []
        self._suspect_under_way = False
        self._ask_again_at_s = 0.0
        board.repeat()

    @property
    def settled(self) -> bool:
        """Whether nothing waits for an acknowledgement."""
        return not self._under_way

    def step(self) -> None:
        """Send what may be sent, wait until something happens, take receipts.

        Raises:
            DeliveryError: the link is lost.
            OutboxError: the outbox cannot be read or written.
        """
        try:
            self._send_notices()
            self._send_rows()
            self._send_replays()
            self._send_notices()  # the newest verdict, for late joiners
            self._link.wait(self._patience_s())
        except DeliveryError:
            self._take_receipts()
            self._remove()
            self._strike([item for item in self._under_way.values() if isinstance(item, Row)])
            raise
        self._take_receipts()
        if self.settled or len(self._acknowledged) >= _REMOVE_AT_ONCE or time.monotonic() >= self._remove_at_s:
            self._remove()

    def _room(self) -> int:
        return self._link.window - len(self._under_way)

    def _patience_s(self) -> float:
        """How long to wait for something to happen."""
        waits_s = [_IDLE_S]
        if (self._feed.has_backlog or self._desk.is_busy) and self._room() > 0:
            waits_s.append(self._pace.until_next_s())
        if self._acknowledged:
            waits_s.append(max(0.0, self._remove_at_s - time.monotonic()))
        return min(waits_s)

    def _send_notices(self) -> None:
        while self._room() > 0 and (notice := self._board.take()):
            if not self._link.fits(notice.topic, notice.payload, notice.kind):
                _log.error("'%s' of %d bytes is larger than the broker takes", notice.topic, len(notice.payload))
                continue
            mid = self._link.send(notice.topic, notice.payload, qos=notice.qos, retain=notice.retain, kind=notice.kind)
            if notice.qos:
                self._under_way[mid] = notice.topic

    def _send_rows(self) -> None:
        if self._suspect_under_way or not self._may_go_on():
            return
        for row in self._feed.take(self._room(), time.monotonic()):
            if row.id in self._tally.strikes:
                self._suspects.append(row)
            else:
                self._send(row)
        if self._suspects and self.settled:
            self._send(self._suspects.pop(0))
            self._suspect_under_way = not self.settled

    def _may_go_on(self) -> bool:
        """Begins from the front again when it is time to ask once more about what was refused."""
        if self.complaint is None or time.monotonic() < self._ask_again_at_s:
            return True
        if not self.settled:
            return False
        self._remove()
        self.complaint = None
        self._suspects.clear()
        self._feed = Feed(self._outbox, self._pace)
        return True

    def _send_replays(self) -> None:
        if self._feed.has_backlog or not self._desk.is_busy:
            return
        room = min(self._room(), self._pace.allowance(time.monotonic()))
        for payload in self._desk.take(room):
            self._pace.spend(1)
            mid = self._link.send(self._topics.verdict, payload, qos=1, retain=False, kind="verdict")
            self._under_way[mid] = self._topics.verdict

    def _send(self, row: Row) -> None:
        message = row.message
        if not self._link.fits(message.topic, message.payload, message.kind):
            self._give_up(row)
            return
        mid = self._link.send(message.topic, message.payload, qos=message.qos, retain=message.retain, kind=message.kind)
        self._under_way[mid] = row
        self._tally.published += 1
        if self._publish_last and message.kind == "verdict" and row.id > self._tally.newest_verdict_id:
            self._tally.newest_verdict_id = row.id
            self._board.add(Notice(self._topics.verdict_last, "verdict", message.payload, 1, True))

    def _take_receipts(self) -> None:
        receipts, self._link.receipts = self._link.receipts, []
        for receipt in receipts:
            item = self._under_way.pop(receipt.mid, None)
            if isinstance(item, Row):
                self._suspect_under_way = False
                if receipt.refusal:
                    self._put_off(item, receipt.refusal)
                else:
                    self._take(item)
            elif item is not None and receipt.refusal:
                _log.error("the broker refuses '%s': %s", item, receipt.refusal)

    def _take(self, row: Row) -> None:
        if not self._acknowledged:
            self._remove_at_s = time.monotonic() + _REMOVE_WITHIN_S
        self._acknowledged.append(row.id)

    def _remove(self) -> None:
        """Acknowledged messages leave the outbox many at a time; one that is not removed yet may come twice."""
        if self._acknowledged:
            self._outbox.remove(self._acknowledged)
            self._tally.acknowledged += len(self._acknowledged)
            for id_ in self._acknowledged:
                self._tally.strikes.pop(id_, None)
            self._acknowledged = []

    def _put_off(self, row: Row, refusal: str) -> None:
        """A refused message stays where it is; those behind it go on."""
        if self.complaint is None:
            self._ask_again_at_s = time.monotonic() + _ASK_AGAIN_S
            self.complaint = DeliveryError(
                f"the broker refuses messages on '{row.message.topic}' ({refusal})",
                "check its access rules; they stay in the outbox",
            )
        self._strike([row])

    def _strike(self, rows: list[Row]) -> None:
        """A broker may end the connection over a message that is too large for it, and never say so.

        Verdicts are too small for that and never suspected. A suspect goes alone from now on.
        """
        for row in rows:
            if len(row.message.payload) <= VERDICT_MAX_BYTES:
                continue
            strikes = self._tally.strikes.get(row.id, 0) + 1
            self._tally.strikes[row.id] = strikes
            if strikes == _STRIKES:
                self._give_up(row)

    def _give_up(self, row: Row) -> None:
        self._outbox.discard(row)
        self._tally.strikes.pop(row.id, None)
        self._tally.dropped_oversize += 1
        message = row.message
        _log.error("a message of %d bytes on '%s' is larger than the broker takes", len(message.payload), message.topic)
