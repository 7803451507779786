"""The check that an engine on this device reproduces the bundle's golden vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.bundle import Bundle
from edge.engines.engine import Engine
from edge.errors import EngineError
from edge.manifest import Precision
from edge.slots import SlotRing

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """Largest deviations found: the map's as a share of the golden map's maximum, the score's of the golden score."""

    vectors: int
    map_error: float
    score_error: float


def check_golden(engine: Engine, bundle: Bundle, precision: Precision, ring: SlotRing) -> GoldenResult:
    """Run the golden inputs through the engine; every slot of the ring is used.

    Args:
        engine: already bound to the ring's slots.
        bundle: where the vectors and tolerances are.
        precision: which variant the engine runs.
        ring: all slots free.

    Raises:
        EngineError: an output is off by more than the variant's tolerance.
    """
    golden = bundle.golden()
    variant = bundle.variant(precision)
    map_error = score_error = 0.0
    for index in range(max(len(golden.image), len(ring.slots))):
        vector = index % len(golden.image)
        slot = ring.acquire()
        np.copyto(slot.image[0], golden.image[vector])
        engine.enqueue(slot)
        if not engine.wait(slot, _TIMEOUT_S):
            raise EngineError(
                f"no answer to golden vector {vector} within {_TIMEOUT_S:.0f} s", "check the machine's load"
            )
        reference = golden.anomaly_map[vector]
        map_error = max(map_error, _ratio(np.abs(slot.anomaly_map[0] - reference).max(), reference.max()))
        score_error = max(score_error, _ratio(abs(slot.score[0] - golden.score[vector]), golden.score[vector]))
        ring.release(slot)
    if not (map_error <= variant.map_tolerance and score_error <= variant.score_tolerance):
        raise EngineError(
            f"the {precision} engine contradicts the golden vectors (map off by {map_error:.2e}, limit "
            f"{variant.map_tolerance:.0e}; score by {score_error:.2e}, limit {variant.score_tolerance:.0e})",
            "this device or runtime version computes the network wrongly; choose another precision or version",
        )
    return GoldenResult(len(golden.image), map_error, score_error)


def _ratio(difference: float, reference: float) -> float:
    return float(difference) / float(reference) if reference else float("inf")
