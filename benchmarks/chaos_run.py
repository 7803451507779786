"""A station under random faults, then a soak without any; what was lost, repeated and reordered, and what grew.

    python benchmarks/chaos_run.py [--seconds 3600] [--soak 600] [--rate 20] [--seed N] [--longest 8]

Writes benchmarks/results/chaos.json, soak.json and soak.png; 0 seconds of either leaves it out. Exit status 1 when a
promise was broken.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
from bench_rig import RESULTS, circumstances, keep, quantile, running_rig
from chaos.checker import Report
from chaos.faults import Endured, inflict
from chaos.rig import Rig

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_SAMPLE_S = 1.0


def chaos(seconds: float, rate_hz: float, seed: int, longest_s: float) -> tuple[Endured, Report]:
    """Inflict faults for so long, then judge."""
    with running_rig(1000 / rate_hz) as rig:
        endured = inflict(rig, seed, seconds, longest_s, lambda said: print(said, file=sys.stderr, flush=True))
        return endured, rig.finish()


def soak(seconds: float, rate_hz: float) -> tuple[dict[str, list[float]], Report]:
    """Resident memory of station and grabber, open files and time to durability, once a second without faults."""
    samples: dict[str, list[float]] = {name: [] for name in ("at_s", "rss_mib", "grabber_rss_mib", "files", "ms")}
    with running_rig(1000 / rate_hz) as rig:
        begin_s = time.monotonic()
        while time.monotonic() < begin_s + seconds:
            seen = len(rig.run.latencies_ns)
            time.sleep(_SAMPLE_S)
            rig.supervise()
            fresh = [ns / 1e6 for _, ns in rig.run.latencies_ns[seen:]]
            for name, value in _sample(rig, fresh).items():
                samples[name].append(value)
            samples["at_s"].append(time.monotonic() - begin_s)
        return samples, rig.finish()


def _sample(rig: Rig, latencies_ms: list[float]) -> dict[str, float]:
    pid = rig.run.process.pid
    return {
        "rss_mib": _resident_mib(pid),
        "grabber_rss_mib": sum(map(_resident_mib, rig.run.children())),
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "ms": statistics.median(latencies_ms) if latencies_ms else float("nan"),
    }


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def slopes_per_hour(samples: dict[str, list[float]]) -> dict[str, float]:
    """Least squares over all but the first tenth, which warms up."""
    first = len(samples["at_s"]) // 10
    hours = np.array(samples["at_s"][first:]) / 3600
    found = {}
    for name, values in samples.items():
        if name != "at_s":
            kept = np.array(values[first:])
            known = np.isfinite(kept)
            found[name] = round(float(np.polyfit(hours[known], kept[known], 1)[0]), 3)
    return found


def plot(samples: dict[str, list[float]], path: Path) -> None:
    """One axis per quantity over the time of the soak."""
    labels = {
        "rss_mib": "station, MiB",
        "grabber_rss_mib": "grabber, MiB",
        "files": "open files",
        "ms": "trigger to durable, ms",
    }
    figure, axes = plt.subplots(len(labels), 1, sharex=True, figsize=(7, 7), layout="constrained")
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        axis.plot(samples["at_s"], samples[name], linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.1 * np.nanmax(samples[name]))
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=100)


def told(report: Report) -> dict[str, object]:
    """A report for a JSON file."""
    return {
        "boots": report.boots,
        "triggers": report.triggers,
        "verdicts": report.verdicts,
        "by_kind": dict(sorted(report.by_kind.items())),
        "compared_with_the_part": report.compared,
        "lost": report.lost,
        "repeated_deliveries": report.repeated,
        "delivered_as_backlog": report.late,
        "open_when_killed_and_answered_by_the_next_boot": report.answered_later,
        "without_a_verdict": report.triggers - report.verdicts,
        "violations": report.violations,
    }


def main() -> int:
    """Both parts, figures, a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--soak", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=20.0, help="triggers per second")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--longest", type=float, default=8.0, help="seconds that a fault lasts at most")
    asked = parser.parse_args()
    command = (
        f"python benchmarks/chaos_run.py --seconds {asked.seconds:g} --soak {asked.soak:g} --rate {asked.rate:g} "
        f"--seed {asked.seed} --longest {asked.longest:g}"
    )
    print(command, file=sys.stderr)
    begun: dict[str, object] = {"command": command, "seed": asked.seed, **circumstances()}
    kept = True
    if asked.seconds:
        kept &= _endure(asked.seconds, asked.rate, asked.seed, asked.longest, begun)
    if asked.soak:
        kept &= _soak(asked.soak, asked.rate, begun)
    return int(not kept)


def _endure(seconds: float, rate_hz: float, seed: int, longest_s: float, begun: dict[str, object]) -> bool:
    """Faults, figures; whether every promise was kept."""
    endured, report = chaos(seconds, rate_hz, seed, longest_s)
    recoveries = [seconds for times in endured.recovery_s.values() for seconds in times]
    figures = {
        "seconds": seconds,
        **told(report),
        "faults": dict(sorted(endured.counts.items())),
        "seconds_from_a_faults_end_to_the_next_judged_part": {
            "median": round(statistics.median(recoveries), 3),
            "max": round(max(recoveries), 3),
        },
    }
    print(report)
    keep("chaos.json", {**begun, "chaos": figures})
    return not report.violations


def _soak(seconds: float, rate_hz: float, begun: dict[str, object]) -> bool:
    """No faults, figures, a plot; whether every promise was kept."""
    samples, report = soak(seconds, rate_hz)
    figures = {
        "seconds": seconds,
        **told(report),
        "median_ms": round(float(np.nanmedian(samples["ms"])), 2),
        "p99_ms_of_medians_of_a_second": round(quantile([ms for ms in samples["ms"] if np.isfinite(ms)], 0.99), 2),
        "rss_mib": {"first": round(samples["rss_mib"][0], 1), "last": round(samples["rss_mib"][-1], 1)},
        "files": {"first": samples["files"][0], "last": samples["files"][-1]},
        "slope_per_hour": slopes_per_hour(samples),
    }
    plot(samples, RESULTS / "soak.png")
    print(figures)
    keep("soak.json", {**begun, "soak": figures})
    return not report.violations


if __name__ == "__main__":
    sys.exit(main())
