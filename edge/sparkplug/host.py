"""Whether the primary host application is online, by its STATE messages; they never go back in time."""

from __future__ import annotations

import json

from edge.consumer.fields import Fields, flag, integer
from edge.errors import MessageError
from edge.sparkplug.node import NAMESPACE


class PrimaryHost:
    """The host application that births wait for."""

    def __init__(self, host_id: str) -> None:
        """Not heard yet; `host_id` is its name."""
        self.topic = f"{NAMESPACE}/STATE/{host_id}"
        self._newest_ms = 0

    def read(self, payload: bytes) -> bool | None:
        """Whether it is online; None for a message older than one that was read before.

        Raises:
            MessageError: this is no STATE message.
        """
        try:
            found = Fields(json.loads(payload), "")
        except (ValueError, RecursionError) as error:
            raise MessageError("the message is not JSON") from error
        is_online, at_ms = found.take("online", flag), found.take("timestamp", integer())
        if at_ms < self._newest_ms:
            return None
        self._newest_ms = at_ms
        return is_online
