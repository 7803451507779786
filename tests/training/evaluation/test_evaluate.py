"""Figures of a run against the whole detector and the metrics themselves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch

from edge.errors import TfanetEdgeError
from edge.manifest import ScoreRule
from training.checkpoint import save_weights
from training.data.good_parts import load_good_parts
from training.data.labelled import LabelledPart
from training.data.settings import DataSettings
from training.evaluation.evaluate import evaluate_run, evaluate_variants
from training.evaluation.figures import error_ratio, has_network_size
from training.evaluation.limit import held_out_limit
from training.evaluation.predict import LabelledParts, SmallMaps, predict, read_parts
from training.metrics.image import image_metrics
from training.metrics.pixel import pixel_metrics
from training.networks.anomaly_map import Fusion
from training.networks.tfanet_detector import fuse_tfanet
from training.run import NETWORK, Run
from training.settings import TrainSettings
from training.thresholds import image_threshold, pixel_threshold

CPU = torch.device("cpu")
NO_SHA = "0" * 64


@pytest.fixture(scope="session")
def parts(run: Run, product: Path) -> LabelledParts:
    return read_parts(product, run.record.settings.data)


@torch.inference_mode()
def detect(run: Run, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    maps, scores = run.detector()(torch.from_numpy(images))
    return maps.numpy(), scores.numpy()


def without_threshold(metrics: Any) -> dict[str, Any]:
    return {name: pytest.approx(value) for name, value in asdict(metrics).items() if name != "f1_threshold"}


def test_figures_are_those_of_the_detectors_own_maps_and_scores(run: Run, parts: LabelledParts) -> None:
    evaluation = evaluate_run(run, parts, CPU)
    maps, scores = detect(run, np.stack(parts.images))
    np.testing.assert_allclose(evaluation.maps, maps, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(evaluation.scores, scores, rtol=1e-4)
    assert [part.defect for part in parts.parts] == [None, None, "scratch", "scratch", "stain", "stain"]

    figures: Any = evaluation.figures
    maps, scores = evaluation.maps, evaluation.scores
    assert figures["by_defect"].keys() == {"scratch", "stain"}
    # The first stain has no mask.
    for group, images, masked in (
        (figures["total"], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5]),
        (figures["by_defect"]["scratch"], [0, 1, 2, 3], [0, 1, 2, 3]),
        (figures["by_defect"]["stain"], [0, 1, 4, 5], [0, 1, 5]),
    ):
        assert group["image"] == without_threshold(image_metrics(scores[images], parts.defective[images]))
        small, _ = pixel_metrics([maps[i] for i in masked], [parts.parts[i].gt_mask_256 for i in masked])
        assert group["pixel_256"] == without_threshold(small)
        large, _ = pixel_metrics(
            [cv2.resize(maps[i], (120, 96), interpolation=cv2.INTER_LINEAR) for i in masked],
            [parts.parts[i].gt_mask for i in masked],
        )
        assert group["pixel_original"] == without_threshold(large)
        assert group["pixel_256"] != group["pixel_original"]


def test_every_variant_is_what_a_detector_with_it_says(run: Run, parts: LabelledParts) -> None:
    variants = [(rule, fusion) for fusion in get_args(Fusion) for rule in get_args(ScoreRule)]
    detector = run.detector()
    two = LabelledParts(parts.parts[1:3], None)
    evaluations = evaluate_variants(run, two, CPU, variants, at_original=False)
    for variant, evaluation in zip(variants, evaluations, strict=True):
        assert evaluation.figures["total"].keys() == {"image", "pixel_256", "error_ratio"}
        assert (evaluation.score_rule, evaluation.fusion) == variant
        detector.score_rule, detector.fusion = variant
        with torch.inference_mode():
            maps, scores = detector(torch.from_numpy(np.stack(two.images)))
        np.testing.assert_allclose(evaluation.maps, maps.numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(evaluation.scores, scores.numpy(), rtol=1e-4)


def test_ignored_pixels_count_nowhere(
    train: Callable[[str, TrainSettings], Run], settings: TrainSettings, product: Path, tmp_path: Path
) -> None:
    mask = np.zeros((96, 120), np.uint8)
    mask[:, 45:] = 255  # 45 of 120 columns are 96 of 256: no cell overlaps with both
    assert cv2.imwrite(str(tmp_path / "ignore.png"), mask)
    data = settings.data.model_copy(update={"ignore_mask": tmp_path / "ignore.png"})
    run = train("ignoring", settings.model_copy(update={"data": data}))
    parts = read_parts(product, data)
    evaluation = evaluate_run(run, parts, CPU)
    maps, scores = detect(run, np.stack(parts.images))
    np.testing.assert_allclose(evaluation.scores, scores, rtol=1e-4)
    assert not maps[:, :, 96:].any()

    figures: Any = evaluation.figures["total"]
    masked = [0, 1, 2, 3, 5]
    small, _ = pixel_metrics(
        [evaluation.maps[i][:, :96] for i in masked], [parts.parts[i].gt_mask_256[:, :96] for i in masked]
    )
    assert figures["pixel_256"] == without_threshold(small)
    resized = [cv2.resize(evaluation.maps[i], (120, 96), interpolation=cv2.INTER_LINEAR) for i in masked]
    large, _ = pixel_metrics(
        [np.ascontiguousarray(anomaly_map[:, :45]) for anomaly_map in resized],
        [parts.parts[i].gt_mask[:, :45] for i in masked],
    )
    assert figures["pixel_original"] == without_threshold(large)
    # Stains lie where nothing is judged.
    stain: Any = evaluation.figures["by_defect"]
    assert set(stain["stain"]["pixel_256"].values()) == {None}

    limit = held_out_limit(run, product, CPU, "std", run.record.settings.network.fusion, 0.4)
    good_maps, _ = detect(run, load_good_parts(product, data, 0).held_out)
    expected = pixel_threshold(np.ascontiguousarray(good_maps[:, :, :96]), 0.4, NO_SHA)
    assert limit.pixel == pytest.approx(expected.value, rel=1e-4)


def test_what_is_not_judged_is_cut_out_with_the_region_of_interest(product: Path, tmp_path: Path) -> None:
    mask = np.zeros((96, 120), np.uint8)
    mask[40, 50] = 1
    assert cv2.imwrite(str(tmp_path / "ignore.png"), mask)
    data = DataSettings(ignore_mask=tmp_path / "ignore.png", roi_xywh=(20, 30, 60, 50))
    counted = read_parts(product, data).counted
    assert counted is not None
    assert counted.shape == (50, 60)
    assert np.argwhere(~counted).tolist() == [[10, 30]]


def labelled(defect: str | None, mask: np.ndarray | None, size_px: tuple[int, int] = (256, 256)) -> LabelledPart:
    return LabelledPart("x", defect, np.zeros((256, 256, 3), np.uint8), mask, mask, size_px)


def test_error_ratio_compares_the_grids_positions() -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[4:9, 250:] = 1  # of the 64 positions, i at pixel 255/63·i: rows 1 and 2, columns 62 and 63
    distance = np.ones((3, 64, 64), np.float32)
    distance[0, 1:3, 62:] = 5
    distance[2] = 1e6
    parts = LabelledParts((labelled("dent", mask), labelled(None, 0 * mask), labelled("dent", None)), None)
    assert error_ratio(parts, SmallMaps(distance[None], fuse_tfanet, None)) == pytest.approx(5)
    distance[1] = 3
    good = (4096 - 4 + 4096 * 3) / (2 * 4096 - 4)
    assert error_ratio(parts, SmallMaps(distance[None], fuse_tfanet, None)) == pytest.approx(5 / good)
    counted = np.ones((256, 256), bool)
    counted[:, 250:] = False
    assert error_ratio(parts, SmallMaps(distance[None], fuse_tfanet, counted)) is None


def test_both_resolutions_are_one_where_the_files_have_the_networks_size(run: Run) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[100:120, 100:120] = 1
    parts = LabelledParts((labelled("dent", mask), labelled(None, 0 * mask)), None)
    assert has_network_size(parts)
    figures: Any = evaluate_run(run, parts, CPU).figures["total"]
    assert figures["pixel_256"] == figures["pixel_original"]
    assert not has_network_size(LabelledParts((*parts.parts, labelled(None, mask, (256, 257))), None))


def test_without_good_images_nothing_is_defined(run: Run) -> None:
    evaluation = evaluate_run(run, LabelledParts((labelled("dent", None),), None), CPU)
    figures: Any = evaluation.figures["total"]
    assert {value for group in ("image", "pixel_256") for value in figures[group].values()} == {None}
    assert figures["error_ratio"] is None
    assert evaluation.curves is None


def test_threshold_is_of_the_runs_own_held_out_parts(run: Run, product: Path) -> None:
    held_out = load_good_parts(product, run.record.settings.data, 0).held_out
    maps, scores = detect(run, held_out)
    limit = held_out_limit(run, product, CPU, "std", run.record.settings.network.fusion, 0.4)
    assert (limit.is_guaranteed, limit.held_out, limit.guaranteed_rate) == (True, 2, 1 / 3)
    assert limit.image == pytest.approx(image_threshold(scores, 0.4, NO_SHA).value, rel=1e-4)
    assert limit.pixel == pytest.approx(pixel_threshold(maps, 0.4, NO_SHA).value, rel=1e-4)
    assert "from 2 held-out good parts: on average at most 33.3 % of" in limit.explanation
    assert "asked for" not in limit.explanation
    few = held_out_limit(run, product, CPU, "std", run.record.settings.network.fusion, 0.01)
    assert (few.is_guaranteed, few.guaranteed_rate) == (False, 1 / 3)
    assert few.image == pytest.approx(scores.max(), rel=1e-4)
    assert few.explanation.endswith("(1 % were asked for, which takes 99 held-out good parts)")


def test_no_threshold_without_the_trainings_good_parts(run: Run, product: Path, tmp_path: Path) -> None:
    data = shutil.copytree(product, tmp_path / "washer")
    for path in (data / "train" / "good").iterdir():
        path.unlink()
    limit = held_out_limit(run, data, CPU, "std", run.record.settings.network.fusion, 0.4)
    assert (limit.image, limit.pixel, limit.held_out) == (None, None, 0)
    assert "has 0 images of good parts" in limit.explanation


def test_a_network_that_does_not_compute_numbers_is_an_error(run: Run, parts: LabelledParts, tmp_path: Path) -> None:
    broken = Run(shutil.copytree(run.path, tmp_path / "run"), run.record)
    trainable = broken.trainable()
    trainable.get_parameter("network.cls").data.fill_(torch.inf)
    save_weights(trainable, broken.path / NETWORK)
    with pytest.raises(TfanetEdgeError, match="not finite"):
        evaluate_run(broken, parts, CPU)


def test_no_image_is_no_prediction(run: Run) -> None:
    assert predict(run, [], CPU).maps.shape[1:] == (0, 64, 64)
