"""What becomes of verdicts when a station is killed again and again, and how soon it inspects afterwards.

    python benchmarks/kills.py [--kills 100] [--rate 20] [--seed 1]

Every other SIGKILL comes at a random moment; the rest come at the named points of a frame's life, one after the other.
Recovery is from the process's end to the first verdict on a part that is on disk, the start of Python included.
Writes benchmarks/results/kills.json. Exit status 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import time
from collections import Counter

from bench_rig import circumstances, keep, quantile, running_rig
from chaos.child import POINTS
from chaos.faults import crash_at
from chaos.rig import Rig


def kill_at_random(rig: Rig, source: random.Random) -> str:
    """Kill it up to a second after it judged something."""
    time.sleep(source.uniform(0.0, 1.0))
    rig.end(signal.SIGKILL)
    return "random moment"


def kill_at_point(rig: Rig, point: str, source: random.Random) -> str:
    """Let it die at a point; where it does not get there, kill it."""
    crash_at(point, source.randint(1, 12)).start(rig)
    if rig.run.ended is None:
        rig.end(signal.SIGKILL)
        return "random moment"
    return point


def main() -> int:
    """Kill, judge, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rate", type=float, default=20.0, help="triggers per second")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    source = random.Random(asked.seed)
    result: dict[str, object] = {
        "command": f"python benchmarks/kills.py --kills {asked.kills} --rate {asked.rate:g} --seed {asked.seed}",
        "seed": asked.seed,
        **circumstances(),
    }
    where: Counter[str] = Counter()
    recovery_s: list[float] = []
    with running_rig(1000 / asked.rate) as rig:
        for number in range(asked.kills):
            if number % 2:
                where[kill_at_point(rig, POINTS[number // 2 % len(POINTS)], source)] += 1
            else:
                where[kill_at_random(rig, source)] += 1
            ended_ns = rig.run.ended_ns
            rig.start()
            recovery_s.append((rig.await_judged(ended_ns) - ended_ns) / 1e9)
            if number % 10 == 9:
                print(f"{number + 1}/{asked.kills}", file=sys.stderr, flush=True)
        report = rig.finish()
    result |= {
        "kills": asked.kills,
        "where": dict(sorted(where.items())),
        "triggers": report.triggers,
        "verdicts": report.verdicts,
        "lost": report.lost,
        "repeated_deliveries": report.repeated,
        "open_when_killed_and_answered_by_the_next_boot": report.answered_later,
        "without_a_verdict": report.triggers - report.verdicts,
        "violations": report.violations,
        "recovery_s": {
            "median": round(statistics.median(recovery_s), 3),
            "p95": round(quantile(recovery_s, 0.95), 3),
            "max": round(max(recovery_s), 3),
        },
    }
    keep("kills.json", result)
    print(report)
    print(result["recovery_s"])
    return int(bool(report.violations))


if __name__ == "__main__":
    sys.exit(main())
