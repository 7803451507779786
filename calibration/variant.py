"""The INT8 variant of a bundle: its proof, and its way into the directory."""

from __future__ import annotations

import onnx

from calibration.calibrate import Calibrated
from calibration.evidence import Evidence
from calibration.int8 import Network
from edge.bundle import Bundle
from edge.engines.golden import GoldenResult, compare_golden
from edge.errors import RefusedError
from edge.frame import Image
from edge.manifest import Quantisation, QuantisedGroup, Variant
from export.bundle import TOLERANCE_MARGIN, model_file
from export.onnx_graph import opset
from export.outputs import Outputs, measure_parity, run_onnx
from training.image_sets import images_sha256

MAX_GOLDEN_ERROR = 0.1


def describe(
    bundle: Bundle, network: Network, found: Calibrated, evidence: Evidence, answers: Outputs, images: Image
) -> Variant:
    """What the manifest says of it, measured on the bytes that go into the file.

    Args:
        bundle: that it is for.
        network: what it was made of.
        found: with a model.
        evidence: what it was judged on.
        answers: the model's to the evidence's images.
        images: that the ranges come from.

    Raises:
        RefusedError: it strays too far from the golden vectors.
    """
    assert found.model is not None
    assert found.selection.chosen is not None
    nodes = found.selection.chosen.nodes
    golden = bundle.golden()
    of_golden = run_onnx(found.model, golden.image, "golden vectors")
    result = compare_golden(of_golden.maps, of_golden.scores, golden)
    _refuse_contradiction(result)
    groups = {group: [node for node in members if node in nodes] for group, members in network.groups.items()}
    least = bundle.variant("fp32")
    digest = images_sha256(images)
    return Variant(
        file=model_file("int8"),
        opset=opset(onnx.load_from_string(found.model)),
        weights_dtype="int8",
        map_tolerance=max(TOLERANCE_MARGIN * result.map_error, least.map_tolerance),
        score_tolerance=max(TOLERANCE_MARGIN * result.score_error, least.score_tolerance),
        parity=measure_parity(evidence.reference, answers, "fp32", bundle.manifest.image_threshold.value, digest),
        quantisation=Quantisation(
            groups=tuple(
                QuantisedGroup(
                    name=group, method=found.methods[group], layers=len(chosen), of_layers=len(network.groups[group])
                )
                for group, chosen in groups.items()
                if chosen
            ),
            int8_share=network.share(nodes),
            images=len(images),
            data_sha256=digest,
        ),
    )


def _refuse_contradiction(result: GoldenResult) -> None:
    if result.map_error <= MAX_GOLDEN_ERROR and result.score_error <= MAX_GOLDEN_ERROR:
        return
    raise RefusedError(
        f"INT8 is off by {result.map_error:.1%} of the golden maps and {result.score_error:.1%} of the golden scores, "
        f"{MAX_GOLDEN_ERROR:.0%} may be",
        "calibrate on good parts as the camera takes them, or stay with fp16",
    )
