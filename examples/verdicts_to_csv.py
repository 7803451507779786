"""Keeps verdicts in a CSV file and their masks as PNG files; goes on where it stopped. Needs paho-mqtt only.

python examples/verdicts_to_csv.py 192.168.1.10 verdicts.csv --masks masks
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import signal
import sys
from pathlib import Path

from edge.consumer import Bitmap, Broker, Consumer, Position, Verdict, encode_png, positions_after

COLUMNS = (
    "station",
    "boot_id",
    "seq",
    "result_id",
    "ts",
    "part_id",
    "lot",
    "verdict",
    "reason",
    "score",
    "threshold",
    "defects",
    "defect_area_px",
    "camera_x_px",
    "camera_y_px",
)


def main() -> None:
    """Until Ctrl-C. A row is written before its message is acknowledged."""
    parser = argparse.ArgumentParser(description="Verdicts into a CSV file.")
    parser.add_argument("host", help="the broker")
    parser.add_argument("file", type=Path, help="the CSV file; continued when it exists")
    parser.add_argument("--masks", type=Path, help="directory for the masks, named by result_id")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--client-id", default="verdicts-to-csv", help="one per receiver: names its session")
    options = parser.parse_args()
    if options.masks:
        options.masks.mkdir(parents=True, exist_ok=True)

    def save_mask(verdict: Verdict, mask: Bitmap) -> None:
        (options.masks / f"{verdict.result_id}.png").write_bytes(encode_png(mask))

    resume = earlier(options.file)
    with (
        options.file.open("a", newline="", encoding="utf-8") as file,
        Consumer(
            Broker(options.host, options.client_id, options.port),
            resume=resume,
            on_missing=lambda missing: print(f"missing: {missing}", file=sys.stderr, flush=True),
            on_bad=lambda bad: print(f"unreadable: {bad.source}: {bad.problem}", file=sys.stderr, flush=True),
            on_notice=lambda text: print(text, file=sys.stderr, flush=True),
            on_mask=save_mask if options.masks else None,
            on_event=lambda event: print(event, file=sys.stderr, flush=True),
        ) as consumer,
    ):
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: consumer.stop())
        writer = csv.writer(file)
        if not file.tell():
            writer.writerow(COLUMNS)
        for verdict in consumer:
            writer.writerow(row(verdict))
            file.flush()


def row(verdict: Verdict) -> list[object]:
    """One line of the file; the place is that of the defect with the highest score, in the camera's image."""
    score = verdict.score
    x_px = y_px = None
    if verdict.defects and verdict.mask:
        worst = max(verdict.defects, key=lambda defect: defect.score_max)
        x_px, y_px = verdict.mask.in_image(*worst.centroid)
    return [
        verdict.station.path,
        verdict.boot_id,
        verdict.seq,
        verdict.result_id,
        verdict.ts.isoformat(),
        verdict.part.part_id,
        verdict.part.lot,
        verdict.verdict,
        verdict.reason,
        score.image if score else None,
        score.threshold if score else None,
        verdict.defects_total,
        sum(defect.area_px for defect in verdict.defects),
        x_px,
        y_px,
    ]


def earlier(path: Path) -> list[Position]:
    """Where the file ends. A line that was cut short is removed, and its verdict comes again."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    rows = csv.DictReader(io.StringIO(whole.decode("utf-8"), newline=""))
    return positions_after((kept["station"], kept["boot_id"], int(kept["seq"])) for kept in rows)


if __name__ == "__main__":
    main()
