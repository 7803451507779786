"""`calibrate-int8` from end to end: what it writes runs, what it refuses leaves no trace."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from calibration.cli import main
from edge.bundle import file_sha256, load_bundle
from edge.engines.golden import bound_ring, check_golden
from edge.engines.ort import OrtEngine

WIDE = ("--max-swaps", "0.2", "--max-auroc-drop", "0.2", "--max-aupro-drop", "0.05")
QUICK = ("--method", "minmax", *WIDE)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert re.match("tfanet-edge( calibrate-int8)?: ", line)
    return line


@pytest.fixture
def calibrated_dir(calibrated, tmp_path: Path) -> Path:
    """A bundle with an INT8 variant that a test may change."""
    return Path(shutil.copytree(calibrated.path, tmp_path / "calibrated"))


def test_the_variant_runs_and_passes_the_golden_check(calibrated) -> None:
    bundle = load_bundle(calibrated.path)
    variant = bundle.variant("int8")
    engine = OrtEngine(bundle, "int8", threads=2)
    result = check_golden(engine, bundle, "int8", bound_ring(engine, bundle))
    engine.close()
    assert 0 < result.map_error < 0.1
    assert variant.map_tolerance == pytest.approx(3 * result.map_error, rel=1e-3)
    assert variant.score_tolerance >= result.score_error


def test_only_the_variant_and_its_page_are_added(calibrated) -> None:
    before, after = contents(calibrated.before), contents(calibrated.path)
    assert after.keys() - before.keys() == {"model.int8.onnx", "report.int8.html"}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}
    old, new = (load_bundle(path).manifest for path in (calibrated.before, calibrated.path))
    assert new.files["report.int8.html"] == file_sha256(calibrated.path / "report.int8.html")
    assert new.model_copy(update={"files": old.files, "variants": old.variants}) == old
    assert new.variants["fp32"] == old.variants["fp32"]


def test_the_manifest_says_what_computes_in_int8_and_why_it_may(calibrated) -> None:
    manifest = load_bundle(calibrated.path).manifest
    variant = manifest.variants["int8"]
    assert variant.weights_dtype == "int8"
    quantisation, parity = variant.quantisation, variant.parity
    assert quantisation is not None
    assert parity is not None
    assert {group.name for group in quantisation.groups} <= {"convolutions", "encoder"}
    assert all(group.layers <= group.of_layers <= 5 for group in quantisation.groups)
    assert quantisation.images == 10
    assert (parity.reference, parity.images, parity.flips) == ("fp32", 20, 0)
    assert parity.threshold == manifest.image_threshold.value
    assert parity.data_sha256 == quantisation.data_sha256
    assert 0 < parity.map_error < 0.1


def test_the_table_and_the_page_have_the_same_figures(calibrated) -> None:
    assert calibrated.err == "", "no progress bar where nobody looks, and no warning"
    lines = calibrated.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["convolutions", "encoder", "int8,"]
    quantisation = load_bundle(calibrated.path).variant("int8").quantisation
    assert quantisation is not None
    for group in quantisation.groups:
        (row,) = (line for line in lines if line.startswith(group.name))
        assert row.endswith(f"{group.layers} of {group.of_layers}")
        assert f" {group.method} " in row
    assert f" {quantisation.int8_share:.1%} " in lines[3]
    assert lines[-1] == f"written: {calibrated.path / 'model.int8.onnx'}"
    page = (calibrated.path / "report.int8.html").read_text(encoding="utf-8")
    assert "does INT8 decide as fp32 does?" in page
    assert "0 of 20 verdicts changed" in page


def test_the_same_images_give_the_same_bytes(calibrate, calibrated, calibrated_dir: Path) -> None:
    before = contents(calibrated_dir)
    assert calibrate(calibrated_dir, "--images", calibrated.images, *WIDE) == 0
    assert contents(calibrated_dir) == before


def test_statistics_are_computed_once(
    calibrate, calibrated, detector_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (kept,) = shutil.copytree(calibrated.cache, tmp_path / "statistics").iterdir()
    whole, made = kept.read_bytes(), kept.stat()
    arguments = (detector_dir, "--images", calibrated.images, "--cache", kept.parent, *QUICK)
    assert calibrate(*arguments) == 0
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    quick = contents(detector_dir)
    kept.write_bytes(whole[:1000] + b"x" + whole[1001:])
    assert calibrate(*arguments) == 0
    assert f"statistics in '{kept}' are computed again: the file is damaged" in caplog.text
    assert list(kept.parent.iterdir()) == [kept]
    assert kept.read_bytes() == whole
    assert contents(detector_dir) == quick


def test_an_older_variant_is_replaced(calibrate, calibrated, calibrated_dir: Path) -> None:
    before = contents(calibrated_dir)
    assert calibrate(calibrated_dir, "--images", calibrated.images, "--limit", "8", *QUICK) == 0
    after = contents(calibrated_dir)
    assert {name for name in before if before[name] != after[name]} == {
        "manifest.json",
        "model.int8.onnx",
        "report.int8.html",
    }
    quantisation = load_bundle(calibrated_dir).variant("int8").quantisation
    assert quantisation is not None
    assert quantisation.images == 8
    assert {group.method for group in quantisation.groups} == {"minmax"}


def test_images_of_another_size_are_taken_and_told_of(
    calibrate, calibrated, detector_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert calibrate(detector_dir, "--images", calibrated.images, *QUICK) == 0
    assert "1 of 10 images in" in caplog.text
    assert "are not 256x256 but 320x240: resized like the others" in caplog.text


def test_labelled_defects_may_take_the_place_of_drawn_ones(
    calibrate, calibrated, detector_dir: Path, product: Path
) -> None:
    where = ("--images", calibrated.images, "--labelled", product)
    assert calibrate(detector_dir, *where, *QUICK, "--max-auroc-drop", "1") == 0
    parity = load_bundle(detector_dir).variant("int8").parity
    assert parity is not None
    # Ten good parts to calibrate on; two good, two scratched and the one of two stained that has a mask.
    assert parity.images == 10 + 2 + 2 + 1


def test_too_many_flips_are_refused_and_leave_no_trace(
    calibrate, calibrated, calibrated_dir: Path, set_threshold, capfd
) -> None:
    session = ort.InferenceSession(str(calibrated_dir / "model.fp32.onnx"), providers=["CPUExecutionProvider"])
    good = np.stack([cv2.imread(str(calibrated.images / f"part_{i}.png"))[..., ::-1] for i in (0, 4, 5, 6, 7, 8, 9)])
    (scores,) = session.run(["score"], {"image": good})
    set_threshold(calibrated_dir, float(np.sort(scores)[-2]) * (1 + 1e-5))
    before = contents(calibrated_dir)
    assert calibrate(calibrated_dir, "--images", calibrated.images, *QUICK, "--max-flips", "0") == 3
    line = one_line(capfd)
    share, figure = r"\d+\.\d\d%", r"[+-]\d+\.\d\d%"
    assert "no part of the network stays within 0.00% changed verdicts, 20.00% swapped pairs, 20.00% AUROC and" in line
    assert re.search(rf"; closest is INT8 in all( but [a-z, ]+)?: {share} of the verdicts change", line)
    assert re.search(rf" {share} of the good parts' order, image", line)
    assert re.search(rf"image AUROC by {figure}, pixel AUROC by {figure}, AUPRO by {figure} ", line)
    assert line.endswith(": stay with fp16, or allow more")
    assert contents(calibrated_dir) == before


def test_a_fall_of_accuracy_is_refused_and_leaves_no_trace(calibrate, calibrated, detector_dir: Path, capfd) -> None:
    before = contents(detector_dir)
    assert calibrate(detector_dir, "--images", calibrated.images, *QUICK, "--max-auroc-drop", "0") == 3
    assert re.search(r"0\.00% AUROC and 5\.00% AUPRO in INT8; closest is INT8 in all", one_line(capfd))
    assert contents(detector_dir) == before


@pytest.mark.parametrize("kind", ["noise", "mosaic"])
def test_images_that_are_no_good_parts_are_refused(kind: str, calibrate, detector_dir: Path, tmp_path, capfd) -> None:
    directory, rng = tmp_path / kind, np.random.default_rng(0)
    directory.mkdir()
    for index in range(8):
        image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
        if kind == "mosaic":
            image = np.where(image[:16, :16] < 128, 0, 255).astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
        cv2.imwrite(str(directory / f"{index}.png"), image)
    before = contents(detector_dir)
    assert calibrate(detector_dir, "--images", directory) == 3
    assert re.search(rf"fp32 rejects 8 of 8 pictures in '.*{kind}': these are no good parts", one_line(capfd))
    assert contents(detector_dir) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images", "nowhere"], r"directory '.*nowhere' cannot be read .*: check the path"),
        (["--images", "{empty}"], r"empty' is no product: .*: give the directory of one product"),
        (["--images", "{good}", "--limit", "7"], "'7' is not a whole number from 8 upwards"),
        (["--images", "{good}", "--max-flips", "2"], "'2' is not a number from 0 to 1"),
        (["--images", "{good}", "--cache", "/dev/null/x"], "directory '/dev/null/x' cannot be made .*give another"),
        (["--images", "{good}", "--method", "best"], "invalid choice: 'best'"),
        (["--images", "{good}", "--limt", "8"], "unknown option '--limt', did you mean '--limit'"),
        (["--images", "{good}", "--labelled", "{good}"], r"good' has no test images: give a product with labelled"),
        (
            ["--images", "{good}", "--labelled", "{maskless}"],
            "has no labelled defects with masks: leave out --lab",
        ),
        ([], "--images"),
    ],
)
def test_one_line_says_what_is_wrong(
    options, words, calibrate, calibrated, detector_dir: Path, product: Path, tmp_path, capfd
) -> None:
    (tmp_path / "empty").mkdir()
    maskless = shutil.copytree(product, tmp_path / "maskless", ignore=shutil.ignore_patterns("ground_truth"))
    places = {"good": calibrated.images, "empty": tmp_path / "empty", "maskless": maskless}
    before = contents(detector_dir)
    assert calibrate(detector_dir, *(option.format(**places) for option in options)) == 2
    assert re.search(words, one_line(capfd))
    assert contents(detector_dir) == before


def test_too_few_images(calibrate, detector_dir: Path, good_dir: Path, capfd) -> None:
    for seed in (7, 8, 9):
        (good_dir / f"part_{seed}.png").unlink()
    assert calibrate(detector_dir, "--images", good_dir) == 2
    assert "holds 7 images of good parts, 8 are needed at least: put more pictures" in one_line(capfd)


def test_an_unreadable_image_is_named(calibrate, detector_dir: Path, good_dir: Path, capfd) -> None:
    (good_dir / "part_4.png").write_bytes(b"not a picture")
    assert calibrate(detector_dir, "--images", good_dir) == 2
    assert re.search(r"part_4\.png' cannot be read: replace it$", one_line(capfd))


def test_a_damaged_network_is_refused(calibrate, calibrated, detector_dir: Path, set_threshold, capfd) -> None:
    model = detector_dir / "model.fp32.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    assert calibrate(detector_dir, "--images", calibrated.images) == 2
    assert re.search(r"model\.fp32\.onnx' was changed \(sha256 .*\): copy the bundle again", one_line(capfd))
    set_threshold(detector_dir, 1.0)
    assert calibrate(detector_dir, "--images", calibrated.images) == 1
    assert re.search(r"ONNX Runtime cannot load the network \(.*\): export the bundle again$", one_line(capfd))


def test_a_bundle_of_a_newer_version_is_refused(calibrate, calibrated, detector_dir: Path, capfd) -> None:
    manifest = json.loads((detector_dir / "manifest.json").read_text())
    (detector_dir / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 3}))
    assert calibrate(detector_dir, "--images", calibrated.images) == 2
    assert "has schema_version 3; this version reads 2: export the bundle with this version" in one_line(capfd)


def test_a_network_without_weights_is_refused(calibrate, calibrated, bundle_dir: Path, set_threshold, capfd) -> None:
    set_threshold(bundle_dir, 2.0)
    assert calibrate(bundle_dir, "--images", calibrated.images) == 2
    assert re.search(r"no convolution or matrix product with weights: stay with fp32$", one_line(capfd))


@pytest.mark.parametrize("size_bytes", [2**15, 2**16])
def test_a_full_disk_leaves_the_bundle(
    size_bytes: int, calibrate, calibrated, calibrated_dir: Path, limited_file_size, capfd
) -> None:
    """What comes first is too large, or the page after it."""
    before = contents(calibrated_dir)
    assert len(before["model.int8.onnx"]) < 2**16 < len(before["report.int8.html"])
    arguments = ("--images", calibrated.images, "--cache", calibrated.cache, *QUICK)
    with limited_file_size() as limit:
        limit(size_bytes)
        status = calibrate(calibrated_dir, *arguments)
    assert status == 2
    assert re.search(r"bundle '.*calibrated' cannot be written \(File too large\): check the dir", one_line(capfd))
    assert contents(calibrated_dir) == before


def test_a_cache_that_cannot_be_written_is_named(
    calibrate, calibrated, detector_dir: Path, limited_file_size, tmp_path: Path, capfd
) -> None:
    cache = tmp_path / "statistics"
    with limited_file_size() as limit:
        limit(2**12)
        status = calibrate(detector_dir, "--images", calibrated.images, "--cache", cache, *QUICK)
    assert status == 2
    assert re.search(r"statistics/.*\.npz' cannot be written \(File too large\): check the dir", one_line(capfd))
    assert list(cache.iterdir()) == []


def test_the_console_script_is_the_verb(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr(sys, "argv", ["calibrate-int8", "nowhere", "--images", "nowhere"])
    assert main() == 2
    assert one_line(capfd).startswith("tfanet-edge: 'nowhere' is not a bundle (no manifest.json)")


def test_without_onnx_the_extra_is_named(calibrate, detector_dir: Path, good_dir: Path, capfd, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("calibration.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert calibrate(detector_dir, "--images", good_dir) == 2
    line = one_line(capfd)
    assert "needs the Python package 'onnx'" in line
    assert "pip install 'tfanet-edge[training]'" in line
