"""An MQTT 3.1.1 broker for demonstrations: amqtt in a child process, on this machine only.

    with embedded_broker() as (host, port):
        ...

The child ends with the context, and by itself when the parent dies: its standard input is a pipe from the parent.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge.errors import DeliveryError

HOST = "127.0.0.1"

_ATTEMPTS = 5
_SHUTDOWN_S = 5.0


@contextmanager
def embedded_broker() -> Iterator[tuple[str, int]]:
    """Run a broker on a free port; yields host and port once it accepts connections.

    Raises:
        DeliveryError: it did not start; what it wrote to standard error tells why.
    """
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "simulator.broker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        ready = child.stdout.readline()
        if not ready:
            raise DeliveryError("the embedded broker did not start", "install tfanet-edge with the extra 'demo'")
        yield HOST, int(ready)
    finally:
        child.stdin.close()
        try:
            child.wait(_SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


class _ParentWatch(asyncio.Protocol):
    """Sets an event when the parent has closed the pipe or died."""

    def __init__(self, gone: asyncio.Event) -> None:
        self._gone = gone

    def connection_lost(self, _error: Exception | None) -> None:
        self._gone.set()


async def _serve() -> None:
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig, ListenerConfig
    from amqtt.errors import BrokerError

    parent_gone = asyncio.Event()
    await asyncio.get_running_loop().connect_read_pipe(lambda: _ParentWatch(parent_gone), sys.stdin)
    for attempt in range(_ATTEMPTS):
        port = _free_port()
        broker = Broker(
            BrokerConfig(
                listeners={"default": ListenerConfig(bind=f"{HOST}:{port}")},
                plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            )
        )
        try:
            await broker.start()
            break
        except BrokerError:  # somebody took the port in between
            if attempt == _ATTEMPTS - 1:
                raise
    print(port, flush=True)
    await parent_gone.wait()
    await broker.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve())
