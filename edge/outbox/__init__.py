"""Where messages wait, on disk, until the broker has acknowledged them."""

from edge.outbox.queue import Outbox
from edge.outbox.rows import Delivered, Gap, Kind, Message, Row

__all__ = ["Delivered", "Gap", "Kind", "Message", "Outbox", "Row"]
