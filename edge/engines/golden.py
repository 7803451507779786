"""The check that an engine on this device reproduces the bundle's golden vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle, GoldenVectors
from edge.engines.engine import Engine
from edge.errors import EngineError
from edge.frame import Image
from edge.manifest import Precision, Preprocessing, Variant
from edge.pixel_format import PixelFormat
from edge.slots import SlotRing
from edge.verdict import AnomalyMap

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """Largest deviations found, each as a share of its own golden value; not a number where an output is none.

    Attributes:
        vectors: how many golden vectors there are.
        map_error: of |map - golden|, as a share of the golden map's maximum.
        score_error: of |score - golden|, as a share of the golden score.
    """

    vectors: int
    map_error: float
    score_error: float

    def is_within(self, variant: Variant) -> bool:
        """Whether both are within the variant's tolerances."""
        return self.map_error <= variant.map_tolerance and self.score_error <= variant.score_tolerance


def compare_golden(anomaly_map: AnomalyMap, score: npt.NDArray[np.float32], golden: GoldenVectors) -> GoldenResult:
    """How far outputs are off.

    Args:
        anomaly_map: float32 (K, H, W), computed from the golden images.
        score: float32 (K,).
        golden: K vectors, one at least.
    """
    # A golden value of 0 has no share: the error becomes infinite or not a number, and no tolerance allows that.
    with np.errstate(divide="ignore", invalid="ignore"):
        map_errors = np.abs(anomaly_map - golden.anomaly_map).max((1, 2)) / golden.anomaly_map.max((1, 2))
        score_errors = np.abs(score - golden.score) / golden.score
    return GoldenResult(len(golden.image), float(map_errors.max()), float(score_errors.max()))


def bound_ring(engine: Engine, bundle: Bundle, slots: int = 2) -> SlotRing:
    """Slots of the bundle's input size, bound to the engine."""
    ring = SlotRing(slots, bundle.manifest.preprocessing.input_size_px)
    for slot in ring.slots:
        engine.bind(slot)
    return ring


def compute(engine: Engine, ring: SlotRing, images: Iterable[Image]) -> Iterator[tuple[AnomalyMap, np.float32]]:
    """Map float32 (H, W) and score of each image uint8 (H, W, 3), one after the other, slot after slot.

    Args:
        engine: already bound to the ring's slots.
        ring: all slots free.
        images: of the ring's size, which preprocessing leaves as they are.

    Raises:
        EngineError: the engine failed, or did not answer.
    """
    settings = Preprocessing(input_size_px=ring.slots[0].above.shape)
    for number, image in enumerate(images):
        slot = ring.acquire()
        engine.enqueue(slot, image, PixelFormat.RGB8, settings)
        if not engine.wait(slot, _TIMEOUT_S):
            raise EngineError(f"no answer to image {number} within {_TIMEOUT_S:.0f} s", "check the machine's load")
        engine.fetch(slot)
        outputs = slot.anomaly_map[0].copy(), slot.score[0]
        ring.release(slot)
        yield outputs


def run_golden(engine: Engine, golden: GoldenVectors, ring: SlotRing) -> GoldenResult:
    """Run the golden inputs through the engine, in turn until every slot of the ring was used.

    Raises:
        EngineError: as for `compute`.
    """
    order = np.arange(max(len(golden.image), len(ring.slots))) % len(golden.image)
    maps, scores = zip(*compute(engine, ring, golden.image[order]), strict=True)
    asked = GoldenVectors(golden.image[order], golden.anomaly_map[order], golden.score[order])
    return replace(compare_golden(np.stack(maps), np.stack(scores), asked), vectors=len(golden.image))


def contradiction(engine: str, result: GoldenResult, variant: Variant) -> EngineError:
    """What to raise when a result is not within the variant's tolerances.

    Args:
        engine: what the sentence begins with.
        result: too far off.
        variant: what was run.
    """
    return EngineError(
        f"{engine} contradicts the golden vectors (map off by {result.map_error:.2e}, limit "
        f"{variant.map_tolerance:.0e}; score by {result.score_error:.2e}, limit {variant.score_tolerance:.0e})",
        "this device or runtime version computes the network wrongly; choose another precision or version",
    )


def check_golden(engine: Engine, bundle: Bundle, precision: Precision, ring: SlotRing) -> GoldenResult:
    """Refuse an engine that does not reproduce the golden vectors; every slot of the ring is used.

    Args:
        engine: already bound to the ring's slots.
        bundle: where the vectors and tolerances are.
        precision: which variant the engine runs.
        ring: all slots free.

    Raises:
        EngineError: an output is off by more than the variant's tolerance.
    """
    variant = bundle.variant(precision)
    result = run_golden(engine, bundle.golden(), ring)
    if not result.is_within(variant):
        raise contradiction(f"the {precision} engine", result, variant)
    return result
