import json
import shutil

import numpy as np
import pytest

from edge.bundle import load_bundle
from edge.errors import BundleError
from edge.manifest import MANIFEST_NAME


def change_manifest(bundle_dir, **changes):
    path = bundle_dir / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_sound_bundle_loads(bundle_dir):
    bundle = load_bundle(bundle_dir)
    assert bundle.manifest.name == "brightness"
    assert bundle.golden().image.shape == (2, 256, 256, 3)


def test_a_directory_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"is not a bundle \(no manifest\.json\): give the directory"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.fp32.onnx", "golden.npz", "template.png"])
def test_one_changed_byte_is_found(bundle_dir, name):
    path = bundle_dir / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}' was changed \(sha256"):
        load_bundle(bundle_dir)


def test_a_missing_file_is_named(bundle_dir):
    (bundle_dir / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden\.npz' is missing: copy the whole"):
        load_bundle(bundle_dir)


def test_another_schema_is_refused_with_both_versions(bundle_dir):
    change_manifest(bundle_dir, schema_version=3)
    with pytest.raises(BundleError, match="schema_version 3; this version reads 2"):
        load_bundle(bundle_dir)


@pytest.mark.parametrize("text", ["", "[]", "{", '"manifest"'])
def test_a_manifest_that_is_none_is_refused(bundle_dir, text):
    (bundle_dir / MANIFEST_NAME).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST_NAME):
        load_bundle(bundle_dir)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extra": 1}, "extra"),
        ({"score_rule": "median"}, "score_rule"),
        ({"variants": {}}, "variants"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "without a sha256"),
    ],
)
def test_a_manifest_with_a_wrong_entry_names_it(bundle_dir, changes, words):
    change_manifest(bundle_dir, **changes)
    with pytest.raises(BundleError, match=words):
        load_bundle(bundle_dir)


def test_a_file_outside_the_bundle_is_never_opened(bundle_dir):
    files = json.loads((bundle_dir / MANIFEST_NAME).read_text())["files"]
    shutil.copy(bundle_dir / "template.png", bundle_dir.parent / "template.png")
    change_manifest(bundle_dir, files=files | {"../template.png": files["template.png"]})
    with pytest.raises(BundleError, match="outside the bundle"):
        load_bundle(bundle_dir)


def test_golden_vectors_that_are_incomplete_are_refused(bundle_dir):
    bundle = load_bundle(bundle_dir)
    np.savez(bundle_dir / "golden.npz", image=np.zeros(1))
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.golden()
