"""Prints every verdict and every event of the stations at a broker, one line each. Needs paho-mqtt only.

python examples/print_verdicts.py 192.168.1.10
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import sys

from edge.consumer import BadMessage, Broker, Consumer, Event, Missing, Ordering, Verdict


def main() -> None:
    """Until Ctrl-C."""
    options = read_options()
    tls = ssl.create_default_context(cafile=options.ca) if options.ca else None
    if tls and options.cert:
        tls.load_cert_chain(options.cert, options.key)
    broker = Broker(
        options.host,
        options.client_id,
        options.port,
        username=options.username,
        password=os.environ.get("MQTT_PASSWORD"),
        tls=tls,
    )
    # A person wants to see a verdict at once; whoever counts parts leaves `hold` as it is.
    with Consumer(
        broker,
        options.stations,
        ordering=Ordering(hold=False),
        on_missing=tell_missing,
        on_bad=tell_bad,
        on_notice=tell,
        on_event=lambda event: print(event_line(event), flush=True),
    ) as consumer:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: consumer.stop())
        for verdict in consumer:
            print(line(verdict), flush=True)


def line(verdict: Verdict) -> str:
    """What a person reads: time, station, number, verdict, score or reason, defects."""
    why = verdict.reason or (f"{verdict.score.image:.3f}" if verdict.score else "")
    spots = f"{verdict.defects_total} defects" if verdict.defects_total else ""
    return f"{verdict.ts:%H:%M:%S} {verdict.station.path} {verdict.seq} {verdict.verdict} {why} {spots}".rstrip()


def event_line(event: Event) -> str:
    """Time, station, kind, and what the event says of it."""
    often = f" ({event.count} times)" if event.count > 1 else ""
    facts = " ".join(f"{name}={json.dumps(fact, ensure_ascii=False)}" for name, fact in event.facts.items())
    return f"{event.ts:%H:%M:%S} {event.station} event {event.kind}{often} {facts}"


def tell(text: str) -> None:
    """What becomes of the connection."""
    print(text, file=sys.stderr, flush=True)


def tell_missing(missing: Missing) -> None:
    """Verdicts that never came."""
    tell(f"missing: {missing.from_seq} to {missing.to_seq} of {missing.station}, boot {missing.boot_id}")


def tell_bad(bad: BadMessage) -> None:
    """A message that is none."""
    tell(f"unreadable message on {bad.source}: {bad.problem}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Print every verdict; the password is read from MQTT_PASSWORD.")
    parser.add_argument("host", help="the broker")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--client-id", default="print-verdicts", help="one per receiver: names its session")
    parser.add_argument("--stations", default="+/+/+/+", help="site/area/line/station, + for any (default: all)")
    parser.add_argument("--username")
    parser.add_argument("--ca", help="TLS: certificate of the authority that signed the broker's")
    parser.add_argument("--cert", help="TLS: this receiver's certificate")
    parser.add_argument("--key", help="TLS: its key")
    return parser.parse_args()


if __name__ == "__main__":
    main()
