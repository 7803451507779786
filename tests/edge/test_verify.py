"""`verify`: a bundle that is whole and right passes, and one line says what is wrong with any other."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge import cli
from edge.bundle import hash_files, load_bundle, write_manifest
from edge.manifest import Manifest
from edge.verify import Proof, prove


@pytest.fixture
def verify(capfd):
    """Exit status, standard output, standard error."""

    def run(*arguments):
        try:
            status = cli.main(["verify", *map(str, arguments)])
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


def change(directory, **update):
    """A manifest with these fields, and hashes that fit the files again."""
    manifest = Manifest.model_validate_json((directory / "manifest.json").read_text()).model_copy(update=update)
    names = {"golden.npz", "template.png", *(variant.file for variant in manifest.variants.values())}
    write_manifest(directory, manifest.model_copy(update={"files": hash_files(directory, sorted(names))}))


@pytest.fixture
def two_variants(bundle_dir):
    """A second variant that calls white 250 instead of 255."""
    model = onnx.load(bundle_dir / "model.fp32.onnx")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(250).reshape(()), "white"))
    onnx.save(model, bundle_dir / "model.fp16.onnx")
    fp32 = load_bundle(bundle_dir).variant("fp32")
    fp16 = fp32.model_copy(update={"file": "model.fp16.onnx", "map_tolerance": 0.019, "score_tolerance": 0.021})
    change(bundle_dir, variants={"fp32": fp32, "fp16": fp16})
    return bundle_dir


def test_every_variant_is_shown_with_its_errors_and_tolerances(verify, two_variants):
    loose = load_bundle(two_variants).variant("fp16").model_copy(update={"map_tolerance": 0.021})
    change(two_variants, variants={"fp32": load_bundle(two_variants).variant("fp32"), "fp16": loose})
    status, out, err = verify(two_variants)
    assert (status, err) == (0, "")
    first, _, fp32, fp16, *absent = out.splitlines()
    assert first == "brightness 1: all 4 files are as the manifest says"
    assert re.fullmatch(r"fp32 +onnxruntime +\S+ +\(1\.0e-05\) +\S+ +\(1\.0e-05\) +ok", fp32)
    # 255 / 250 - 1 = 2 %
    assert fp16.split() == ["fp16", "onnxruntime", "2.0e-02", "(2.1e-02)", "2.0e-02", "(2.1e-02)", "ok"]
    assert all(re.match(r"fp(32|16) +tensorrt +not run: .", line) for line in absent)


def test_a_variant_that_contradicts_the_vectors_is_named_after_the_table(verify, two_variants):
    status, out, err = verify(two_variants)
    assert status == 1
    assert [line.split()[-1] for line in out.splitlines()[2:4]] == ["ok", "WRONG"]
    (line,) = err.splitlines()
    assert "the fp16 variant in onnxruntime contradicts the golden vectors (map off by 2.00e-02, limit 2e-02" in line
    assert verify(two_variants, "--precision", "fp32")[0] == 0
    assert verify(two_variants, "--precision", "fp32", "--precision", "fp16")[0] == 1


def test_proofs_are_values(two_variants):
    fp32, fp16 = (proof for proof in prove(load_bundle(two_variants), ["fp32", "fp16"]) if isinstance(proof, Proof))
    assert (fp32.is_ok, fp16.is_ok) == (True, False)
    assert fp32.result.vectors == 2
    assert fp16.result.map_error == pytest.approx(0.02, rel=1e-4)


def damage_newer(directory):
    content = json.loads((directory / "manifest.json").read_text()) | {"schema_version": 3}
    (directory / "manifest.json").write_text(json.dumps(content))


def damage_golden(directory):
    np.savez(directory / "golden.npz", **(dict(np.load(directory / "golden.npz")) | {"score": np.zeros(3, np.float32)}))
    change(directory)


def damage_network(directory):
    (directory / "model.fp32.onnx").write_bytes((directory / "model.fp32.onnx").read_bytes()[:100])
    change(directory)


@pytest.mark.parametrize(
    ("damage", "status", "words"),
    [
        (lambda directory: (directory / "manifest.json").unlink(), 2, "is not a bundle"),
        (lambda directory: (directory / "golden.npz").unlink(), 2, r"golden\.npz' is missing"),
        (lambda directory: (directory / "template.png").write_bytes(b""), 2, r"template\.png' was changed"),
        (damage_newer, 2, "has schema_version 3; this version reads 2"),
        (damage_golden, 2, "golden vectors .* have the shapes"),
        (damage_network, 1, r"cannot load '.*model\.fp32\.onnx'"),
    ],
)
def test_one_line_says_what_is_wrong_with_the_bundle(verify, bundle_dir, damage, status, words):
    damage(bundle_dir)
    found, _, err = verify(bundle_dir)
    assert found == status
    (line,) = err.splitlines()
    assert re.search(words, line)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "int4"], "invalid choice: 'int4'"),
        (["--precision", "int8"], "has no variant 'int8': choose one of: fp32"),
        (["--precison", "fp32"], "did you mean '--precision'"),
    ],
)
def test_one_line_says_what_is_wrong_with_the_options(verify, bundle_dir, arguments, words):
    status, _, err = verify(bundle_dir, *arguments)
    assert status == 2
    (line,) = err.splitlines()
    assert words in line
