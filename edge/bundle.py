"""The bundle: the directory a station loads, and the proof that nothing in it was changed.

`manifest.json` names every file with its sha256. A bundle that is incomplete, altered or of another schema is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from edge.errors import BundleError
from edge.manifest import MANIFEST_NAME, SCHEMA_VERSION, Manifest, Precision, Variant

# What NumPy and the archive beneath it say of a file that is damaged, or made to do harm.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class GoldenVectors:
    """image uint8 (K,H,W,3); anomaly_map float32 (K,H,W); score float32 (K,)."""

    image: npt.NDArray[np.uint8]
    anomaly_map: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file was checked against its manifest."""

    path: Path
    manifest: Manifest
    manifest_sha256: str

    def variant(self, precision: Precision) -> Variant:
        """The variant of that precision.

        Raises:
            BundleError: the bundle has none; the message lists those it has.
        """
        try:
            return self.manifest.variants[precision]
        except KeyError:
            have = ", ".join(self.manifest.variants)
            raise BundleError(f"bundle '{self.path}' has no variant '{precision}'", f"choose one of: {have}") from None

    def golden(self) -> GoldenVectors:
        """Read the golden vectors.

        Raises:
            BundleError: the file does not hold the three arrays, or they do not fit the input's size.
        """
        path = self.path / self.manifest.golden.file
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                golden = GoldenVectors(arrays["image"], arrays["anomaly_map"], arrays["score"])
        except _UNREADABLE as error:
            raise BundleError(f"golden vectors '{path}' cannot be read ({error})", "export the bundle again") from error
        shapes = golden.image.shape, golden.anomaly_map.shape, golden.score.shape
        count, size_px = len(golden.score), self.manifest.preprocessing.input_size_px
        if not count or shapes != ((count, *size_px, 3), (count, *size_px), (count,)):
            raise BundleError(f"golden vectors '{path}' have the shapes {shapes}", "export the bundle again")
        return golden


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_bundle(path: Path) -> Bundle:
    """Read and verify a bundle directory.

    Raises:
        BundleError: missing, malformed, of another schema version, or altered.
    """
    manifest_path = path / MANIFEST_NAME
    if not manifest_path.is_file():
        raise BundleError(f"'{path}' is not a bundle (no {MANIFEST_NAME})", "give the directory that the export made")
    raw = manifest_path.read_bytes()
    manifest = _parse_manifest(raw, manifest_path)
    _check_files(path, manifest)
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest())


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into the bundle directory, atomically.

    Raises:
        BundleError: it cannot be written; what was there before still is.
    """
    text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
    temporary = path / f".{MANIFEST_NAME}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path / MANIFEST_NAME)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BundleError(
            f"'{path / MANIFEST_NAME}' cannot be written ({error.strerror})",
            "check the directory's permissions and the disk's space",
        ) from error


def hash_files(path: Path, names: list[str]) -> Mapping[str, str]:
    """sha256 of each named file of a bundle directory."""
    return {name: file_sha256(path / name) for name in names}


def _parse_manifest(raw: bytes, manifest_path: Path) -> Manifest:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"'{manifest_path}' is not JSON ({error})", "export the bundle again") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"'{manifest_path}' has schema_version {version!r}; this version reads {SCHEMA_VERSION}",
            "export the bundle with this version, or install the version it was made with",
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"'{manifest_path}': {where}: {first['msg']}", "export the bundle again") from error


def _check_files(path: Path, manifest: Manifest) -> None:
    needed = {manifest.golden.file, manifest.template, *(v.file for v in manifest.variants.values())}
    for name in sorted(needed - manifest.files.keys()):
        raise BundleError(f"'{path / MANIFEST_NAME}' names '{name}' without a sha256", "export the bundle again")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise BundleError(f"'{path / MANIFEST_NAME}' names '{name}', outside the bundle", "export the bundle again")
        file = path / name
        if not file.is_file():
            raise BundleError(f"bundle file '{file}' is missing", "copy the whole bundle directory again")
        actual = file_sha256(file)
        if actual != expected:
            raise BundleError(
                f"bundle file '{file}' was changed (sha256 {actual[:12]}…, manifest says {expected[:12]}…)",
                "copy the bundle again from its source, or export it anew",
            )
