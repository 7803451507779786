"""What a demo run amounts to, from the messages that came out of the broker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TypedDict

import jsonschema
import numpy as np

from edge.messages import Verdict
from edge.mqtt.publisher import PublisherStats
from edge.observer import Inspection
from simulator.defects import DefectKind
from simulator.shopfloor import Received

STAGES = ("grab", "preprocess", "infer", "postprocess", "total")


class Percentiles(TypedDict):
    """Milliseconds."""

    p50: float
    p99: float


class KindCount(TypedDict):
    """Parts with one kind of defect."""

    injected: int
    found: int


class Summary(TypedDict):
    """The last line of `tfanet-edge demo --json`. Rates are shares of 1; None where nothing was there to measure."""

    triggers: int
    verdicts: dict[str, int]
    received: int
    published: int
    acknowledged: int
    pending: int
    seq_gap_free: bool
    schema_valid: int
    defects: KindCount
    defects_by_kind: dict[str, KindCount]
    good_parts: int
    false_rejects: int
    detection_rate: float | None
    false_reject_rate: float | None
    image_auroc: float | None
    latency_ms: dict[str, Percentiles]
    throughput_hz: float | None


def summarise(
    triggers: int,
    received: Sequence[Received],
    defects: Sequence[DefectKind | None],
    inspections: Sequence[Inspection],
    publisher: PublisherStats,
) -> Summary:
    """Count and measure.

    Args:
        triggers: fired.
        received: what the consumer got, in its order.
        defects: what was wrong with each image of the camera.
        inspections: the station's own record, for the time to durability.
        publisher: after the last acknowledgement.
    """
    verdicts = [Verdict.model_validate_json(message.payload) for message in received]
    judged = [
        (verdict, defects[message.image_index])
        for verdict, message in zip(verdicts, received, strict=True)
        if message.image_index is not None and verdict.verdict in ("OK", "NG")
    ]
    bad = [verdict for verdict, truth in judged if truth is not None]
    good = [verdict for verdict, truth in judged if truth is None]
    found, rejected = _count_ng(bad), _count_ng(good)
    return {
        "triggers": triggers,
        "verdicts": {kind: sum(v.verdict == kind for v in verdicts) for kind in ("OK", "NG", "INVALID", "TIMEOUT")},
        "received": len(received),
        "published": publisher.published,
        "acknowledged": publisher.acknowledged,
        "pending": publisher.pending,
        "seq_gap_free": [verdict.seq for verdict in verdicts] == list(range(triggers)),
        "schema_valid": count_valid([message.payload for message in received]),
        "defects": {"injected": len(bad), "found": found},
        "defects_by_kind": {
            kind.value: {
                "injected": sum(truth is kind for _, truth in judged),
                "found": _count_ng([verdict for verdict, truth in judged if truth is kind]),
            }
            for kind in DefectKind
        },
        "good_parts": len(good),
        "false_rejects": rejected,
        "detection_rate": found / len(bad) if bad else None,
        "false_reject_rate": rejected / len(good) if good else None,
        "image_auroc": auroc(_scores(good), _scores(bad)),
        "latency_ms": _latencies(verdicts, inspections),
        "throughput_hz": _throughput_hz(received),
    }


def auroc(good: Sequence[float], bad: Sequence[float]) -> float | None:
    """Share of (good, bad) pairs that the score puts in order, ties half (Mann-Whitney U); None without pairs."""
    if not good or not bad:
        return None
    ordered = np.sort(np.asarray(good))
    below, not_above = np.searchsorted(ordered, bad, "left"), np.searchsorted(ordered, bad, "right")
    return float((below + not_above).mean() / 2 / len(good))


def count_valid(payloads: Sequence[bytes]) -> int:
    """Messages that the published JSON Schema of the verdict accepts."""
    schema = json.loads(files("edge").joinpath("schemas/verdict.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    return sum(validator.is_valid(json.loads(payload)) for payload in payloads)


def _count_ng(verdicts: Sequence[Verdict]) -> int:
    return sum(verdict.verdict == "NG" for verdict in verdicts)


def _scores(verdicts: Sequence[Verdict]) -> list[float]:
    return [verdict.score.image for verdict in verdicts if verdict.score is not None]


def _latencies(verdicts: Sequence[Verdict], inspections: Sequence[Inspection]) -> dict[str, Percentiles]:
    samples = {stage: [getattr(verdict.timing_ms, stage) for verdict in verdicts] for stage in STAGES}
    samples["durable"] = [inspection.durable_ms for inspection in inspections]
    found = {}
    for stage, values in samples.items():
        known = [value for value in values if value is not None]
        if known:
            p50, p99 = np.percentile(known, [50, 99])
            found[stage] = Percentiles(p50=round(float(p50), 3), p99=round(float(p99), 3))
    return found


def _throughput_hz(received: Sequence[Received]) -> float | None:
    if len(received) < 2:
        return None
    span_s = (received[-1].received_monotonic_ns - received[0].received_monotonic_ns) / 1e9
    return round((len(received) - 1) / span_s, 2) if span_s else None
