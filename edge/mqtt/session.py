"""One connection's worth of delivery: notices first, live messages next, the backlog of an outage last."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from edge.errors import DeliveryError
from edge.messages import VERDICT_MAX_BYTES
from edge.mqtt.feed import Feed
from edge.mqtt.link import Link
from edge.mqtt.notice_board import Notice, NoticeBoard
from edge.outbox import Outbox, Row

_IDLE_S = 1.0
_STRIKES = 3

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
    """Carries messages over one link until it is lost."""

    def __init__(self, link: Link, outbox: Outbox, board: NoticeBoard, tally: Tally, last_topic: str | None) -> None:
        """Set up.

        Args:
            link: connected.
            outbox: where messages wait; rows are removed when they are acknowledged.
            board: notices; all retained ones are sent again.
            tally: counts on across connections.
            last_topic: where the newest verdict is kept retained; None when it is not.
        """
        self._link = link
        self._outbox = outbox
        self._board = board
        self._tally = tally
        self._last_topic = last_topic
        self._feed = Feed(outbox)
        self._under_way: dict[int, Row | str] = {}  # packet id → row, or topic of a notice
        self._suspects: list[Row] = []
        self._suspect_under_way = False
        board.repeat()

    @property
    def settled(self) -> bool:
        """Whether nothing waits for an acknowledgement."""
        return not self._under_way

    def step(self) -> None:
        """Send what may be sent, wait until something happens, take receipts.

        Raises:
            DeliveryError: the link is lost, or the broker refuses a message.
            OutboxError: the outbox cannot be read or written.
        """
        try:
            self._send_notices()
            self._send_rows()
            self._send_notices()  # the newest verdict, for late joiners
            self._link.wait(self._feed.until_next_s(time.monotonic(), _IDLE_S))
        except DeliveryError:
            self._take_receipts()
            self._strike([item for item in self._under_way.values() if isinstance(item, Row)])
            raise
        self._take_receipts()

    def _room(self) -> int:
        return self._link.window - len(self._under_way)

    def _send_notices(self) -> None:
        while self._room() > 0 and (notice := self._board.take()):
            if not self._link.fits(notice.topic, notice.payload, notice.kind):
                _log.error("'%s' of %d bytes is larger than the broker takes", notice.topic, len(notice.payload))
                continue
            mid = self._link.send(notice.topic, notice.payload, qos=notice.qos, retain=notice.retain, kind=notice.kind)
            if notice.qos:
                self._under_way[mid] = notice.topic

    def _send_rows(self) -> None:
        if self._suspect_under_way:
            return
        for row in self._feed.take(self._room(), time.monotonic()):
            if row.id in self._tally.strikes:
                self._suspects.append(row)
            else:
                self._send(row)
        if self._suspects and self.settled:
            self._send(self._suspects.pop(0))
            self._suspect_under_way = not self.settled

    def _send(self, row: Row) -> None:
        message = row.message
        if not self._link.fits(message.topic, message.payload, message.kind):
            self._give_up(row)
            return
        mid = self._link.send(message.topic, message.payload, qos=message.qos, retain=message.retain, kind=message.kind)
        self._under_way[mid] = row
        self._tally.published += 1
        if self._last_topic and message.kind == "verdict" and row.id > self._tally.newest_verdict_id:
            self._tally.newest_verdict_id = row.id
            self._board.add(Notice(self._last_topic, "verdict", message.payload, 1, True))

    def _take_receipts(self) -> None:
        receipts, self._link.receipts = self._link.receipts, []
        taken: list[int] = []
        refused: list[Row] = []
        for receipt in receipts:
            item = self._under_way.pop(receipt.mid, None)
            if isinstance(item, Row):
                self._suspect_under_way = False
                if receipt.refusal:
                    refused.append(item)
                else:
                    taken.append(item.id)
            elif item is not None and receipt.refusal:
                _log.error("the broker refuses '%s': %s", item, receipt.refusal)
        if taken:
            self._outbox.remove(taken)
            self._tally.acknowledged += len(taken)
            for id_ in taken:
                self._tally.strikes.pop(id_, None)
        if refused:
            self._strike(refused)
            topic = refused[0].message.topic
            raise DeliveryError(
                f"the broker refuses messages on '{topic}'", "check its access rules; they stay in the outbox"
            )

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
