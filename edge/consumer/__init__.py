"""Receiving verdicts: the standard library and paho-mqtt, nothing else of the project's dependencies.

for verdict in Consumer(Broker("192.168.1.10", client_id="line-host")): … — see docs/consumer.md.
"""

from edge.consumer.bitmap import Bitmap, decode_rle
from edge.consumer.consumer import Consumer
from edge.consumer.events import Event, parse_event
from edge.consumer.order import Missing, Ordering, Position, positions_after
from edge.consumer.parsing import parse_verdict
from edge.consumer.png import decode_png, encode_png
from edge.consumer.reception import BadMessage, Counts
from edge.consumer.session import Broker
from edge.consumer.verdict import (
    Camera,
    Defect,
    Evidence,
    Mask,
    Model,
    Outcome,
    Part,
    Quality,
    Recipe,
    Score,
    Station,
    Timing,
    Verdict,
)
from edge.errors import MessageError

__all__ = [
    "BadMessage",
    "Bitmap",
    "Broker",
    "Camera",
    "Consumer",
    "Counts",
    "Defect",
    "Event",
    "Evidence",
    "Mask",
    "MessageError",
    "Missing",
    "Model",
    "Ordering",
    "Outcome",
    "Part",
    "Position",
    "Quality",
    "Recipe",
    "Score",
    "Station",
    "Timing",
    "Verdict",
    "decode_png",
    "decode_rle",
    "encode_png",
    "parse_event",
    "parse_verdict",
    "positions_after",
]
