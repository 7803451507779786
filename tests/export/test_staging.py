"""Bundles that are replaced whole, whenever the process dies or the system refuses."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from edge.bundle import Bundle, file_sha256, load_bundle
from edge.errors import BundleError
from edge.manifest import Variant
from export.staging import replace_files, staged_bundle

# Dies as if killed, nothing cleaned up, instead of giving a file or directory its new name for the n-th time.
KILLED = """
import os, sys
from pathlib import Path
from edge.bundle import load_bundle
from export.staging import replace_files
path, left = Path(sys.argv[1]), [int(sys.argv[2])]
def dying(name):
    whole = getattr(Path, name)
    def step(self, target):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return whole(self, target)
    return step
Path.replace, Path.rename = dying("replace"), dying("rename")
bundle = load_bundle(path)
variant = bundle.variant("fp32").model_copy(update={"file": "model.int8.onnx"})
replace_files(bundle, {"model.int8.onnx": b"new", "report.int8.html": b"new"}, {"int8": variant})
"""


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def int8(bundle: Bundle) -> Variant:
    return bundle.variant("fp32").model_copy(update={"file": "model.int8.onnx"})


def put(path: Path, content: bytes) -> None:
    bundle = load_bundle(path)
    replace_files(bundle, {"model.int8.onnx": content, "report.int8.html": content}, {"int8": int8(bundle)})


def test_files_and_their_hashes_come_together(bundle_dir: Path) -> None:
    before = load_bundle(bundle_dir).manifest
    for content in (b"first", b"second"):
        put(bundle_dir, content)
        manifest = load_bundle(bundle_dir).manifest
        assert (bundle_dir / "model.int8.onnx").read_bytes() == content
        assert manifest.files["report.int8.html"] == file_sha256(bundle_dir / "report.int8.html")
        assert list(manifest.variants) == ["fp32", "int8"]
        rest = {"variants": before.variants, "files": before.files}
        assert manifest.model_copy(update=rest) == before
    assert {path.name for path in bundle_dir.iterdir()} == {"manifest.json", *manifest.files}


def test_whenever_it_is_killed_the_bundle_loads(bundle_dir: Path) -> None:
    put(bundle_dir, b"old")
    states, steps = [], 0
    while True:
        command = [sys.executable, "-c", KILLED, str(bundle_dir), str(steps)]
        status = subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode
        manifest = load_bundle(bundle_dir).manifest
        states.append((bundle_dir / "model.int8.onnx").read_bytes() if "int8" in manifest.variants else b"none")
        if status == 0:
            break
        assert status == 9
        steps += 1
        put(bundle_dir, b"old")
    assert states[:2] == [b"old", b"old"]
    assert states[-1] == b"new"
    assert set(states[2:-1]) == {b"none"}
    assert {path.name for path in bundle_dir.iterdir()} == {"manifest.json", *manifest.files}, (
        "what a kill left is gone"
    )


@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_that_cannot_be_made_leaves_the_bundle(bundle_dir: Path, exists: bool) -> None:
    if exists:
        put(bundle_dir, b"old")
    (bundle_dir / ".partial").write_text("a file where a directory should be")
    before = contents(bundle_dir)
    with pytest.raises(BundleError, match=r"bundle' cannot be written \(File exists\): check the directory"):
        put(bundle_dir, b"new")
    assert contents(bundle_dir) == before


@pytest.mark.parametrize("out", ["bundle", "bundle/", "../bundle/../bundle/.", "."])
def test_a_bundle_takes_the_place_of_an_older_one(
    out: str, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(bundle_dir if out == "." else tmp_path / "elsewhere" if out.startswith("..") else tmp_path)
    with staged_bundle(Path(out)) as directory:
        (directory / "manifest.json").write_text("new")
    assert contents(bundle_dir) == {"manifest.json": b"new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "elsewhere"]


def test_directories_above_are_made(tmp_path: Path) -> None:
    with staged_bundle(tmp_path / "line 4" / "washer") as directory:
        (directory / "manifest.json").write_text("new")
    assert contents(tmp_path) == {"line 4/washer/manifest.json": b"new"}


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with staged_bundle(tmp_path / "bundle") as directory:
        (directory / "manifest.json").write_text("new")
    assert contents(tmp_path / "bundle") == {"manifest.json": b"new"}


def test_a_failure_on_the_way_leaves_the_older_bundle(bundle_dir: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)

    def half() -> None:
        with staged_bundle(bundle_dir) as directory:
            (directory / "model.fp32.onnx").write_bytes(b"half a netw")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BundleError, match=r"cannot be written \(No space left on device\): check .* disk's space"):
        half()
    assert contents(tmp_path) == before


def test_the_older_bundle_comes_back_when_the_new_one_cannot_take_its_place(bundle_dir: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)

    def lost() -> None:
        with staged_bundle(bundle_dir) as directory:
            directory.rmdir()

    with pytest.raises(BundleError, match=r"cannot be written \(No such file or directory\)"):
        lost()
    assert contents(tmp_path) == before
