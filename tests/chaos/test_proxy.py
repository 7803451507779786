"""The proxy does to a connection what its name says, and to nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from chaos.proxy import BLACK_HOLE, FAIR, SERVER_UNAVAILABLE, FaultProxy, Weather

CONSENT = b"\x20\x02\x00\x00"


class Echo:
    """A broker that consents to each connection and repeats what it is told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ended = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.heard.append(connection.recv(4096))
                connection.sendall(CONSENT)
                while data := connection.recv(4096):
                    self.heard.append(data)
                    connection.sendall(data)
            except OSError:
                pass
        self.ended.set()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    broker = Echo()
    yield broker
    broker.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), 2) as connection:
        connection.sendall(b"CONNECT")
        assert connection.recv(100) == CONSENT
        yield connection


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(0.1)
    try:
        return connection.recv(1) == b"nothing"
    except TimeoutError:
        return True
    finally:
        connection.settimeout(2)


def test_in_fair_weather_everything_passes_and_the_session_is_noted(proxy, client):
    (session_ns,) = proxy.sessions_ns
    assert 0 <= time.monotonic_ns() - session_ns < 2e9
    client.sendall(b"verdict")
    assert client.recv(100) == b"verdict"


def test_a_cut_resets_both_ends(proxy, client, echo):
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.ended.wait(2)


def test_what_falls_into_a_black_hole_comes_out_when_it_closes(proxy, client, echo):
    proxy.set(BLACK_HOLE)
    client.sendall(b"verdict")
    assert is_silent(client)
    assert b"verdict" not in echo.heard
    proxy.set(FAIR)
    assert client.recv(100) == b"verdict"


def test_a_handshake_given_up_in_a_black_hole_never_reaches_the_broker(proxy, echo):
    proxy.set(BLACK_HOLE)
    with socket.create_connection(("127.0.0.1", proxy.port), 2) as connection:
        connection.sendall(b"CONNECT 1")
        assert is_silent(connection)
    proxy.set(FAIR)
    with socket.create_connection(("127.0.0.1", proxy.port), 2) as connection:
        connection.sendall(b"CONNECT 2")
        assert connection.recv(100) == CONSENT
    assert b"CONNECT 1" not in echo.heard


def test_held_answers_let_requests_pass(proxy, client, echo):
    proxy.set(Weather(hold_answers=True))
    client.sendall(b"verdict")
    assert is_silent(client)
    assert echo.heard[-1] == b"verdict"


def test_a_half_open_connection_ends_at_the_broker_alone(proxy, client, echo):
    proxy.half_open()
    assert echo.ended.wait(2)
    client.sendall(b"verdict")
    assert is_silent(client)
    assert echo.heard[-1] == b"CONNECT"


def test_delay_and_bandwidth_take_their_time(proxy, client):
    for weather, at_least_s in ((Weather(delay_s=0.05), 0.1), (Weather(bytes_per_s=20_000), 0.1)):
        proxy.set(weather)
        started_s = time.monotonic()
        client.sendall(bytes(1000))
        received = 0
        while received < 1000:
            received += len(client.recv(1000))
        assert at_least_s <= time.monotonic() - started_s < 2


def test_a_refusal_is_answered_in_the_brokers_place(proxy, echo):
    proxy.set(Weather(answer=SERVER_UNAVAILABLE))
    with socket.create_connection(("127.0.0.1", proxy.port), 2) as connection:
        connection.sendall(b"CONNECT")
        assert connection.recv(100) == SERVER_UNAVAILABLE
        assert connection.recv(100) == b""
    assert echo.heard == []
    assert proxy.sessions_ns == []


def test_an_unreachable_broker_resets_at_once(proxy, echo):
    proxy.set(Weather(reachable=False))
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", proxy.port), 2) as connection:
        connection.sendall(b"CONNECT")
        assert connection.recv(1) == b""
    assert echo.heard == []
