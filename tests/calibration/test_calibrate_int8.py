"""`calibrate-int8` from end to end: what it writes runs, what it refuses leaves no trace."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from edge.bundle import load_bundle
from edge.engines.golden import check_golden
from edge.engines.ort import OrtEngine
from edge.slots import SlotRing


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def scores(directory: Path, precision: str) -> np.ndarray:
    bundle = load_bundle(directory)
    session = ort.InferenceSession(str(directory / bundle.variant(precision).file), providers=["CPUExecutionProvider"])
    return session.run(["score"], {"image": bundle.golden().image})[0]


def test_the_variant_runs_and_passes_the_golden_check(calibrate, detector_dir, good_dir, capfd) -> None:
    before = contents(detector_dir)
    assert calibrate(detector_dir, "--images", good_dir) == 0
    out, err = capfd.readouterr()
    assert err == "", "no progress bar where nobody looks, and no warning"
    after = contents(detector_dir)
    assert after.keys() - before.keys() == {"model.int8.onnx"}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}

    bundle = load_bundle(detector_dir)
    variant = bundle.variant("int8")
    engine = OrtEngine(bundle, "int8", threads=2)
    ring = SlotRing(2, (256, 256))
    for slot in ring.slots:
        engine.bind(slot)
    result = check_golden(engine, bundle, "int8", ring)
    engine.close()
    assert 0 < result.map_error < 0.1
    assert variant.map_tolerance == pytest.approx(1.5 * result.map_error, rel=1e-3)
    assert variant.score_tolerance >= result.score_error
    assert re.search(r"verdicts changed at score .* 0 of 12\n", out)
    assert f"{result.map_error:.2%} ({variant.map_tolerance:.2%})" in out


def test_calibrating_again_changes_nothing(calibrate, detector_dir, good_dir) -> None:
    assert calibrate(detector_dir, "--images", good_dir) == 0
    first = contents(detector_dir)
    assert calibrate(detector_dir, "--images", good_dir) == 0
    assert contents(detector_dir) == first


def test_too_many_flips_are_refused_and_leave_no_trace(
    calibrate, detector_dir, good_dir, set_threshold, capfd, tmp_path
) -> None:
    assert calibrate(detector_dir, "--images", good_dir) == 0
    # A threshold between the two scores of one golden vector: its verdict flips.
    threshold = float(scores(detector_dir, "fp32")[0] + scores(detector_dir, "int8")[0]) / 2
    set_threshold(detector_dir, threshold)
    before = contents(detector_dir)
    capfd.readouterr()
    assert calibrate(detector_dir, "--images", good_dir, "--max-flips", "0") == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"tfanet-edge: INT8 changes [1-9]\d* of 12 verdicts .*: stay with fp32, or .*\n", err)
    assert contents(detector_dir) == before
    assert calibrate(detector_dir, "--images", good_dir, "--max-flips", "1") == 0


def test_fewer_images_calibrate_other_ranges(calibrate, detector_dir, good_dir, capfd) -> None:
    assert calibrate(detector_dir, "--images", good_dir) == 0
    ten = contents(detector_dir)["model.int8.onnx"]
    assert calibrate(detector_dir, "--images", good_dir, "--limit", "8") == 0
    assert "0 of 10\n" in capfd.readouterr().out
    assert contents(detector_dir)["model.int8.onnx"] != ten


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images", "nowhere"], r"directory '.*nowhere' cannot be read .*: check the path"),
        (["--images", "{good}", "--limit", "7"], "'7' is not a whole number from 8 upwards"),
        (["--images", "{good}", "--max-flips", "2"], "'2' is not a number from 0 to 1"),
        (["--images", "{good}", "--limt", "8"], "unknown option '--limt', did you mean '--limit'"),
        ([], "--images"),
    ],
)
def test_one_line_says_what_is_wrong(calibrate, detector_dir, good_dir, capfd, options, words) -> None:
    assert calibrate(detector_dir, *(option.format(good=good_dir) for option in options)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(words, line)


def test_too_few_images(calibrate, detector_dir, good_dir, capfd) -> None:
    for seed in range(3):
        (good_dir / f"part_{9 - seed}.png").unlink()
    assert calibrate(detector_dir, "--images", good_dir) == 2
    assert "holds 7 images of good parts, 8 are needed at least: put more pictures" in capfd.readouterr().err


def test_an_unreadable_image_is_named(calibrate, detector_dir, good_dir, capfd) -> None:
    (good_dir / "part_4.png").write_bytes(b"not a picture")
    before = contents(detector_dir)
    assert calibrate(detector_dir, "--images", good_dir) == 2
    assert re.search(r"part_4\.png' cannot be read: replace it\n", capfd.readouterr().err)
    assert contents(detector_dir) == before


def test_an_altered_bundle_is_refused(calibrate, detector_dir, good_dir, capfd) -> None:
    (detector_dir / "template.png").write_bytes(b"")
    assert calibrate(detector_dir, "--images", good_dir) == 2
    assert "template.png' was changed" in capfd.readouterr().err


def test_a_network_without_weights_is_refused(calibrate, bundle_dir, good_dir, capfd) -> None:
    assert calibrate(bundle_dir, "--images", good_dir) == 2
    assert "no Conv, Gemm, MatMul with weights: stay with fp32" in capfd.readouterr().err


def test_without_onnx_the_extra_is_named(calibrate, detector_dir, good_dir, capfd, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "calibration.command", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert calibrate(detector_dir, "--images", good_dir) == 2
    assert "needs the Python package 'onnx'" in (err := capfd.readouterr().err)
    assert "pip install 'tfanet-edge[training]'" in err
