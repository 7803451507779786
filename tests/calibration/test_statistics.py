import logging
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from calibration import statistics
from calibration.histogram import Histogram
from calibration.statistics import collect, statistics_key
from edge.errors import ConfigError, EngineError

TENSORS = ("level", "inner", "sum", "conv_2", "normed", "mixed", "rows")
COLLECT_AND_DIE = """
import itertools, os, signal, sys
from pathlib import Path
import numpy as np
import onnx
from calibration import statistics

statistics.SAVE_INTERVAL_S = 0
add, calls = statistics._add, itertools.count()

def add_five(*arguments):
    if next(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    add(*arguments)

statistics._add = add_five
folder = Path(sys.argv[1])
model, images = onnx.load(folder / "model.fp32.onnx"), np.load(folder / "images.npy")
statistics.collect(model, sys.argv[2:], images, folder / "s.npz")
"""


@pytest.fixture
def model(detector_dir: Path) -> onnx.ModelProto:
    return onnx.load(detector_dir / "model.fp32.onnx")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.repeat(np.repeat(rng.integers(0, 256, (9, 32, 32, 3), np.uint8), 8, axis=1), 8, axis=2)


def assert_same(one: dict[str, Histogram], other: dict[str, Histogram]) -> None:
    assert list(one) == list(other)
    for name, histogram in one.items():
        assert np.array_equal(histogram.counts, other[name].counts)
        assert (histogram.zeros, histogram.largest) == (other[name].zeros, other[name].largest)


def test_the_values_are_those_of_the_network_as_it_was_written(model: onnx.ModelProto, images: np.ndarray) -> None:
    found = collect(model, TENSORS, images)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in TENSORS)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for name, values in zip(TENSORS, session.run(TENSORS, {"image": images}), strict=True):
        histogram = found[name]
        magnitudes = np.abs(values.astype(np.float64))
        assert histogram.largest == pytest.approx(magnitudes.max(), rel=1e-4)
        assert histogram.total == values.size
        counts, _ = np.histogram(magnitudes, len(histogram.counts), (0, histogram.top))
        # Values that differ in their last digits cross an edge now and then.
        assert np.abs(np.cumsum(histogram.counts - counts)).max() < 1e-3 * values.size
    assert found["inner"].zeros > 0.2 * found["inner"].total


def test_the_model_is_left_as_it_was(model: onnx.ModelProto, images: np.ndarray) -> None:
    before = model.SerializeToString(deterministic=True)
    collect(model, TENSORS, images[:1])
    assert model.SerializeToString(deterministic=True) == before


def test_a_killed_run_is_resumed_and_gives_the_same(
    detector_dir: Path, model: onnx.ModelProto, images: np.ndarray
) -> None:
    whole = collect(model, TENSORS, images)
    store = detector_dir / "s.npz"
    np.save(detector_dir / "images.npy", images)
    command = [sys.executable, "-c", COLLECT_AND_DIE, str(detector_dir), *TENSORS]
    ended = subprocess.run(command, check=False, timeout=60, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    with np.load(store) as kept:
        assert kept["images"] == 5
    # Pictures that are in already are not looked at again.
    blank_first = np.concatenate([np.zeros_like(images[:5]), images[5:]])
    assert_same(collect(model, TENSORS, blank_first, store), whole)


def test_a_complete_store_is_returned_as_it_is(model: onnx.ModelProto, images: np.ndarray, tmp_path: Path) -> None:
    first = collect(model, TENSORS, images, tmp_path / "s.npz")
    model.graph.ClearField("node")
    assert_same(collect(model, TENSORS, images, tmp_path / "s.npz"), first)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "empty", "other bytes", "other tensors"])
def test_a_store_that_cannot_be_read_is_computed_again(
    model: onnx.ModelProto, images: np.ndarray, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "s.npz"
    whole = collect(model, TENSORS, images, store)
    content = store.read_bytes()
    middle = len(content) // 2
    if damage == "other tensors":
        collect(model, TENSORS[:2], images[:1], tmp_path / "other.npz")
        (tmp_path / "other.npz").replace(store)
    else:
        damaged = {
            "cut": content[:middle],
            "overwritten": content[:middle]
            + bytes(255 - byte for byte in content[middle:][:8])
            + content[middle + 8 :],
            "empty": b"",
            "other bytes": b"no statistics",
        }
        store.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert_same(collect(model, TENSORS, images, store), whole)
    assert str(store) in caplog.text
    caplog.clear()
    assert_same(collect(model, TENSORS, images, store), whole)
    assert not caplog.text


def test_it_saves_at_intervals(
    model: onnx.ModelProto, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(statistics, "_save", lambda store, count, histograms: written.append(count))
    collect(model, TENSORS, images, tmp_path / "s.npz")
    assert written == [9]
    monkeypatch.setattr(statistics, "SAVE_INTERVAL_S", 0)
    collect(model, TENSORS, images, tmp_path / "s.npz")
    assert written[1:] == list(range(1, 10))


def test_a_store_that_cannot_be_written(model: onnx.ModelProto, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        collect(model, TENSORS, images[:1], tmp_path / "missing" / "s.npz")


def test_what_is_not_finite_is_named_with_its_tensor(model: onnx.ModelProto, images: np.ndarray) -> None:
    (white,) = (tensor for tensor in model.graph.initializer if tensor.name == "white")
    white.CopyFrom(onnx.numpy_helper.from_array(np.float32(0).reshape(()), "white"))
    with pytest.raises(EngineError, match=r"tensor 'level': a value is (nan|inf)"):
        collect(model, ["level"], images[:1])


def test_a_network_that_cannot_run(model: onnx.ModelProto, images: np.ndarray) -> None:
    with pytest.raises(EngineError, match="cannot load the network"):
        collect(model, ["no such tensor"], images[:1])


def test_the_key_covers_everything() -> None:
    keys = {
        statistics_key(b"model", "a" * 64, ["x", "y"]),
        statistics_key(b"other", "a" * 64, ["x", "y"]),
        statistics_key(b"model", "b" * 64, ["x", "y"]),
        statistics_key(b"model", "a" * 64, ["y", "x"]),
        statistics_key(b"model", "a" * 64, ["xy"]),
    }
    assert len(keys) == 5
    assert statistics_key(b"model", "a" * 64, ("x", "y")) in keys
