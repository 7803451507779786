"""Faults by name, a schedule of them from a seed, and the loop that inflicts them on a rig."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chaos.broker import RecoveryError, until
from chaos.child import POINTS
from chaos.proxy import BLACK_HOLE, FAIR, SERVER_UNAVAILABLE, Weather
from chaos.rig import Rig

Action = Callable[[Rig], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done, and how it is undone; `part` is what it happens to, one fault at a time."""

    part: str
    start: Action
    heal: Action = lambda _: None


def _kill_grabber(rig: Rig) -> None:
    for pid in rig.run.children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _restart_broker(number: signal.Signals, *, forgets: bool) -> Fault:
    def start(rig: Rig) -> None:
        # What a broker took and loses with its own memory is not the station's to keep.
        until(rig.consumer.subscribed.is_set, "consumer at the broker")
        if forgets:
            rig.proxy.set(Weather(reachable=False))
            rig.proxy.cut()
            time.sleep(0.2)
        rig.broker.end(number)
        rig.consumer.subscribed.clear()
        if forgets:
            rig.broker.forget()

    def heal(rig: Rig) -> None:
        rig.broker.start()
        until(rig.consumer.subscribed.is_set, "consumer at the broker")
        if forgets:
            rig.proxy.set(FAIR)

    return Fault("network", start, heal)


def _weather(weather: Weather) -> Fault:
    return Fault("network", lambda rig: rig.proxy.set(weather), lambda rig: rig.proxy.set(FAIR))


def _camera(control: str, fault: object, normal: object) -> Fault:
    return Fault(
        "camera", lambda rig: setattr(rig.camera, control, fault), lambda rig: setattr(rig.camera, control, normal)
    )


def _online(rig: Rig) -> None:
    rig.camera.online = True


def _refuse(rig: Rig) -> None:
    rig.proxy.set(Weather(answer=SERVER_UNAVAILABLE))
    rig.proxy.cut()


def _unreachable(rig: Rig) -> None:
    rig.proxy.set(Weather(reachable=False))
    rig.proxy.cut()


def _little_memory(rig: Rig) -> None:
    # What is mapped stays; new mappings are refused.
    rig.limit(resource.RLIMIT_AS, 1)


FAULTS: dict[str, Fault] = {
    "connection cut": Fault("network", lambda rig: rig.proxy.cut()),
    "connection half open": Fault("network", lambda rig: rig.proxy.half_open()),
    "black hole": _weather(BLACK_HOLE),
    "acknowledgements held": _weather(Weather(hold_answers=True)),
    "delay of 200 ms": _weather(Weather(delay_s=0.2)),
    "20 kB/s": _weather(Weather(bytes_per_s=20_000)),
    "broker unreachable": Fault("network", _unreachable, lambda rig: rig.proxy.set(FAIR)),
    "connection refused": Fault("network", _refuse, lambda rig: rig.proxy.set(FAIR)),
    "broker killed": _restart_broker(signal.SIGKILL, forgets=False),
    "broker killed, sessions lost": _restart_broker(signal.SIGKILL, forgets=True),
    "broker restarted": _restart_broker(signal.SIGTERM, forgets=False),
    "broker frozen": Fault(
        "network", lambda rig: rig.broker.send(signal.SIGSTOP), lambda rig: rig.broker.send(signal.SIGCONT)
    ),
    "station killed": Fault("station", lambda rig: rig.end(signal.SIGKILL)),
    "station stopped": Fault("station", lambda rig: rig.end(signal.SIGTERM)),
    "disk full": Fault(
        "station",
        lambda rig: rig.limit(resource.RLIMIT_FSIZE, 0),
        lambda rig: rig.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY),
    ),
    "no more memory": Fault(
        "station", _little_memory, lambda rig: rig.limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
    ),
    "grabber killed": Fault("camera", _kill_grabber),
    "camera offline": _camera("online", False, True),
    "camera vanished": Fault(
        "camera", lambda rig: rig.camera.vanish(), lambda rig: setattr(rig.camera, "online", True)
    ),
    "camera stalled": _camera("stall", True, False),
    "every 3rd frame lost": _camera("drop_every", 3, 0),
    "every 3rd frame torn": _camera("incomplete_every", 3, 0),
    "every 3rd frame twice": _camera("duplicate_every", 3, 0),
    "every 3rd frame stale": _camera("stale_every", 3, 0),
    "every 3rd frame with a hole": _camera("torn_every", 3, 0),
    "every 3rd frame short": _camera("short_every", 3, 0),
    "slow features": _camera("feature_delay_ms", 50, 0),
    "producer crashed": Fault("camera", lambda rig: rig.camera.crash()),
    "frame ids wrap": Fault("camera", lambda rig: rig.camera.wrap_frame_ids(65530)),
    "clock an hour ahead": Fault("clock", lambda rig: rig.set_clock(3600.0), lambda rig: rig.set_clock(0.0)),
    "clock an hour behind": Fault("clock", lambda rig: rig.set_clock(-3600.0), lambda rig: rig.set_clock(0.0)),
}


def crash_at(point: str, nth: int, within_s: float = 4.0) -> Fault:
    """The station is started again so that it dies at a named point of a frame's life, and once more without that."""

    def start(rig: Rig) -> None:
        rig.end(signal.SIGTERM)
        run = rig.start(f"{point}:{nth}")
        with contextlib.suppress(RecoveryError):  # a point behind the broker is not reached without one
            until(lambda: run.process.poll() is not None, f"crash at {point}", within_s)
        rig.run.note_end()

    return Fault("station", start)


@dataclass(frozen=True, slots=True)
class Step:
    """Faults that begin together, and how long they last."""

    names: tuple[str, ...]
    hold_s: float
    calm_s: float


def schedule(seed: int, longest_s: float) -> Iterator[Step]:
    """Steps without end: each fault in a random order, a third of them with another one of another part."""
    source = random.Random(seed)
    every = [*FAULTS, *(f"crash at {point}" for point in POINTS)]
    while True:
        source.shuffle(every)
        for name in every:
            names: tuple[str, ...] = (name,)
            if source.random() < 1 / 3:
                others = [other for other in FAULTS if FAULTS[other].part != _part(name)]
                names = (name, source.choice(others))
            yield Step(names, source.uniform(0.1, longest_s), source.uniform(0.05, longest_s / 4))


def _fault(name: str, source: random.Random) -> Fault:
    return FAULTS.get(name) or crash_at(name.removeprefix("crash at "), source.randint(1, 12))


def _part(name: str) -> str:
    return FAULTS[name].part if name in FAULTS else "station"


@dataclass(slots=True)
class Endured:
    """What a rig went through.

    Attributes:
        counts: how often each fault.
        recovery_s: by fault, from its end to the next verdict on a part that was durable.
    """

    counts: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, list[float]] = field(default_factory=dict)


def inflict(rig: Rig, seed: int, seconds: float, longest_s: float, tell: Callable[[str], None] = print) -> Endured:
    """Run the schedule for so long; the rig's station must be running.

    Raises:
        RecoveryError: after a fault nothing was judged any more.
    """
    endured = Endured()
    nth = random.Random(seed + 1)
    end_s = time.monotonic() + seconds
    for step in schedule(seed, longest_s):
        faults = [
            FAULTS.get(name) or crash_at(name.removeprefix("crash at "), nth.randint(1, 12)) for name in step.names
        ]
        for fault in faults:
            fault.start(rig)
        _supervise(rig, step.hold_s)
        for fault in reversed(faults):
            fault.heal(rig)
        healed_ns = time.monotonic_ns()
        try:
            recovery_s = (rig.await_judged(healed_ns) - healed_ns) / 1e9
        except RecoveryError as error:
            raise RecoveryError(f"{error} after {' and '.join(step.names)}") from error
        for name in step.names:
            endured.counts[name] += 1
            endured.recovery_s.setdefault(name, []).append(recovery_s)
        tell(f"{' and '.join(step.names)} for {step.hold_s:.1f} s: {recovery_s:.2f} s to the next judged part")
        _supervise(rig, step.calm_s)
        if time.monotonic() > end_s:
            return endured
    raise AssertionError("a schedule never ends")


def _supervise(rig: Rig, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        rig.supervise()
        time.sleep(0.02)
