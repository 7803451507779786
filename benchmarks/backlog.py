"""How fast a backlog drains, and what it costs the verdicts that are made meanwhile.

    python benchmarks/backlog.py [--rows 100000] [--live-hz 20] [--idle-s 20]

One process appends live verdicts at a steady rate and delivers them, as a station does; Mosquitto and a subscriber run
in two others, on the same machine. Three phases: idle, a backlog that drains, idle again. A verdict's time starts
before it is appended; it is durable when the append returns, and delivered when the subscriber has it. Then a damaged
outbox of as many rows is mended. Writes benchmarks/results/backlog.json.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from ulid import ULID

from edge.config import Identity, MqttConfig, OutboxConfig
from edge.messages import CameraShot, Defect, Mask, Model, Quality, Recipe, ResultState, Score, Station, Timing, Verdict
from edge.mqtt.publisher import Publisher
from edge.outbox import Message, Outbox
from edge.wire import Topics, utc_text

RESULT = Path(__file__).parent / "results" / "backlog.json"
IDENTITY = Identity(site="bench", area="bench", line="bench", station="bench")
FILL_ROWS = 500

# Says when each live verdict came; backlog verdicts are counted only.
SUBSCRIBER = """
import json, sys, time
import paho.mqtt.client as mqtt
port, topic, live = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
came, others = {}, 0
def on_message(client, data, message):
    global others
    if live in message.payload:
        now_ns = time.monotonic_ns()
        came.setdefault(json.loads(message.payload)["seq"], now_ns)
    elif message.topic == topic:
        others += 1
    else:
        client.disconnect()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_message = on_message
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_connect = lambda client, *_: client.subscribe([(topic, 1), ("bench/end", 1)])
client.connect("127.0.0.1", port)
client.loop_forever()
print(json.dumps({"came": came, "others": others}))
"""


def verdict(boot_id: str, seq: int) -> Verdict:
    """One of ordinary size."""
    return Verdict(
        result_id=str(ULID()),
        boot_id=boot_id,
        seq=seq,
        ts=utc_text(time.time_ns()),
        station=Station(site="bench", area="bench", line="bench", station="bench"),
        camera=CameraShot(serial="SIM-1", frame_id=seq, exposure_us=800.0),
        recipe=Recipe(id="flange", version="3"),
        model=Model(name="flange", version="3", precision="fp32", engine_sha256="0" * 64),
        result_state=ResultState.COMPLETED,
        is_simulated=True,
        verdict="NG",
        score=Score(image=0.71, threshold=0.5, calibrated_fpr=0.01),
        defects=(Defect(id=0, bbox=(3, 4, 2, 2), area_px=4, area_frac=4 / 65536, score_max=0.9, centroid=(3.5, 4.5)),),
        defects_total=1,
        mask=Mask(encoding="coco_rle", size=(256, 256), to_image=(5, 0, 2, 0, 5, 2), counts="Te02Pn1"),
        timing_ms=Timing(infer=41.2, total=60.25),
        quality=Quality(incomplete=False, brightness=99.5),
    )


def message(topics: Topics, boot_id: str, seq: int) -> Message:
    """A verdict as the outbox takes it."""
    return Message(topics.verdict, verdict(boot_id, seq).encode(), 1, False, "verdict", boot_id, seq)


class LiveLine:
    """Appends verdicts at a steady rate and notes when each began and when it was durable."""

    def __init__(self, outbox: Outbox, topics: Topics, boot_id: str, rate_hz: float) -> None:
        self._outbox = outbox
        self._topics = topics
        self._boot_id = boot_id
        self._interval_s = 1 / rate_hz
        self.began_ns: list[int] = []
        self.durable_ms: list[float] = []

    def run(self, until: Callable[[], bool]) -> range:
        """Verdicts appended until `until` says so, as their sequence numbers."""
        first = len(self.began_ns)
        next_s = time.monotonic()
        while not until():
            next_s += self._interval_s
            time.sleep(max(0.0, next_s - time.monotonic()))
            made = message(self._topics, self._boot_id, len(self.began_ns))
            began_ns = time.monotonic_ns()
            self._outbox.append_many([made])
            self.durable_ms.append((time.monotonic_ns() - began_ns) / 1e6)
            self.began_ns.append(began_ns)
        return range(first, len(self.began_ns))


def after(seconds: float) -> Callable[[], bool]:
    """True once so much time is over."""
    end_s = time.monotonic() + seconds
    return lambda: time.monotonic() >= end_s


@contextmanager
def broker(directory: Path) -> Iterator[int]:
    """Mosquitto on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = directory / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nuser {getpass.getuser()}\nallow_anonymous true\nmax_queued_messages 0\n",
        encoding="utf-8",
    )
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        sys.exit("backlog.py: needs the program mosquitto")
    process = subprocess.Popen([binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def measure(directory: Path, rows: int, live_hz: float, idle_s: float, settings: OutboxConfig) -> dict[str, object]:
    """The three phases."""
    topics = Topics(IDENTITY)
    live_boot, old_boot = str(ULID()), str(ULID())
    outbox = Outbox(
        directory / "outbox.sqlite", rows + 10_000, max_bytes=10**10, delivered_rows=settings.delivered_rows
    )
    with closing(outbox), broker(directory) as port:
        arguments = [sys.executable, "-c", SUBSCRIBER, str(port), topics.verdict, live_boot]
        subscriber = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert subscriber.stdout is not None
        assert subscriber.stdout.readline() == "ready\n"
        line = LiveLine(outbox, topics, live_boot, live_hz)

        def deliverer() -> Publisher:
            config = MqttConfig(port=port, publish_last=False)
            made = Publisher(
                config, topics, outbox, boot_id=live_boot, version="0", backlog_per_s=settings.backlog_per_s
            )
            made.start()
            return made

        publisher = deliverer()
        line.run(after(2.0))  # warm-up
        idle = [line.run(after(idle_s))]
        publisher.stop()
        for first in range(0, rows, FILL_ROWS):
            outbox.append_many([message(topics, old_boot, seq) for seq in range(first, min(rows, first + FILL_ROWS))])
        started_s = time.monotonic()
        publisher = deliverer()
        drain = line.run(lambda: outbox.count() < FILL_ROWS // 5)
        drained_s = time.monotonic() - started_s
        idle.append(line.run(after(idle_s)))
        while outbox.count():
            time.sleep(0.01)
        publisher.answer("bench/end", "event", b"{}")
        publisher.stop()
        told = json.loads(subscriber.communicate(timeout=60)[0])
    came = {int(seq): moment_ns for seq, moment_ns in told["came"].items()}

    def figures(seqs: list[int]) -> dict[str, object]:
        delivered_ms = [(came[seq] - line.began_ns[seq]) / 1e6 for seq in seqs]
        return {
            "verdicts": len(seqs),
            "durable_ms": percentiles([line.durable_ms[seq] for seq in seqs]),
            "delivered_ms": percentiles(delivered_ms),
        }

    quiet, busy = figures([*idle[0], *idle[1]]), figures([*drain])
    return {
        "backlog_rows": rows,
        "drain_s": drained_s,
        "drain_rows_per_s": rows / drained_s,
        "backlog_rows_received": told["others"],
        "idle": quiet,
        "idle_before": figures([*idle[0]]),
        "idle_after": figures([*idle[1]]),
        "draining": busy,
        "delivered_p99_ratio": busy["delivered_ms"]["p99"] / quiet["delivered_ms"]["p99"],
        "durable_p99_ratio": busy["durable_ms"]["p99"] / quiet["durable_ms"]["p99"],
    }


def mend_s(directory: Path, rows: int) -> float:
    """How long an outbox takes to find one flipped bit, save every other row into a new file, and go on."""
    topics, boot_id = Topics(IDENTITY), str(ULID())
    path = directory / f"mend-{rows}.sqlite"
    with closing(Outbox(path, rows)) as outbox:
        for first in range(0, rows, FILL_ROWS):
            outbox.append_many([message(topics, boot_id, seq) for seq in range(first, min(rows, first + FILL_ROWS))])
    content = bytearray(path.read_bytes())
    content[content.index(b'"seq":7,')] ^= 1
    path.write_bytes(content)
    with closing(Outbox(path, rows)) as outbox:
        started_s = time.monotonic()
        outbox.pending(20)
        took_s = time.monotonic() - started_s
        assert outbox.count() == rows - 1
    return took_s


def percentiles(values: list[float]) -> dict[str, float]:
    """Median, p99 and maximum."""
    p50, p99, largest = np.percentile(values, [50, 99, 100])
    return {"p50": float(p50), "p99": float(p99), "max": float(largest)}


def main() -> int:
    """Measure and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--live-hz", type=float, default=20.0)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    settings = OutboxConfig()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as directory:
        figures = measure(Path(directory), arguments.rows, arguments.live_hz, arguments.idle_s, settings)
        figures["mend_s"] = {str(rows): mend_s(Path(directory), rows) for rows in (1000, arguments.rows)}
    result = {
        "command": f"python benchmarks/backlog.py --rows {arguments.rows} --live-hz {arguments.live_hz:g}"
        f" --idle-s {arguments.idle_s:g}",
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "load_1min_before": load,
            "load_1min_after": os.getloadavg()[0],
        },
        "settings": settings.model_dump(include={"backlog_per_s", "delivered_rows"}),
        **figures,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
