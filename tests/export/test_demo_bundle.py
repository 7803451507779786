"""The bundle that ships with the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from edge.bundle import Bundle, load_bundle
from edge.manifest import MANIFEST_NAME
from simulator.parts import TEST_SEEDS
from training.rendered import mixed_kinds, rendered_set

DIRECTORY = Path(__file__).parents[2] / "simulator" / "demo_bundle"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(DIRECTORY)


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> ort.InferenceSession:
    path = bundle.path / bundle.variant("fp32").file
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_it_is_small_and_holds_nothing_unnamed(bundle: Bundle) -> None:
    files = list(DIRECTORY.iterdir())
    assert {file.name for file in files} == {MANIFEST_NAME, *bundle.manifest.files}
    assert sum(file.stat().st_size for file in files) < 40e6


def test_onnx_runtime_reproduces_the_golden_vectors(bundle: Bundle, session: ort.InferenceSession) -> None:
    golden, variant = bundle.golden(), bundle.variant("fp32")
    maps, scores = session.run(None, {"image": golden.image})
    np.testing.assert_allclose(maps, golden.anomaly_map, atol=variant.map_tolerance * golden.anomaly_map.max(), rtol=0)
    np.testing.assert_allclose(scores, golden.score, rtol=variant.score_tolerance)


def test_it_tells_good_parts_from_defective_ones(bundle: Bundle, session: ort.InferenceSession) -> None:
    kinds = mixed_kinds(40, 0.5, seed=0)
    parts = rendered_set(TEST_SEEDS[-40:], kinds)
    scores = np.concatenate([session.run(["score"], {"image": image[None]})[0] for image in parts.images])
    rejected = scores >= bundle.manifest.image_threshold.value
    defective = np.array([kind is not None for kind in kinds])
    assert rejected[defective].mean() >= 0.9
    assert rejected[~defective].mean() <= 0.1
