"""Directories and files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge.bundle import Bundle, hash_files, write_manifest
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
    place = Path(os.path.abspath(out))
    staging, old = (place.with_name(f".{place.name}.{suffix}") for suffix in ("partial", "old"))
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        if place.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            place.rename(old)
        try:
            staging.rename(place)
        except OSError:
            if old.is_dir():
                old.rename(place)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise BundleError(
            f"bundle '{out}' cannot be written ({error.strerror or error})", "check the directory and the disk's space"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_files(bundle: Bundle, files: Mapping[str, bytes], variants: Mapping[Precision, Variant]) -> None:
    """Put files into a bundle, and their hashes with these variants into its manifest.

    At every moment the bundle can be loaded; while a variant's file is replaced, without that variant. Whatever takes
    space on the disk is written before anything changes.

    Raises:
        BundleError: the disk is full, or the directory cannot be written; the bundle is as it was.
    """
    manifest, staging = bundle.manifest, bundle.path / ".partial"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for name, content in files.items():
            with (staging / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        hashes = hash_files(staging, list(files))
        changed = {"variants": {**manifest.variants, **variants}, "files": {**manifest.files, **hashes}}
        write_manifest(staging, manifest.model_copy(update=changed))
        if files.keys() & manifest.files.keys():
            kept = {name: variant for name, variant in manifest.variants.items() if variant.file not in files}
            others = {name: digest for name, digest in manifest.files.items() if name not in files}
            write_manifest(bundle.path, manifest.model_copy(update={"variants": kept, "files": others}))
        for name in (*files, MANIFEST_NAME):
            (staging / name).replace(bundle.path / name)
    except OSError as error:
        raise BundleError(
            f"bundle '{bundle.path}' cannot be written ({error.strerror or error})",
            "check the directory and the disk's space",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
