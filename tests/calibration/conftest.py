"""A bundle around a small network of TFA-Net's shape: convolutions with a residual, attention, a smoothed map."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from edge.bundle import hash_files, write_manifest
from edge.manifest import Manifest

NETWORK = """
<ir_version: 9, opset_import: ["": 17]>
detector (uint8[N, 256, 256, 3] image) => (float[N, 256, 256] anomaly_map, float[N] score) {
    pixels = Cast <to = 1> (image)
    planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
    unit = Div (planes, white)
    stem = Conv <strides = [16, 16]> (unit, stem_w, bias_8)
    level = Relu (stem)
    conv_1 = Conv <pads = [1, 1, 1, 1]> (level, conv_1_w, bias_8)
    inner = Relu (conv_1)
    conv_2 = Conv <pads = [1, 1, 1, 1]> (inner, conv_2_w, bias_8)
    sum = Add (conv_2, level)
    last = Relu (sum)
    features = Concat <axis = 1> (level, last)
    cells = Reshape (features, cells_shape)
    tokens = Transpose <perm = [0, 2, 1]> (cells)
    normed = LayerNormalization <axis = -1> (tokens, gamma, bias_16)
    q_product = MatMul (normed, q_w)
    q = Add (q_product, bias_16)
    k = MatMul (normed, k_w)
    v = MatMul (normed, v_w)
    k_t = Transpose <perm = [0, 2, 1]> (k)
    logits = MatMul (q, k_t)
    attention = Softmax <axis = -1> (logits)
    mixed = MatMul (attention, v)
    proj_float = Cast <to = 1> (proj_half)
    proj_w = Transpose <perm = [1, 0]> (proj_float)
    proj = MatMul (mixed, proj_w)
    stream = Add (tokens, proj)
    rows = Reshape (stream, rows_shape)
    head = Gemm <transB = 1> (rows, head_w, bias_16)
    prediction = Reshape (head, tokens_shape)
    difference = Sub (tokens, prediction)
    squared = Mul (difference, difference)
    distance = ReduceSum <keepdims = 0> (squared, channel_axis)
    grid = Reshape (distance, grid_shape)
    down = MatMul (smoothing, grid)
    smoothing_t = Transpose <perm = [1, 0]> (smoothing)
    anomaly_map = MatMul (down, smoothing_t)
    score = ReduceMax <axes = [1, 2], keepdims = 0> (anomaly_map)
}
"""


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)

    return {
        "white": np.float32(255).reshape(()),
        "stem_w": drawn(8, 3, 16, 16),
        "conv_1_w": drawn(8, 8, 3, 3),
        "conv_2_w": drawn(8, 8, 3, 3),
        "bias_8": drawn(8),
        "bias_16": drawn(16) / 10,
        "gamma": np.ones(16, np.float32),
        **{name: drawn(16, 16) for name in ("q_w", "k_w", "v_w", "head_w")},
        "proj_half": drawn(16, 16).astype(np.float16),
        "smoothing": np.repeat(np.eye(16, dtype=np.float32), 16, axis=0),
        "cells_shape": np.array([0, 16, 256]),
        "rows_shape": np.array([-1, 16]),
        "tokens_shape": np.array([-1, 256, 16]),
        "grid_shape": np.array([-1, 16, 16]),
        "channel_axis": np.array([2]),
    }


@pytest.fixture(scope="session")
def detector(read_only_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle around the network, its threshold a little above the good parts' scores; for reading only."""
    directory = shutil.copytree(read_only_bundle_dir, tmp_path_factory.mktemp("bundles") / "detector")
    model = onnx.parser.parse_model(NETWORK)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights().items())
    onnx.checker.check_model(model)
    onnx.save(model, directory / "model.fp32.onnx")
    session = ort.InferenceSession(str(directory / "model.fp32.onnx"), providers=["CPUExecutionProvider"])
    images = np.stack([picture(seed) for seed in range(100, 104)])
    anomaly_map, score = session.run(None, {"image": images})
    np.savez(directory / "golden.npz", image=images, anomaly_map=anomaly_map, score=score)
    rewrite(directory, 1.05 * float(score.max()))
    return directory


@pytest.fixture
def detector_dir(detector: Path, tmp_path: Path) -> Path:
    """A fresh one."""
    return Path(shutil.copytree(detector, tmp_path / "detector"))


def picture(seed: int) -> np.ndarray:
    """uint8 (256, 256, 3): a part of soft blobs, the same each time but for the light and noise."""
    rng = np.random.default_rng(seed)
    coarse = np.random.default_rng(0).integers(40, 216, (8, 8, 3), dtype=np.uint8)
    blobs = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    return np.clip(blobs * rng.uniform(0.95, 1.05) + rng.normal(0, 3, blobs.shape), 0, 255).astype(np.uint8)


def rewrite(directory: Path, threshold: float) -> None:
    """A manifest that fits the files, with that image threshold."""
    manifest = Manifest.model_validate_json((directory / "manifest.json").read_text())
    limit = manifest.image_threshold.model_copy(update={"value": threshold})
    files = hash_files(directory, list(manifest.files))
    write_manifest(directory, manifest.model_copy(update={"image_threshold": limit, "files": files}))


@pytest.fixture
def set_threshold() -> Callable[[Path, float], None]:
    """Give a bundle another threshold, and its files the hashes that they have now."""
    return rewrite


def write_good(directory: Path) -> Path:
    """Ten good parts as a camera, a phone and a microscope would leave them, and a file that is no image."""
    directory.mkdir()
    for seed in range(10):
        image = picture(seed)
        if seed == 1:
            image = image.astype(np.uint16) * 257
        if seed == 2:
            image = cv2.resize(image, (320, 240))
        cv2.imwrite(str(directory / f"part_{seed}.{'jpg' if seed == 3 else 'png'}"), image[..., ::-1])
    (directory / "notes.txt").write_text("taken on Monday")
    return directory


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    """Good parts of which a test may take some away."""
    return write_good(tmp_path / "good")


@pytest.fixture
def calibrate(verb: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the verb with a cache of its own; returns its exit status."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return partial(verb, "calibrate-int8")


class Calibrated(NamedTuple):
    """A bundle before and after, the images, and what the command printed; for reading only."""

    before: Path
    path: Path
    images: Path
    cache: Path
    out: str
    err: str


@pytest.fixture(scope="session")
def calibrated(detector: Path, verb: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """With wide limits: on twenty images one pair that swaps places is much."""
    root = tmp_path_factory.mktemp("calibrated")
    path, images = Path(shutil.copytree(detector, root / "detector")), write_good(root / "good")
    limits = ("--max-swaps", 0.2, "--max-auroc-drop", 0.2, "--max-aupro-drop", 0.05)
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        status = verb("calibrate-int8", path, "--images", images, "--cache", root / "cache", *limits)
    assert status == 0, err.getvalue()
    return Calibrated(detector, path, images, root / "cache", out.getvalue(), err.getvalue())
