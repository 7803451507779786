"""How long a verdict takes from its trigger to the disk while the broker is up, down, or answers nothing.

    python benchmarks/durability.py [--rounds 6] [--phase 8] [--rate 50] [--seed 1]

One station runs through all of it; each round takes the three conditions in a random order, so that a drift of the
machine's speed meets all of them. Between conditions the backlog is delivered. Writes
benchmarks/results/durability.json.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable

from bench_rig import circumstances, keep, quantile, running_rig
from chaos.broker import until
from chaos.proxy import BLACK_HOLE, FAIR
from chaos.rig import Rig

_SETTLE_S = 1.0


def _restart(rig: Rig) -> None:
    rig.broker.start()
    until(rig.consumer.subscribed.is_set, "consumer at the broker")


CONDITIONS: dict[str, tuple[Callable[[Rig], object], Callable[[Rig], object]]] = {
    "up": (lambda _: None, lambda _: None),
    "down": (lambda rig: rig.broker.end(signal.SIGTERM), _restart),
    "black_hole": (lambda rig: rig.proxy.set(BLACK_HOLE), lambda rig: rig.proxy.set(FAIR)),
}


def measure(rounds: int, phase_s: float, rate_hz: float, seed: int) -> dict[str, list[list[float]]]:
    """Milliseconds from trigger to disk, by condition and round.

    Raises:
        RuntimeError: a promise was broken meanwhile.
    """
    order = random.Random(seed)
    spans: list[tuple[str, int, int]] = []
    with running_rig(1000 / rate_hz) as rig:
        for number in range(rounds):
            for name in order.sample(list(CONDITIONS), len(CONDITIONS)):
                begin, end = CONDITIONS[name]
                begin(rig)
                time.sleep(_SETTLE_S)
                started_ns = time.monotonic_ns()
                time.sleep(phase_s)
                spans.append((name, started_ns, time.monotonic_ns()))
                end(rig)
                _deliver(rig)
            print(f"round {number + 1}/{rounds}", file=sys.stderr, flush=True)
        report = rig.finish()
        if report.violations or len(rig.runs) != 1:
            raise RuntimeError(f"{len(rig.runs)} boots, {report.violations}")
        found: dict[str, list[list[float]]] = {name: [] for name in CONDITIONS}
        for name, first_ns, last_ns in spans:
            found[name].append([ns / 1e6 for fired_ns, ns in rig.run.latencies_ns if first_ns <= fired_ns < last_ns])
        return found


def _deliver(rig: Rig) -> None:
    waiting = set(rig.run.durable_ns)
    until(lambda: waiting <= {delivery.result_id for delivery in list(rig.consumer.deliveries)}, "backlog", 60.0)
    time.sleep(_SETTLE_S)


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--phase", type=float, default=8.0, help="seconds per condition and round")
    parser.add_argument("--rate", type=float, default=50.0, help="triggers per second")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    command = (
        f"python benchmarks/durability.py --rounds {asked.rounds} --phase {asked.phase:g} --rate {asked.rate:g} "
        f"--seed {asked.seed}"
    )
    result: dict[str, object] = {"command": command, "seed": asked.seed, **circumstances()}
    by_condition = measure(asked.rounds, asked.phase, asked.rate, asked.seed)
    print("| broker | verdicts | median, ms | p99, ms | against up | median of the rounds' p99, ms | against up |")
    print("|---|---|---|---|---|---|---|")
    p99_up_ms = quantile([ms for times in by_condition["up"] for ms in times], 0.99)
    # One burst of somebody else's work in one round decides the p99 of all; the median over rounds forgives it.
    typical_ms = {
        name: statistics.median(quantile(of_round, 0.99) for of_round in rounds)
        for name, rounds in by_condition.items()
    }
    for name, rounds in by_condition.items():
        times = [ms for of_round in rounds for ms in of_round]
        p99_ms = quantile(times, 0.99)
        result[name] = {
            "verdicts": len(times),
            "median_ms": round(statistics.median(times), 3),
            "p99_ms": round(p99_ms, 3),
            "p99_ratio_to_up": round(p99_ms / p99_up_ms, 3),
            "p99_ms_median_of_rounds": round(typical_ms[name], 3),
            "typical_p99_ratio_to_up": round(typical_ms[name] / typical_ms["up"], 3),
            "p99_ms_by_round": [round(quantile(of_round, 0.99), 3) for of_round in rounds],
        }
        print(
            f"| {name} | {len(times)} | {statistics.median(times):.2f} | {p99_ms:.2f} | {p99_ms / p99_up_ms - 1:+.1%} "
            f"| {typical_ms[name]:.2f} | {typical_ms[name] / typical_ms['up'] - 1:+.1%} |"
        )
    keep("durability.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
