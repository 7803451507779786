"""The service manager's notification protocol, sd_notify(3).

`watchdog` is called from the loop that makes verdicts and from nowhere else, so a station that hangs is restarted.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells systemd how the station fares; does nothing when systemd did not ask."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Take the socket's address from `NOTIFY_SOCKET`."""
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of Linux's abstract socket names.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self._last_status = ""

    def ready(self) -> None:
        """Start-up is finished."""
        self._send(f"READY=1\nMAINPID={os.getpid()}")

    def watchdog(self) -> None:
        """The loop made progress."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent only when it differs from the last one."""
        if text != self._last_status:
            self._last_status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """Shutting down; closes the socket."""
        self._send("STOPPING=1")
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is not None:
            self._socket.sendto(text.encode(), self._address)
