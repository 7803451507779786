"""What INT8 costs, measured on good parts as they are and with defects drawn onto them, against the float32 network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.frame import Image
from export.outputs import Float, Outputs, changed_verdicts, is_off_threshold, run_onnx
from training.metrics.image import image_metrics
from training.metrics.pixel import pixel_metrics

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cost:
    """How much a network differs from the float32 one.

    Attributes:
        map_error: mean |map - float32 map|, as a share of the float32 maps' mean magnitude.
        score_error: mean |score / float32 score - 1|.
        flip_share: of the images, verdicts that changed.
        expected_flip_share: the same with every image's relative error applied to every image's score: finer than one
            over the number of images, and no matter of luck with few.
        swap_share: of the pairs of good parts, those whose order by score changed. Where defects score hardly higher
            than good parts, AUROC changes with that order, whatever it does on defects that are easy to see.
        auroc, pixel_auroc, aupro: what they fell by, 0..1; negative where they rose.
    """

    map_error: float
    score_error: float
    flip_share: float
    expected_flip_share: float
    swap_share: float
    auroc: float
    pixel_auroc: float
    aupro: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What INT8 may cost: shares of verdicts and of pairs, and points of AUROC and AUPRO in 0..1."""

    flip_share: float
    swap_share: float
    auroc: float
    aupro: float

    def allows(self, cost: Cost) -> bool:
        """Whether a cost is within it."""
        return self.excess(cost) <= 0

    def excess(self, cost: Cost) -> float:
        """By how much the worst figure misses it; a figure that rose as much as it may fall is no better."""
        return max(
            cost.flip_share - self.flip_share,
            cost.expected_flip_share - self.flip_share,
            cost.swap_share - self.swap_share,
            abs(cost.auroc) - self.auroc,
            abs(cost.pixel_auroc) - self.auroc,
            abs(cost.aupro) - self.aupro,
        )


class Evidence:
    """The images that candidates are judged on, with the float32 network's answers to them.

    Args:
        images: uint8 (N,256,256,3), good and defective.
        masks: uint8 (N,256,256), 1 where defective; a good part's is all zero.
        reference: the float32 network's answers to the images.
        threshold: image score from which a part is NG.
    """

    def __init__(self, images: Image, masks: Image, reference: Outputs, threshold: float) -> None:
        self.images = images
        self.masks = masks
        self.threshold = threshold
        self._defective = np.asarray(masks.any(axis=(1, 2)))
        self.reference = reference
        self._figures = self._accuracy(self.reference)

    def cost(self, model: bytes, label: str) -> Cost:
        """What a network costs.

        Args:
            model: ONNX file.
            label: of the progress bar.

        Raises:
            EngineError: ONNX Runtime refuses it, or it gives values that are not numbers.
        """
        answers = run_onnx(model, self.images, label)
        ratios = answers.scores / self.reference.scores
        flips = changed_verdicts(self.reference.scores, answers.scores, self.threshold)
        scores = self.reference.scores[is_off_threshold(self.reference.scores, self.threshold)]
        tipped = (scores[:, None] >= self.threshold) != (scores[:, None] * ratios >= self.threshold)
        fell = self._figures - self._accuracy(answers)
        return Cost(
            map_error=float(np.abs(answers.maps - self.reference.maps).mean() / np.abs(self.reference.maps).mean()),
            score_error=float(np.abs(ratios - 1).mean()),
            flip_share=float(flips.mean()),
            expected_flip_share=float(tipped.mean()),
            swap_share=swap_share(self.reference.scores[~self._defective], answers.scores[~self._defective]),
            auroc=float(fell[0]),
            pixel_auroc=float(fell[1]),
            aupro=float(fell[2]),
        )

    def _accuracy(self, answers: Outputs) -> Float64:
        """Image AUROC, pixel AUROC and AUPRO@0.3."""
        image = image_metrics(answers.scores, self._defective)
        pixel, _ = pixel_metrics(answers.maps, list(self.masks))
        return np.array([image.auroc, pixel.auroc, pixel.aupro_30], np.float64)


def swap_share(reference: Float, other: Float) -> float:
    """Share of all pairs that the two put in a different order, 0..1; both (N,), N above 1."""
    first, second = np.triu_indices(len(reference), 1)
    return float(np.mean((reference[first] < reference[second]) != (other[first] < other[second])))
