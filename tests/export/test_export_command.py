"""`tfanet-edge export` from end to end: what it writes proves itself, what it refuses leaves everything as it was."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edge.bundle import file_sha256, load_bundle
from edge.verify import Proof, prove
from export import bundle as export_bundle
from export.bundle import LIMITS
from export.onnx_graph import weighted_nodes
from training.run import load_run


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert re.match("tfanet-edge( export)?: ", line)
    return line


@pytest.fixture
def older(exported, tmp_path: Path) -> Path:
    """A bundle that an export may replace."""
    return Path(shutil.copytree(exported.path, tmp_path / "bundle"))


@pytest.fixture
def converted(exported, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Spare the conversion of the network, the slow half: its result is there. Then do what is given."""

    def spare(afterwards: Callable[[], None] = lambda: None) -> None:
        def write(graph: object, path: Path) -> None:
            path.write_bytes((exported.path / "model.fp32.onnx").read_bytes())
            afterwards()

        monkeypatch.setattr(export_bundle, "write_onnx", write)

    spare()
    return spare


def test_every_variant_reproduces_the_golden_vectors(exported) -> None:
    bundle = load_bundle(exported.path)
    proofs = [proof for proof in prove(bundle, ["fp32", "fp16"]) if isinstance(proof, Proof)]
    assert [proof.is_ok for proof in proofs] == [True, True]
    assert len(bundle.golden().score) == 4
    assert 0 < proofs[1].result.map_error < 0.02


def test_half_precision_is_half_the_size(exported) -> None:
    sizes = [(exported.path / f"model.{precision}.onnx").stat().st_size for precision in ("fp16", "fp32")]
    assert sizes[0] <= 0.52 * sizes[1]
    variants = load_bundle(exported.path).manifest.variants
    assert [variants[precision].weights_dtype for precision in ("fp32", "fp16")] == ["float32", "float16"]


def test_the_manifest_says_where_everything_comes_from(exported, run_dir: Path) -> None:
    manifest, record = load_bundle(exported.path).manifest, load_run(run_dir).record
    assert (manifest.name, manifest.version) == ("washer", "1")
    assert (manifest.preset, manifest.backbone) == ("tiny", "resnet18")
    assert (manifest.score_rule, manifest.fusion) == (record.settings.score_rule, record.settings.network.fusion)
    provenance = manifest.provenance
    assert (provenance.command, provenance.code_version) == (record.command, record.code_version)
    assert (provenance.seed, provenance.epochs, provenance.train_images) == (record.settings.seed, 1, 6)
    assert provenance.train_data_sha256 == record.data_sha256
    assert provenance.backbone_weights == record.backbone_weights
    assert provenance.backbone_weights.startswith("resnet18.pth sha256")
    assert manifest.golden.reference.startswith("PyTorch ")


def test_both_variants_were_compared_on_good_parts_and_damaged_ones(exported) -> None:
    manifest = load_bundle(exported.path).manifest
    for precision, reference in (("fp32", "PyTorch"), ("fp16", "fp32")):
        parity = manifest.variants[precision].parity
        assert parity is not None
        assert (parity.reference, parity.images, parity.flips) == (reference, 4, 0)
        assert parity.threshold == manifest.image_threshold.value
        assert parity.data_sha256 == manifest.image_threshold.data_sha256
        assert parity.map_error <= LIMITS[precision].map_error
        assert parity.score_correlation is not None
        assert parity.score_correlation > 0.99


def test_a_threshold_from_too_few_parts_is_told_of(exported) -> None:
    limit = load_bundle(exported.path).manifest.image_threshold
    assert (limit.n, limit.false_reject_rate) == (2, 0.01)
    assert limit.guaranteed_rate == pytest.approx(1 / 3)
    assert "from 2 held-out good parts\ntoo few for the 1.00% asked for: hold out 99\n" in exported.out


def test_what_is_ignored_and_cut_out_is_what_the_run_said(exported) -> None:
    bundle = load_bundle(exported.path)
    settings = bundle.manifest.preprocessing
    assert (settings.roi_xywh, settings.white_level) == ((8, 4, 104, 88), 200.0)
    # Columns from 86 on are ignored: 78 of the region's 104, which become 256.
    first = round(256 * 78 / 104)
    for precision in ("fp32", "fp16"):
        file = exported.path / bundle.variant(precision).file
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (maps,) = session.run(["anomaly_map"], {"image": bundle.golden().image})
        assert (maps[:, :, first:] == 0).all()
        assert (maps[:, :, : first - 1] > 0).all()


def test_the_images_were_read_as_the_settings_say(exported, product: Path) -> None:
    template = cv2.imread(str(exported.path / "template.png"))
    part = cv2.imread(str(product / "train/good/0.png"))[4:92, 8:86].astype(np.float64) * 255 / 200
    # The mean of what is not ignored.
    assert abs(float(template[:, :190].mean()) - float(np.clip(part, 0, 255).mean())) < 1


def test_the_page_is_a_file_of_the_bundle(exported) -> None:
    files = load_bundle(exported.path).manifest.files
    assert files["report.html"] == file_sha256(exported.path / "report.html")
    assert files.keys() | {"manifest.json"} == {path.name for path in exported.path.iterdir()}
    page = (exported.path / "report.html").read_text(encoding="utf-8")
    assert "washer 1: does this bundle compute what was trained?" in page


def test_nothing_but_our_own_lines_is_printed(exported) -> None:
    assert exported.err == ""
    header, fp32, fp16, *_, last = exported.out.splitlines()
    assert header.split()[:3] == ["size", "map", "error"]
    assert re.fullmatch(r"fp32 .* MB .*% .*% +0 of 4  PyTorch", fp32)
    assert re.fullmatch(r"fp16 .* MB .*% .*% +0 of 4  fp32", fp16)
    assert last == f"bundle: {exported.path}"


def test_an_older_bundle_is_replaced(export, converted, run_dir: Path, older: Path, exported) -> None:
    (older / "report.int8.html").write_text("of another time")
    assert export(run_dir, "--out", older, "--name", "other", "--version", "2.1", "--false-reject-rate", 0.4) == 0
    manifest = load_bundle(older).manifest
    assert (manifest.name, manifest.version) == ("other", "2.1")
    assert manifest.image_threshold.guaranteed_rate == pytest.approx(1 / 3)
    assert {path.name for path in older.iterdir()} == {path.name for path in exported.path.iterdir()}
    assert list(older.parent.iterdir()) == [older]
    assert (older / "golden.npz").read_bytes() == (exported.path / "golden.npz").read_bytes()


def test_the_images_may_have_moved(export, converted, run_dir: Path, product: Path, tmp_path: Path, capfd) -> None:
    moved = shutil.copytree(run_dir, tmp_path / "run")
    record = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps(record | {"data": str(tmp_path / "gone")}))
    assert export(moved, "--out", tmp_path / "bundle") == 2
    assert re.search(r"gone' cannot be read .*: check the path$", one_line(capfd))
    assert not (tmp_path / "bundle").exists()
    assert export(moved, "--out", tmp_path / "bundle", "--data", product) == 0
    load_bundle(tmp_path / "bundle")


def test_a_directory_of_something_else_is_left_alone(export, run_dir: Path, tmp_path: Path, capfd) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.png").write_bytes(b"sea")
    (tmp_path / "file").write_text("a file")
    before = contents(tmp_path)
    for name in ("photos", "file"):
        assert export(run_dir, "--out", tmp_path / name) == 2
        assert re.search(rf"{name}' exists and is no bundle: give another directory with --out$", one_line(capfd))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "nowhere"], r"nowhere' cannot be read .*: check the path"),
        (["--data", "{other}"], r"other' is not what '.*run' was trained on: give its images with --data"),
        (["--false-reject-rate", "1"], "'1' is not a number between 0 and 1"),
        (["--pixel-share", "a"], "'a' is not a number between 0 and 1"),
        (["--name", "n" * 65], r"'n+' has 65 characters, 1 to 64 may be: give another with --name"),
        (["--version", ""], r"'' has 0 characters, 1 to 32 may be: give another with --version"),
        (["--out", "/dev/null/bundle"], r"/dev/null/bundle' cannot be written \(Not a directory\)"),
    ],
)
def test_one_line_says_what_is_wrong(options, words, export, run_dir, product, older, tmp_path, capfd) -> None:
    before = contents(older)
    other = shutil.copytree(product / "train", tmp_path / "other" / "train").parent
    (other / "train" / "good" / "7.png").unlink()
    capfd.readouterr()
    assert export(run_dir, "--out", older, *(option.format(other=other) for option in options)) == 2
    assert re.search(words, one_line(capfd))
    assert contents(older) == before


def test_a_run_has_to_be_trained_and_to_have_held_parts_back(export, run_dir: Path, tmp_path: Path, capfd) -> None:
    copy = shutil.copytree(run_dir, tmp_path / "run")
    record = json.loads((copy / "run.json").read_text())
    record["settings"]["data"]["held_out_share"] = 0.0
    (copy / "run.json").write_text(json.dumps(record))
    assert export(copy, "--out", tmp_path / "bundle") == 2
    assert re.search(r"held no good parts back, .*: train with --held-out-share 0\.1$", one_line(capfd))
    (copy / "network.pth").unlink()
    assert export(copy, "--out", tmp_path / "bundle") == 2
    assert re.search(r"has no trained network yet: go on with the training: tfanet-edge train$", one_line(capfd))
    assert export(tmp_path, "--out", tmp_path / "bundle") == 2
    assert re.search(r"is no training run \(it has no run\.json\)", one_line(capfd))
    assert not (tmp_path / "bundle").exists()


def test_a_variant_that_computes_something_else_is_refused(
    export, converted, run_dir: Path, older: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    before = contents(older.parent)

    def spoilt(model: onnx.ModelProto) -> onnx.ModelProto:
        half = true_half(model)
        name = weighted_nodes(half)[0].input[1]
        (stem,) = (tensor for tensor in half.graph.initializer if tensor.name == name)
        stem.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(stem)[::-1], name))
        return half

    true_half = export_bundle.to_half
    monkeypatch.setattr(export_bundle, "to_half", spoilt)
    assert export(run_dir, "--out", older) == 3
    line = one_line(capfd)
    assert re.search(
        r"fp16 differs from fp32: maps by [\d.]+% \(limit 2\.00%\), scores by .*nothing was exported; report", line
    )
    assert contents(older.parent) == before


def test_the_limits_decide(export, converted, run_dir: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    strict = {"fp32": replace(LIMITS["fp32"], map_error=0.0), "fp16": LIMITS["fp16"]}
    monkeypatch.setattr(export_bundle, "LIMITS", MappingProxyType(strict))
    assert export(run_dir, "--out", tmp_path / "bundle") == 3
    assert re.search(r"fp32 differs from PyTorch: maps by 0\.00% \(limit 0\.00%\)", one_line(capfd))
    of_verdicts = {"fp32": LIMITS["fp32"], "fp16": replace(LIMITS["fp16"], flip_share=-1.0)}
    monkeypatch.setattr(export_bundle, "LIMITS", MappingProxyType(of_verdicts))
    assert export(run_dir, "--out", tmp_path / "bundle") == 3
    assert re.search(r"verdicts \(-\d+\): nothing was exported; the scores lie too close .* train for", one_line(capfd))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full_after_fp32", [False, True])
def test_a_full_disk_leaves_the_old_bundle(
    full_after_fp32: bool, export, converted, limited_file_size, run_dir: Path, older: Path, capfd
) -> None:
    before = contents(older.parent)
    with limited_file_size() as limit:
        if full_after_fp32:
            converted(lambda: limit(2**20))
        else:
            limit(2**20)
        status = export(run_dir, "--out", older)
    assert status == 2
    assert re.search(r"bundle '.*bundle' cannot be written \(File too large\): check the directory", one_line(capfd))
    assert contents(older.parent) == before
