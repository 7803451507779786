"""Ports of 127.0.0.1 for the servers that tests start, and start again."""

from __future__ import annotations

import itertools
import os
import socket

# Below those that the system gives to connections: one of them would take the port while its server is down. Processes
# that test beside each other begin at different ones.
_NEXT = itertools.count(os.getpid() * 97)


def free_port() -> int:
    """A port on which nothing listens, another one each time."""
    while True:
        port = 10_000 + next(_NEXT) % 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
