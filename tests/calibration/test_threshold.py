"""`threshold fit` and `threshold show` from end to end, with ONNX Runtime."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from calibration.fitting import fit, refuse_seen
from calibration.images import read_images
from edge.bundle import hash_files, load_bundle, write_manifest
from edge.errors import ImageError
from edge.manifest import Manifest, Parity
from training.data.good_parts import load_good_parts
from training.data.settings import DataSettings
from training.image_sets import images_sha256
from training.thresholds import image_threshold, pixel_threshold

Fit = Callable[..., int]
NO_SHA = "0" * 64


@pytest.fixture
def threshold(verb: Fit) -> Fit:
    """Run the verb; returns its exit status."""
    return partial(verb, "threshold")


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def outputs(directory: Path, images: np.ndarray, file: str = "model.fp32.onnx") -> tuple[np.ndarray, np.ndarray]:
    session = ort.InferenceSession(str(directory / file), providers=["CPUExecutionProvider"])
    maps, scores = session.run(["anomaly_map", "score"], {"image": images})
    return maps, scores


def change(directory: Path, **update: object) -> None:
    manifest = load_bundle(directory).manifest.model_copy(update=update)
    names = [*manifest.files, *(variant.file for variant in manifest.variants.values())]
    files = hash_files(directory, sorted(set(names)))
    write_manifest(directory, manifest.model_copy(update={"files": files}))


def test_both_thresholds_are_fitted_and_nothing_else_changes(
    threshold: Fit, detector_dir: Path, good_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, old = contents(detector_dir), load_bundle(detector_dir).manifest
    assert threshold("fit", detector_dir, "--images", good_dir, "--false-reject-rate", "0.2") == 0
    out, err = capfd.readouterr()
    assert err == "", "no progress bar where nobody looks, and no warning"
    after, new = contents(detector_dir), load_bundle(detector_dir).manifest
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}

    images = read_images(good_dir, old.preprocessing, None)
    maps, scores = outputs(detector_dir, images)
    sha256 = images_sha256(images)
    expected = image_threshold(scores, 0.2, sha256)
    assert new.image_threshold.value == pytest.approx(expected.value, rel=1e-6)
    assert new.image_threshold.model_copy(update={"value": expected.value}) == expected
    of_pixels = pixel_threshold(maps, 0.2, sha256, 1e-3)
    assert new.pixel_threshold.value == pytest.approx(of_pixels.value, rel=1e-6)
    assert new.pixel_threshold.model_copy(update={"value": of_pixels.value}) == of_pixels
    fitted = {"image_threshold": new.image_threshold, "pixel_threshold": new.pixel_threshold}
    assert old.model_copy(update=fitted) == new

    assert re.search(rf"image threshold +{old.image_threshold.value:.6g} +{new.image_threshold.value:.6g}\n", out)
    assert re.search(r"guaranteed on average +1 % +18\.2 %\n", out)
    assert re.search(r"held-out good parts +100 +10\n", out)
    assert re.search(r"share of a part's pixels +0\.1 % +0\.1 %\n", out)


def test_fitting_again_changes_nothing(threshold: Fit, detector_dir: Path, good_dir: Path) -> None:
    options = ["--false-reject-rate", "0.2", "--pixel-share", "0.01"]
    assert threshold("fit", detector_dir, "--images", good_dir, *options) == 0
    first = contents(detector_dir)
    assert load_bundle(detector_dir).manifest.pixel_threshold.pixel_share == 0.01
    assert threshold("fit", detector_dir, "--images", good_dir, *options) == 0
    assert contents(detector_dir) == first


def test_too_few_parts_are_said_with_what_they_guarantee(
    threshold: Fit, detector_dir: Path, good_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert threshold("fit", detector_dir, "--images", good_dir) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line == (
        "tfanet-edge: warning: 10 good parts are too few for a false-reject rate of 1 %, 99 are needed: "
        "only 9.09 % is guaranteed"
    )
    fitted = load_bundle(detector_dir).manifest.image_threshold
    assert (fitted.false_reject_rate, fitted.guaranteed_rate, fitted.n) == (0.01, 1 / 11, 10)


def test_labelled_defects_are_counted_and_move_nothing(
    threshold: Fit, detector_dir: Path, good_dir: Path, product: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert threshold("fit", detector_dir, "--images", good_dir) == 0
    without = contents(detector_dir)
    assert "labelled" not in capfd.readouterr().out
    assert threshold("fit", detector_dir, "--images", good_dir, "--defects", product) == 0
    assert contents(detector_dir) == without
    out = capfd.readouterr().out
    limit = load_bundle(detector_dir).manifest.image_threshold.value
    inputs = {"good": [], "defective": []}
    for path in sorted((product / "test").rglob("*.png")):
        image = cv2.imread(str(path))[..., ::-1]
        sized = cv2.resize(np.ascontiguousarray(image), (256, 256), interpolation=cv2.INTER_LINEAR)
        inputs["good" if path.parent.name == "good" else "defective"].append(sized)
    missed = int((outputs(detector_dir, np.stack(inputs["defective"]))[1] < limit).sum())
    rejected = int((outputs(detector_dir, np.stack(inputs["good"]))[1] >= limit).sum())
    # Clopper and Pearson's interval of 0 of 4 and of 0 of 2.
    upper = {0: {4: "60.2", 2: "84.2"}}
    assert re.search(rf"defective parts missed .* {missed} of 4, 95 % in .*\n", out)
    assert re.search(rf"good parts rejected .* {rejected} of 2, 95 % in .*", out)
    for count, total in ((missed, 4), (rejected, 2)):
        if count in upper:
            assert f"0 of {total}, 95 % in 0 to {upper[count][total]} %" in out


def parity(flips: int) -> Parity:
    return Parity(
        reference="old",
        images=3,
        data_sha256=NO_SHA,
        map_error=0.5,
        score_error=0.5,
        score_correlation=None,
        threshold=0.5,
        flips=flips,
    )


def test_a_parity_stays_and_names_the_threshold_it_was_measured_at(detector_dir: Path, good_dir: Path) -> None:
    variant = load_bundle(detector_dir).variant("fp32").model_copy(update={"parity": parity(2)})
    change(detector_dir, variants={"fp32": variant})
    bundle = load_bundle(detector_dir)
    manifest = fit(bundle, read_images(good_dir, bundle.manifest.preprocessing, None), 0.2, 1e-3)
    assert manifest.variants["fp32"].parity == parity(2)
    assert manifest.image_threshold.value != parity(2).threshold


def trained_on(directory: Path, sha256: str) -> None:
    provenance = load_bundle(directory).manifest.provenance
    change(directory, provenance=provenance.model_copy(update={"train_data_sha256": sha256}))


def test_what_the_network_was_trained_on_is_refused(
    threshold: Fit, detector_dir: Path, product: Path, good_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trained_on(detector_dir, load_good_parts(product, DataSettings(), seed=0).sha256)
    for directory in (product, product / "train" / "good"):
        assert threshold("fit", detector_dir, "--images", directory) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.endswith(
            f"was trained on the images in '{directory}': give pictures of good parts that were held out"
        )
    images = read_images(good_dir, load_bundle(detector_dir).manifest.preprocessing, None)
    assert threshold("fit", detector_dir, "--images", good_dir) == 0
    trained_on(detector_dir, images_sha256(images))
    assert threshold("fit", detector_dir, "--images", good_dir) == 2


def test_what_int8_was_calibrated_on_is_refused(calibrated) -> None:
    manifest = load_bundle(calibrated.path).manifest
    images = read_images(calibrated.images, manifest.preprocessing, None)
    refuse_seen(calibrated.images, images[1:], manifest)
    with pytest.raises(ImageError, match=r"the int8 variant was calibrated on the images in .*: give pictures"):
        refuse_seen(calibrated.images, images, manifest)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images", "nowhere"], "nowhere' cannot be read .*: check the path"),
        (["--images", "{empty}"], "is no product: .*no image in the directory itself"),
        (["--images", "{good}", "--false-reject-rate", "0"], "'0' is not a number between 0 and 1"),
        (["--images", "{good}", "--false-reject-rate", "1"], "'1' is not a number between 0 and 1"),
        (["--images", "{good}", "--pixel-share", "nan"], "'nan' is not a number between 0 and 1"),
        (["--images", "{good}", "--defects", "{good}"], "has no test images"),
        (["--images", "{good}", "--fales-reject-rate", "0.1"], "did you mean '--false-reject-rate'"),
        ([], "--images"),
    ],
)
def test_one_line_says_what_is_wrong(
    threshold: Fit,
    detector_dir: Path,
    good_dir: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    before = contents(detector_dir)
    arguments = [option.format(good=good_dir, empty=tmp_path / "empty") for option in options]
    assert threshold("fit", detector_dir, *arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(words, line)
    assert contents(detector_dir) == before


def test_an_unreadable_image_is_named(
    threshold: Fit, detector_dir: Path, good_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (good_dir / "part_4.png").write_bytes(b"not a picture")
    assert threshold("fit", detector_dir, "--images", good_dir) == 2
    assert re.search(r"part_4\.png' cannot be read: replace it\n", capfd.readouterr().err)


def test_what_is_no_bundle_or_was_altered_is_refused(
    threshold: Fit, detector_dir: Path, good_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert threshold("fit", good_dir, "--images", good_dir) == 2
    assert "is not a bundle (no manifest.json)" in capfd.readouterr().err
    (detector_dir / "template.png").write_bytes(b"")
    for arguments in (("show", detector_dir), ("fit", detector_dir, "--images", good_dir)):
        assert threshold(*arguments) == 2
        assert "template.png' was changed" in capfd.readouterr().err


def test_an_engine_that_contradicts_the_vectors_fits_nothing(
    threshold: Fit, detector_dir: Path, good_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    golden = dict(np.load(detector_dir / "golden.npz"))
    np.savez(detector_dir / "golden.npz", **(golden | {"score": 1.01 * golden["score"]}))
    content = json.loads((detector_dir / "manifest.json").read_text())
    content["files"] |= hash_files(detector_dir, ["golden.npz"])
    write_manifest(detector_dir, Manifest.model_validate(content))
    before = contents(detector_dir)
    assert threshold("fit", detector_dir, "--images", good_dir) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "the fp32 engine contradicts the golden vectors" in line
    assert contents(detector_dir) == before


def test_a_full_disk_leaves_the_bundle_as_it_was(
    threshold: Fit, detector_dir: Path, good_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = contents(detector_dir)
    (detector_dir / ".manifest.json.tmp").symlink_to("/dev/full")
    assert threshold("fit", detector_dir, "--images", good_dir) == 2
    assert re.search(r"manifest\.json' cannot be written \(No space left on device\): check", capfd.readouterr().err)
    assert contents(detector_dir) == before


def test_show(threshold: Fit, detector_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert threshold("show", detector_dir) == 0
    out = capfd.readouterr().out
    assert re.search(r"^image threshold +\d", out)
    assert re.search(r"90 % interval +0 to 3 %\n", out)
    assert threshold("show", detector_dir, "--json") == 0
    manifest = load_bundle(detector_dir).manifest
    assert json.loads(capfd.readouterr().out) == {
        "image_threshold": manifest.image_threshold.model_dump(mode="json"),
        "pixel_threshold": manifest.pixel_threshold.model_dump(mode="json"),
    }
