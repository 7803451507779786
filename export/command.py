"""The verb `export`: from a training run to the directory a station loads, with the proof that both compute the same.

Exit status 3: a variant differs too much from what was trained; nothing is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edge.arguments import rate
from edge.bundle import file_sha256, load_bundle, write_manifest
from edge.errors import ConfigError
from edge.manifest import MAX_NAME_LENGTH, MAX_VERSION_LENGTH, Manifest, Precision, Provenance
from export.bundle import Identity, Material, write_bundle
from export.report import REPORT, write_export_report
from export.staging import staged_bundle
from training.data.good_parts import GoodParts, load_good_parts
from training.image_sets import evenly
from training.networks.backbones import fold_batch_norm
from training.run import Run, load_run
from training.synthetic import with_defects
from training.thresholds import PIXEL_SHARE, images_needed

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
MAX_COMPARED = 48
GOLDEN_PARTS = 4
SEED = 0


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export RUN --out BUNDLE` and its options."""
    parser = subparsers.add_parser("export", help="make the bundle a station loads, and prove it")
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of a training")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="bundle directory to make")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the product's images, if they are no longer where they were trained on",
    )
    parser.add_argument("--name", help="of the recipe in every verdict (default: the product's)")
    parser.add_argument("--version", default="1", help="of the recipe (default: %(default)s)")
    add_rates(parser)
    parser.set_defaults(handler=_handle)


def add_rates(parser: argparse.ArgumentParser) -> None:
    """What both thresholds are to promise."""
    parser.add_argument(
        "--false-reject-rate",
        type=rate,
        default=0.01,
        metavar="RATE",
        help="of good parts, for each of the two thresholds (default: %(default)s)",
    )
    parser.add_argument(
        "--pixel-share",
        type=rate,
        default=PIXEL_SHARE,
        metavar="SHARE",
        help="a part reaches the pixel threshold when more than this share of its pixels do (default: %(default)s)",
    )


def export_run(
    run: Run,
    parts: GoodParts,
    out: Path,
    name: str,
    version: str,
    false_reject_rate: float,
    pixel_share: float,
) -> Manifest:
    """Make a bundle of a run.

    Args:
        run: trained.
        parts: what it was trained on, with the parts that it held out.
        out: bundle directory; an older bundle there is replaced.
        name, version: of the recipe.
        false_reject_rate, pixel_share: for the thresholds.

    Raises:
        RefusedError: a variant differs too much from the trained network.
        InputError: the run is damaged, there are no held-out parts, or `out` cannot be written.
    """
    record, settings = run.record, run.record.settings
    graph = run.detector()
    fold_batch_norm(graph)
    material = _material(parts)
    with staged_bundle(out) as directory:
        made = write_bundle(
            directory,
            graph,
            material,
            Identity(
                name=name,
                version=version,
                detector=settings.detector,
                preset=settings.network.preset,
                backbone=settings.network.backbone,
                score_rule=settings.score_rule,
                fusion=settings.network.fusion,
                preprocessing=settings.data.preprocessing,
            ),
            Provenance(
                command=record.command,
                code_version=record.code_version,
                seed=settings.seed,
                epochs=settings.epochs,
                train_images=record.train_images,
                train_data_sha256=record.data_sha256,
                backbone_weights=record.backbone_weights,
            ),
            PRECISIONS,
            false_reject_rate,
            pixel_share,
        )
        write_export_report(directory, run, material, made)
        files = {**made.manifest.files, REPORT: file_sha256(directory / REPORT)}
        write_manifest(directory, made.manifest.model_copy(update={"files": files}))
    return load_bundle(out).manifest


def _handle(arguments: argparse.Namespace) -> int:
    run = load_run(arguments.run)
    if not run.is_trained:
        raise ConfigError(f"'{run.path}' has no trained network yet", "go on with the training: tfanet-edge train")
    name = arguments.name or run.record.product
    _refuse_length("--name", name, MAX_NAME_LENGTH)
    _refuse_length("--version", arguments.version, MAX_VERSION_LENGTH)
    parts = _good_parts(run, arguments.data)
    manifest = export_run(
        run,
        parts,
        arguments.out,
        name,
        arguments.version,
        arguments.false_reject_rate,
        arguments.pixel_share,
    )
    print(_table(manifest, arguments.out))
    return 0


def _refuse_length(option: str, text: str, longest: int) -> None:
    if not 1 <= len(text) <= longest:
        raise ConfigError(f"'{text}' has {len(text)} characters, 1 to {longest} may be", f"give another with {option}")


def _good_parts(run: Run, data: Path | None) -> GoodParts:
    """The good parts that the run was trained on and that it held back, read again from its data."""
    if data is None and run.record.data is None:
        raise ConfigError(f"'{run.path}' does not say where its images are", "give them with --data")
    settings = run.record.settings
    where = data or Path(str(run.record.data))
    parts = load_good_parts(where, settings.data, settings.seed)
    if parts.sha256 != run.record.data_sha256:
        raise ConfigError(f"'{where}' is not what '{run.path}' was trained on", "give its images with --data")
    if not len(parts.held_out):
        raise ConfigError(
            f"'{run.path}' held no good parts back, so no threshold can be fitted", "train with --held-out-share 0.1"
        )
    return parts


def _material(parts: GoodParts) -> Material:
    """Held-out parts, evenly chosen, as they are and with defects drawn onto them."""
    held_out = parts.held_out
    chosen = held_out[evenly(len(held_out), MAX_COMPARED)]
    damaged, _ = with_defects(chosen, SEED)
    half = GOLDEN_PARTS // 2
    return Material(
        template=parts.train[0],
        held_out=held_out,
        compared=np.concatenate([chosen, damaged]),
        golden=np.concatenate([chosen[:half], damaged[-half:]]),
    )


def _table(manifest: Manifest, out: Path) -> str:
    limit = manifest.image_threshold
    lines = [f"{'':<10}{'size':>10}{'map error':>12}{'score error':>13}{'verdicts changed':>18}  against"]
    for precision, variant in manifest.variants.items():
        parity = variant.parity
        assert parity is not None
        size = (out / variant.file).stat().st_size / 1e6
        lines.append(
            f"{precision:<10}{size:>7.1f} MB{parity.map_error:>12.2%}{parity.score_error:>13.2%}"
            f"{f'{parity.flips} of {parity.images}':>18}  {parity.reference}"
        )
    lines.append(
        f"threshold {limit.value:.4g}: at most {limit.guaranteed_rate:.2%} of good parts reach it "
        f"({limit.interval[0]:.2%} to {limit.interval[1]:.2%}), from {limit.n} held-out good parts"
    )
    if limit.guaranteed_rate > limit.false_reject_rate:
        needed = images_needed(limit.false_reject_rate)
        lines.append(f"too few for the {limit.false_reject_rate:.2%} asked for: hold out {needed}")
    return "\n".join([*lines, f"bundle: {out}"])
