"""Sparkplug messages for a person: reads `topic payload-in-hexadecimal` lines, names what births have named.

mosquitto_sub -t 'spBv1.0/#' -F '%t %x' | python -m edge.sparkplug.decode
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from edge.errors import MessageError
from edge.sparkplug.payload import Metric, decode


def lines(messages: Iterable[str]) -> Iterator[str]:
    """One line of text for each message, and one for each of its metrics; aliases are named once their birth came."""
    names: dict[tuple[str, str, int | None], str] = {}
    for message in messages:
        # Ids may hold spaces; a payload in hexadecimal cannot.
        topic, _, payload = message.strip().rpartition(" ")
        _, group, _, node, *_ = *topic.split("/"), "", "", "", ""
        try:
            data = bytes.fromhex(payload)
            if group == "STATE":
                yield f"{topic} {data.decode('utf-8', 'replace')}"
                continue
            found = decode(data)
        except (ValueError, MessageError) as error:
            yield f"{topic or message.strip()}: {error}"
            continue
        number = "" if found.seq is None else f" seq={found.seq}"
        yield f"{topic}{number} {_time(found.timestamp_ms)}"
        for metric in found.metrics:
            key = group, node, metric.alias
            if metric.name is not None:
                names[key] = metric.name
            yield _line(metric, metric.name or names.get(key, f"alias {metric.alias}"))


def _line(metric: Metric, name: str) -> str:
    historical = " historical" if metric.is_historical else ""
    return f"  {name} = {metric.value!r}{historical} {_time(metric.timestamp_ms)}"


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return moment.isoformat(timespec="milliseconds")


if __name__ == "__main__":
    for text in lines(sys.stdin):
        print(text, flush=True)
