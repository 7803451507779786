"""The bridge: one thread that owns the Sparkplug session, and takes in turn whatever happens on either side.

A verdict is taken from the stations' broker after the Sparkplug broker has read it: data has QoS 0, which knows no
acknowledgement, so a question that brokers answer is sent behind it. Whatever is in hand when the connection is lost
is sent again after the next birth.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from queue import Empty, SimpleQueue

from edge.consumer import Missing
from edge.errors import DeliveryError, MessageError
from edge.sparkplug.bdseq import BirthDeathNumbers
from edge.sparkplug.device import Device
from edge.sparkplug.host import PrimaryHost
from edge.sparkplug.link import Answered, Link, LinkEvent, Lost, Opened, Received
from edge.sparkplug.node import REBIRTH, EdgeNode, Publication
from edge.sparkplug.payload import Metric, decode
from edge.sparkplug.settings import BridgeConfig
from edge.sparkplug.sources import (
    Failed,
    Hand,
    SourceEvent,
    StationsLost,
    StationState,
    StationStatus,
    StationWatch,
    VerdictSource,
)

_RETRY_FIRST_S = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing more is wanted."""


Event = LinkEvent | SourceEvent | Stop


class Bridge:
    """Stations on one side, a Sparkplug edge node on the other."""

    def __init__(self, config: BridgeConfig, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        """Prepare; `run` connects.

        Args:
            config: both sides.
            now_ms: UTC since 1970.

        Raises:
            ConfigError: a file cannot be read.
        """
        self._config = config.sparkplug
        self._now_ms = now_ms
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._node = EdgeNode(
            self._config.group_id, self._config.edge_node_id, config.stations.filter, version("tfanet-edge")
        )
        host_id = self._config.primary_host_id
        self._host = None if host_id is None else PrimaryHost(host_id)
        self._numbers = BirthDeathNumbers(self._config.bdseq_path)
        self._verdicts = VerdictSource(config.stations, self._events.put)
        self._watch = StationWatch(config.stations, self._events.put)
        self._link: Link | None = None
        self._bdseq = 0
        self._is_born = False
        self._hand: Hand | None = None
        self._question: int | None = None
        self._retry_s = _RETRY_FIRST_S
        self._connect_at_s = 0.0
        self._problem = ""

    def stop(self) -> None:
        """End `run`; from any thread or a signal handler."""
        self._events.put(Stop())

    def run(self) -> None:
        """Carry verdicts until `stop`.

        Raises:
            ConfigError: a file cannot be read or written any more.
            Exception: what ended the receiving of verdicts.
        """
        self._watch.start()
        self._verdicts.start()
        try:
            while True:
                event = self._next()
                if isinstance(event, Stop):
                    return
                try:
                    if event is not None:
                        self._handle(event)
                    self._tell_of_devices()
                    self._pass_on()
                except DeliveryError as error:
                    self._give_up_link(str(error))
        finally:
            self._verdicts.stop()
            self._watch.stop()
            self._close_link()

    def _next(self) -> Event | None:
        if self._link is not None:
            return self._events.get()
        wait_s = self._connect_at_s - time.monotonic()
        if wait_s <= 0:
            self._connect()
            return None
        try:
            return self._events.get(timeout=wait_s)
        except Empty:
            return None

    def _handle(self, event: Event) -> None:
        match event:
            case Hand(verdict):
                self._node.device(verdict.station.path).record(verdict, self._now_ms())
                self._hand = event
            case StationStatus(station, is_online):
                device = self._node.device(station)
                device.is_alive, device.has_ended = is_online, not is_online
            case StationState(station, name, reason, at_ms):
                device = self._node.device(station)
                self._send_data(device, device.set_state(name, reason, at_ms))
            case StationsLost():
                for device in self._node.devices:
                    device.is_alive = device.has_ended = False
            case Missing():
                self._count_missing(event)
            case Failed(error):
                raise error
            case Opened() | Lost() | Answered() | Received() if event.link is self._link:
                self._handle_link(event)

    def _handle_link(self, event: LinkEvent) -> None:
        match event:
            case Opened(_, refused):
                for topic in refused:
                    _log.warning("the broker does not let the bridge listen on '%s': check its access rules", topic)
                if self._host is None:
                    self._give_birth()
            case Lost(_, problem):
                self._give_up_link(problem)
            case Answered(_, question) if question == self._question and self._hand is not None:
                self._hand.taken.set()
                self._hand = self._question = None
            case Received(_, topic, payload, is_retained):
                try:
                    if self._host is not None and topic == self._host.topic:
                        self._obey_host(self._host.read(payload))
                    elif not is_retained and self._is_born and _asks_for_rebirth(payload):
                        _log.info("the host asks for a rebirth")
                        self._give_birth()
                except MessageError as error:
                    _log.warning("unreadable message on '%s': %s", topic, error)

    def _connect(self) -> None:
        self._bdseq = self._numbers.take()
        topics = (self._node.command_topic, *([] if self._host is None else [self._host.topic]))
        try:
            self._link = Link(self._config, self._node.death(self._bdseq, self._now_ms()), topics, self._events.put)
        except ConnectionError as error:
            self._numbers.put_back(self._bdseq)
            self._give_up_link(str(error))

    def _give_up_link(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("Sparkplug: %s; tried again until it works", problem)
            self._problem = problem
        self._close_link()
        self._connect_at_s = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, self._config.reconnect_max_s)

    def _close_link(self) -> None:
        """With a death certificate after a birth; the number of the question means nothing on the next link."""
        link, self._link, self._question = self._link, None, None
        if link is not None:
            link.close(self._node.death(self._bdseq, self._now_ms()) if self._is_born else None)
        self._is_born = False

    def _obey_host(self, is_online: bool | None) -> None:
        if is_online and not self._is_born:
            self._give_birth()
        elif is_online is False and self._is_born:
            self._retry_s = _RETRY_FIRST_S
            self._give_up_link("the primary host application is offline")

    def _give_birth(self) -> None:
        self._publish(self._node.birth(self._bdseq, self._now_ms()))
        self._is_born = True
        self._tell_of_devices()
        self._retry_s = _RETRY_FIRST_S
        self._problem = ""
        _log.info("Sparkplug: born, bdSeq %d", self._bdseq)

    def _tell_of_devices(self) -> None:
        """Births of those that are there, deaths of those that are not."""
        for device in self._node.devices if self._is_born else ():
            if device.is_alive != device.is_born:
                make = self._node.device_birth if device.is_alive else self._node.device_death
                self._publish(make(device, self._now_ms()))

    def _send_data(self, device: Device, metrics: tuple[Metric, ...]) -> None:
        if self._is_born and device.is_born:
            self._publish(self._node.device_data(device, metrics, self._now_ms()))

    def _count_missing(self, missing: Missing) -> None:
        lost = missing.to_seq - missing.from_seq + 1
        _log.warning("%d verdicts of %s, boot %s, are missing", lost, missing.station, missing.boot_id)
        publication = self._node.count_missing(lost, self._now_ms())
        if self._is_born:
            self._publish(publication)

    def _pass_on(self) -> None:
        """Send the verdict in hand, and ask the broker to say when it has read it."""
        if self._hand is None or self._question is not None or not self._is_born or self._link is None:
            return
        verdict = self._hand.verdict
        device = self._node.device(verdict.station.path)
        # Verdicts of a station that has ended may still be on their way; data must lie between a birth and a death.
        device.is_alive = True
        self._tell_of_devices()
        self._send_data(device, device.report(verdict, self._now_ms(), 1000 * self._config.late_after_s))
        device.is_alive = not device.has_ended
        self._tell_of_devices()
        self._question = self._link.ask()

    def _publish(self, publication: Publication) -> None:
        assert self._link is not None
        self._link.publish(publication)


def _asks_for_rebirth(payload: bytes) -> bool:
    return any(metric.name == REBIRTH and metric.value is True for metric in decode(payload).metrics)
