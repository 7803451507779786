"""A TCP proxy between a station and its broker that does to them whatever a network can do."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

_CHUNK_BYTES = 4096
_GOOD_CONNACK = b"\x20"
SERVER_UNAVAILABLE = b"\x20\x02\x00\x03"


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network is.

    Attributes:
        reachable: False resets every connection as soon as it is opened.
        answer: sent instead of the broker's answer to the first packet; then the connection is closed.
        hold_requests: what the station says stays in the network until it clears up.
        hold_answers: the same for what the broker says.
        delay_s: of every chunk of at most 4096 bytes, each way.
        bytes_per_s: bandwidth each way; None for no limit.
    """

    reachable: bool = True
    answer: bytes | None = None
    hold_requests: bool = False
    hold_answers: bool = False
    delay_s: float = 0.0
    bytes_per_s: float | None = None


FAIR = Weather()
BLACK_HOLE = Weather(hold_requests=True, hold_answers=True)


@dataclass(eq=False, slots=True)
class _Connection:
    station: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    is_half_open: bool = False


class FaultProxy:
    """Listens on a free port of this machine and passes everything on to another.

    Attributes:
        port: where it listens.
        sessions_ns: when the broker's consent to each connection was passed on, on `time.monotonic_ns()`.
    """

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._weather = FAIR
        self._connections: set[_Connection] = set()
        self.sessions_ns: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set(self, weather: Weather) -> None:
        """From now on the network is like this, for connections that stand as well."""
        self._do(lambda: self._apply(weather))

    def cut(self) -> None:
        """Reset every connection, towards both ends."""
        self._do(self._cut)

    def half_open(self) -> None:
        """End every connection towards the broker; the station is not told, and speaks to nobody."""
        self._do(self._half_open)

    def close(self) -> None:
        """End everything."""

        async def end() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, action: Callable[[], object]) -> None:
        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _apply(self, weather: Weather) -> None:
        self._weather = weather
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _cut(self) -> None:
        for link in self._connections:
            _abort(link.station)
            _abort(link.broker)

    def _half_open(self) -> None:
        for link in self._connections:
            link.is_half_open = True
            _abort(link.broker)

    async def _serve(self, heard: asyncio.StreamReader, station: asyncio.StreamWriter) -> None:
        try:
            if not self._weather.reachable:
                _abort(station)
                return
            first = await heard.read(_CHUNK_BYTES)
            if self._weather.answer is not None:
                station.write(self._weather.answer)
                await station.drain()
                return
            while self._weather.hold_requests:
                await self._changed.wait()
            if await _has_ended(heard):
                return  # a handshake that was given up never reaches the broker
            await self._join(first, heard, station)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            station.close()

    async def _join(self, first: bytes, heard: asyncio.StreamReader, station: asyncio.StreamWriter) -> None:
        answers, broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        link = _Connection(station, broker)
        self._connections.add(link)
        ways = [
            asyncio.create_task(self._carry(first, heard, broker, lambda: self._weather.hold_requests)),
            asyncio.create_task(self._carry(b"", answers, station, lambda: self._weather.hold_answers)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            while link.is_half_open and await heard.read(_CHUNK_BYTES):
                pass
        finally:
            self._connections.discard(link)
            for way in ways:
                way.cancel()
            broker.close()

    async def _carry(
        self, data: bytes, source: asyncio.StreamReader, sink: asyncio.StreamWriter, held: Callable[[], bool]
    ) -> None:
        is_first = not data
        data = data or await source.read(_CHUNK_BYTES)
        while data:
            while held():
                await self._changed.wait()
            weather = self._weather
            pause_s = weather.delay_s + (len(data) / weather.bytes_per_s if weather.bytes_per_s else 0.0)
            if pause_s:
                await asyncio.sleep(pause_s)
            if is_first and data.startswith(_GOOD_CONNACK) and data[3] == 0:
                self.sessions_ns.append(time.monotonic_ns())
            sink.write(data)
            await sink.drain()
            is_first = False
            data = await source.read(_CHUNK_BYTES)


def _abort(end: asyncio.StreamWriter) -> None:
    if end.transport.is_closing():
        return
    # Without lingering, the other end gets a reset and not an orderly end.
    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()


async def _has_ended(heard: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(heard.readexactly(1), 0.005)
    except asyncio.TimeoutError:
        return False
    except asyncio.IncompleteReadError:
        return True
    raise ConnectionError("more than CONNECT before its answer")
