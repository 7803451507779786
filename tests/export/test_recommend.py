"""The verb `recommend`, from a folder of images to a recommendation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from export import candidate


@pytest.mark.slow
def test_two_detectors_are_measured_once_and_no_test_image_is_needed(
    product: Path,
    backbone_weights: Path,
    tmp_path: Path,
    verb: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidate, "FRAMES", 5)
    monkeypatch.setattr(candidate, "DEFECTS_PER_PART", 2)
    data, out = tmp_path / "washer", tmp_path / "out"
    copytree(product / "train", data / "train")
    command = ["recommend", "--data", data, "--weights", backbone_weights, "--out", out, "--device", "cpu"]
    assert verb(*command, "--detectors", "stfpm", "--budget-ms", "0.001") == 0
    (slow,) = json.loads((out / "recommendation.json").read_text())["candidates"]
    assert slow["p95_ms"] > 0.001
    assert slow["good_scores"] == []
    assert "not trained" in capfd.readouterr().out
    assert not (out / "stfpm").exists()

    quick = ["--detectors", "tfanet", "stfpm", "--epochs-share", "0"]
    assert verb(*command, *quick, "--budget-ms", "100000") == 0
    text = capfd.readouterr().out
    found = json.loads((out / "recommendation.json").read_text())
    assert [one["detector"] for one in found["candidates"]] == ["tfanet", "stfpm"]
    assert found["chosen"] == min(found["candidates"], key=lambda one: one["p95_ms"])["detector"]
    assert found["reason"] in text
    assert "Only 2 held-out good parts" in text
    assert all(one["epochs"] == 1 and one["multiply_accumulates"] > 1e8 for one in found["candidates"])
    page = (out / "recommendation.html").read_text()
    assert "data:image/png;base64," in page
    assert found["reason"] in page

    (out / "recommendation.json").unlink()
    kept = [path.stat().st_mtime_ns for path in sorted(out.glob("*/m*"))]
    assert len(kept) == 2
    assert verb(*command, *quick, "--budget-ms", "0.001") == 0
    again = json.loads((out / "recommendation.json").read_text())
    assert again["chosen"] is None
    assert again["reason"].startswith("No detector fits 0.001 ms")
    assert again["candidates"] == found["candidates"]
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("*/m*"))] == kept
