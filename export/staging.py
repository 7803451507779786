"""Directories and files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge.bundle import Bundle, file_sha256, write_manifest
from edge.errors import BundleError
from edge.manifest import MANIFEST_NAME, Precision, Variant


@contextmanager
def staged_bundle(out: Path) -> Iterator[Path]:
    """A directory to fill that takes the place of `out` when everything is in it.

    An older bundle there is replaced; anything else is left alone.

    Raises:
        BundleError: `out` holds something else, or cannot be written; what was there before still is.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MANIFEST_NAME).is_file()):
        raise BundleError(f"'{out}' exists and is no bundle", "give another directory with --out")
    staging, old = (out.with_name(f".{out.name}.{suffix}") for suffix in ("partial", "old"))
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        if out.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
        staging.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise BundleError(
            f"bundle '{out}' cannot be written ({error.strerror or error})", "check the directory and the disk's space"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_files(bundle: Bundle, files: Mapping[str, bytes], variants: Mapping[Precision, Variant]) -> None:
    """Put files into a bundle, and their hashes with these variants into its manifest.

    At every moment the bundle can be loaded; while a variant's file is replaced, without that variant.

    Raises:
        BundleError: the disk is full, or the directory cannot be written; the bundle is as it was.
    """
    staged = {name: bundle.path / f".{name}.partial" for name in files}
    manifest = bundle.manifest
    try:
        for name, path in staged.items():
            with path.open("wb") as file:
                file.write(files[name])
                file.flush()
                os.fsync(file.fileno())
        hashes = {name: file_sha256(path) for name, path in staged.items()}
        if files.keys() & manifest.files.keys():
            kept = {name: variant for name, variant in manifest.variants.items() if variant.file not in files}
            others = {name: digest for name, digest in manifest.files.items() if name not in files}
            write_manifest(bundle.path, manifest.model_copy(update={"variants": kept, "files": others}))
        for name, path in staged.items():
            path.replace(bundle.path / name)
        changed = {"variants": {**manifest.variants, **variants}, "files": {**manifest.files, **hashes}}
        write_manifest(bundle.path, manifest.model_copy(update=changed))
    except OSError as error:
        raise BundleError(
            f"bundle '{bundle.path}' cannot be written ({error.strerror or error})",
            "check the directory and the disk's space",
        ) from error
    finally:
        for path in staged.values():
            path.unlink(missing_ok=True)
