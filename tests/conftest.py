"""What tests of several packages share: a small bundle whose answers can be worked out by hand, a small product."""

from __future__ import annotations

import hashlib
import importlib.util
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper

from edge import cli
from edge.bundle import hash_files, write_manifest
from edge.engines import trt_compat
from edge.manifest import Golden, Manifest, Normalisation, PixelThreshold, Preprocessing, Provenance, Threshold, Variant

pytest_plugins = ("driver", "harness", "played_gpu")

# Two shared cores make single examples slow at times; that says nothing about the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

SIDE_PX = 256


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, then the files with something slow in them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, item.path not in slow))


def brightness_network() -> onnx.ModelProto:
    """anomaly_map = mean of the channels / 255; score = its maximum."""
    batch = "N"
    nodes = [
        helper.make_node("Cast", ["image"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float"], ["grey"], axes=[3], keepdims=0),
        helper.make_node("Div", ["grey", "white"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, SIDE_PX, SIDE_PX, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [batch, SIDE_PX, SIDE_PX]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch]),
        ],
        [helper.make_tensor("white", TensorProto.FLOAT, [], [255.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def write_bundle(directory: Path) -> Path:
    """A bundle around the brightness network: NG from 0.9 upwards, defects where the map reaches 0.8."""
    directory.mkdir(parents=True)
    onnx.save(brightness_network(), directory / "model.fp32.onnx")
    image = np.random.default_rng(0).integers(0, 256, (2, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    anomaly_map = image.mean(axis=3, dtype=np.float64).astype(np.float32) / np.float32(255)
    np.savez(directory / "golden.npz", image=image, anomaly_map=anomaly_map, score=anomaly_map.max(axis=(1, 2)))
    cv2.imwrite(str(directory / "template.png"), image[0])
    data_sha256 = hashlib.sha256(b"no data").hexdigest()
    fitted = {
        "false_reject_rate": 0.01,
        "guaranteed_rate": 0.01,
        "interval": (0.0, 0.03),
        "n": 100,
        "data_sha256": data_sha256,
    }
    write_manifest(
        directory,
        Manifest(
            schema_version=2,
            name="brightness",
            version="1",
            detector="tfanet",
            preset="tiny",
            backbone="resnet18",
            preprocessing=Preprocessing(input_size_px=(SIDE_PX, SIDE_PX)),
            normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
            score_rule="max",
            fusion="direction",
            image_threshold=Threshold(value=0.9, **fitted),
            pixel_threshold=PixelThreshold(value=0.8, pixel_share=0.001, **fitted),
            template="template.png",
            golden=Golden(file="golden.npz", reference="numpy"),
            variants={
                "fp32": Variant(
                    file="model.fp32.onnx",
                    opset=17,
                    weights_dtype="float32",
                    map_tolerance=1e-5,
                    score_tolerance=1e-5,
                )
            },
            provenance=Provenance(
                command="none",
                code_version="test",
                seed=0,
                epochs=1,
                train_images=1,
                train_data_sha256=data_sha256,
                backbone_weights="none",
            ),
            files=dict(hash_files(directory, ["model.fp32.onnx", "golden.npz", "template.png"])),
        ),
    )
    return directory


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    """A fresh bundle that a test may damage."""
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def read_only_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, made once."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture(scope="session")
def backbone_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a backbone that was never trained."""
    import torch

    from training.networks.backbones import build_backbone

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(build_backbone("resnet18").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good parts to train on; to test with two good ones, two scratches, two stains of which one has no mask."""
    root, size_px = tmp_path_factory.mktemp("data") / "washer", (96, 120)
    rng = np.random.default_rng(0)

    def part() -> np.ndarray:
        image = np.full((*size_px, 3), 120, np.uint8)
        cv2.circle(image, (60, 48), 36, (170, 170, 165), -1)
        cv2.circle(image, (60, 48), 14, (70, 70, 75), -1)
        return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)

    def write(name: str, image: np.ndarray) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), image)

    for index in range(8):
        write(f"train/good/{index}.png", part())
    for index in range(2):
        write(f"test/good/{index}.png", part())
        scratched, mask = part(), np.zeros(size_px, np.uint8)
        for image, colour in ((scratched, (20, 20, 20)), (mask, 255)):
            cv2.line(image, (30, 30 + 20 * index), (55, 60), colour, 3)
        write(f"test/scratch/{index}.png", scratched)
        write(f"ground_truth/scratch/{index}_mask.png", mask)
        stained, mask = part(), np.zeros(size_px, np.uint8)
        for image, colour in ((stained, (60, 90, 200)), (mask, 255)):
            cv2.circle(image, (80, 40 + 10 * index), 7, colour, -1)
        write(f"test/stain/{index}.png", stained)
        if index:
            write(f"ground_truth/stain/{index}_mask.png", mask)
    return root


@pytest.fixture
def limited_file_size() -> Callable[[], AbstractContextManager[Callable[[int], None]]]:
    """Within it, what it gives makes the system refuse to write more into a file, as a full disk does.

    It must end before the test does: its reporter may write into a file as well.
    """

    @contextmanager
    def limited() -> Iterator[Callable[[int], None]]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            # Python ignores the signal that comes with it.
            yield lambda size_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def verb() -> Callable[..., int]:
    """Run `tfanet-edge` with these arguments as a shell would; returns its exit status."""

    def run(*arguments: object) -> int:
        try:
            return cli.main([*map(str, arguments)])
        except SystemExit as end:
            return int(end.code or 0)

    return run


@pytest.fixture
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in for TensorRT as the module `tensorrt`, fresh; what imported it is forgotten before and after."""
    source = Path(__file__).parent / "fakes" / "tensorrt" / "__init__.py"
    spec = importlib.util.spec_from_file_location("tensorrt", source, submodule_search_locations=[str(source.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    def forget() -> None:
        trt_compat.logger.cache_clear()
        for name, loaded in [*sys.modules.items()]:
            is_ours = name.startswith(("edge.", "export."))
            if name == "tensorrt.plans" or (is_ours and "trt" in vars(loaded)):
                del sys.modules[name]

    forget()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    spec.loader.exec_module(module)
    yield module
    forget()
    assert module.fake.errors == []
