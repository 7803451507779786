"""The page a person reads before trusting a bundle: `report.html`, one file with its pictures inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.manifest import Parity, Precision, Threshold
from export.bundle import LIMITS, Made, Material
from export.page import Figure, HeatMaps, Page, Section, Table, render
from export.pictures import (
    difference,
    encode_rgb,
    fitting_gain,
    score_histogram,
    score_scatter,
    side_by_side,
)
from training.evaluation.results import UNDEFINED, epochs_trained
from training.files import write_text
from training.run import CURVES, Run
from training.thresholds import INTERVAL, images_needed

REPORT = "report.html"
SHOWN = 3


def write_export_report(directory: Path, run: Run, material: Material, made: Made) -> None:
    """Write `export_page` into the bundle's directory."""
    write_text(directory / REPORT, render(export_page(directory, run, material, made)))


def export_page(directory: Path, run: Run, material: Material, made: Made) -> Page:
    """What a bundle is, where its threshold comes from, and that every variant computes what was trained.

    Args:
        directory: with the files that the manifest names.
        run: it was made of.
        material: as given to `write_bundle`; `compared` are good parts, then the same ones with synthetic defects.
        made: as it returned.
    """
    manifest, limit = made.manifest, made.manifest.image_threshold
    return Page(
        title=f"{manifest.name} {manifest.version}: does this bundle compute what was trained?",
        summary=(
            *(_parity_sentence(precision, parity) for precision, parity in _parities(made)),
            f"A part whose score reaches {limit.value:.4g} is rejected. That befalls a new good part with a "
            f"probability of {percent(limit.guaranteed_rate)} at most, judging by {limit.n} good parts that the "
            "training never used.",
            "How well it finds defects stands elsewhere, in the report of an evaluation on labelled test images.",
        ),
        warnings=(*_training_warnings(run), *_threshold_warnings(limit)),
        facts=_facts(run, made),
        sections=(_threshold(made), _parity(material, made), *_training(run), _files(directory, material, made)),
    )


def percent(share: float) -> str:
    """Three digits; the number and its sign stay on one line."""
    return "under 0.0001\u00a0%" if 0 < share < 1e-6 else f"{100 * share:.3g}\u00a0%"


def _parities(made: Made) -> list[tuple[Precision, Parity]]:
    variants = made.manifest.variants.items()
    return [(precision, variant.parity) for precision, variant in variants if variant.parity is not None]


def _parity_sentence(precision: Precision, parity: Parity) -> str:
    changed = f"{parity.flips} of {parity.images}" if parity.flips else f"none of {parity.images}"
    return (
        f"{precision} against {parity.reference}: scores differ by {percent(parity.score_error)} at most, heat maps by "
        f"{percent(parity.map_error)}; {changed} verdicts changed."
    )


def _training_warnings(run: Run) -> list[str]:
    done, settings = epochs_trained(run), run.record.settings
    if done is None or done >= settings.epochs or settings.patience:
        return []
    return [f"The training was not finished: {done} of {settings.epochs} epochs."]


def _threshold_warnings(limit: Threshold) -> list[str]:
    if limit.guaranteed_rate <= limit.false_reject_rate:
        return []
    return [
        f"Only {limit.n} good parts were held out. From so few the threshold can promise no less than "
        f"{percent(limit.guaranteed_rate)} of good parts rejected, not the {percent(limit.false_reject_rate)} asked "
        f"for: that takes {images_needed(limit.false_reject_rate)} held-out good parts or more."
    ]


def _facts(run: Run, made: Made) -> tuple[tuple[str, str], ...]:
    record, settings, manifest = run.record, run.record.settings, made.manifest
    done = epochs_trained(run)
    return (
        ("Product", record.product),
        (
            "Network",
            f"{settings.kind.title}, preset {manifest.preset}; "
            f"frozen backbone {manifest.backbone} ({manifest.provenance.backbone_weights})",
        ),
        *([("Its settings", settings.network.details)] if settings.network.details else []),
        ("Score", f"rule “{manifest.score_rule}”, map “{manifest.fusion}”"),
        (
            "Trained on",
            f"{record.train_images} good images, {record.held_out_images} more held out; no defective image",
        ),
        ("Training", f"{'?' if done is None else done} of at most {settings.epochs} epochs, seed {settings.seed}"),
        ("Data (sha256)", _short(record.data_sha256)),
        ("Trained with", f"tfanet-edge {record.code_version}, PyTorch {record.torch_version}"),
    )


def _training(run: Run) -> list[Section]:
    path = run.path / CURVES
    if not path.is_file():
        return []
    curves = Figure(
        path.read_bytes(),
        "Losses over the epochs of the training",
        "Both lines should fall and level off; if the held-out one rises while the other falls, the network learns its "
        "training images by heart.",
    )
    text = "How badly the network knows good parts, pass after pass over the images."
    return [Section("The training", (text,), figures=(curves,))]


def _threshold(made: Made) -> Section:
    of_image, of_pixel = made.manifest.image_threshold, made.manifest.pixel_threshold
    histogram = Figure(
        score_histogram(made.held_out.scores, of_image.value),
        "Histogram of the scores of held-out good parts, with the threshold",
        f"{of_image.n} good parts that the training never used, scored by fp32. What reaches the threshold is "
        "rejected.",
    )
    rows = tuple(
        (
            name,
            f"{limit.value:.4g}",
            percent(limit.false_reject_rate),
            percent(limit.guaranteed_rate),
            f"{percent(limit.interval[0])} to {percent(limit.interval[1])}",
            str(limit.n),
        )
        for name, limit in (("whole part", of_image), ("its pixels", of_pixel))
    )
    table = Table(
        ("threshold for", "value", "asked for", "guaranteed", f"interval for {percent(INTERVAL)}", "good parts"),
        rows,
        "Guaranteed: a new good part reaches the threshold with this probability at most. How many of all good parts "
        f"reach it depends on which ones happened to be held out: in {percent(INTERVAL)} of such draws their share is "
        "in the interval. "
        f"Pixels: a good part reaches their threshold where more than {percent(of_pixel.pixel_share)} of them do.",
    )
    return Section(
        "The threshold",
        (
            "It comes from good parts alone, by split-conformal prediction: no defect and no test image had a say. "
            "The guarantee holds as long as new good parts look like those held out: same camera, light and material.",
        ),
        (table,),
        (histogram,),
    )


def _parity(material: Material, made: Made) -> Section:
    threshold, count = made.manifest.image_threshold.value, len(material.compared)
    rows = []
    scatters = []
    for precision, parity in _parities(made):
        allowed = LIMITS[precision]
        correlation = parity.score_correlation
        rows.append(
            (
                precision,
                parity.reference,
                f"{percent(parity.map_error)} ({percent(allowed.map_error)})",
                f"{percent(parity.score_error)} ({percent(allowed.score_error)})",
                UNDEFINED if correlation is None else f"{correlation:.5f}",
                f"{parity.flips} of {parity.images} ({int(allowed.flip_share * parity.images)})",
            )
        )
        reference = made.answers[parity.reference].scores
        names = (f"score by {parity.reference}", f"score by {precision}")
        scatters.append(
            Figure(
                score_scatter(reference, made.answers[precision].scores, threshold, names),
                f"Scores by {precision} over scores by {parity.reference}",
                f"Each mark is one of the {count} images. On the line, {precision} gives what {parity.reference} gave.",
            )
        )
    table = Table(
        ("variant", "against", "map error", "score error", "correlation", "verdicts changed"),
        tuple(rows),
        "In brackets the most that is allowed, else nothing is exported. Map error: the largest difference in any "
        "pixel of any image, as a share of the largest value that occurs. Score error: the largest of any image, as a "
        "share of its score. Correlation: of the scores, by Pearson.",
    )
    good = np.arange(count) < count // 2
    shown = (
        _heat_maps(material, made, good, "good parts"),
        _heat_maps(material, made, ~good, "parts with a synthetic defect"),
    )
    return Section(
        "The same answers in every variant",
        (
            "The training computed with PyTorch; a station computes with what was exported from it. Both answered the "
            f"same {count} images: {good.sum()} held-out good parts, and the same with synthetic defects.",
            "Synthetic defects are painted onto the pictures by a program, so that high values are compared as well. "
            "They are no real defects: whether they are found says nothing about the detector.",
        ),
        (table,),
        tuple(scatters),
        shown,
    )


def _heat_maps(material: Material, made: Made, among: npt.NDArray[np.bool_], name: str) -> HeatMaps:
    """The images that the first and the last of the answers differ most on."""
    maps = {each: answer.maps for each, answer in made.answers.items()}
    largest = np.where(among, difference(maps).max(axis=(1, 2)), -1)
    chosen = np.argsort(-largest, kind="stable")[: min(SHOWN, int(among.sum()))]
    columns = {each: found[chosen] for each, found in maps.items()}
    limit = made.manifest.pixel_threshold.value
    gain = fitting_gain(columns, limit)
    first, *_, last = columns
    return HeatMaps(
        side_by_side(material.compared[chosen], columns, limit, gain),
        f"{name.capitalize()} and their heat maps by {', '.join(columns)}",
        f"The {len(chosen)} {name} whose heat maps differ most. Last column: the difference of {first} and {last}, "
        f"multiplied by {gain:,} to become visible.",
        ("the part", *columns, f"difference × {gain:,}"),
    )


def _files(directory: Path, material: Material, made: Made) -> Section:
    manifest = made.manifest
    kinds = {variant.file: f"the network, {precision}" for precision, variant in manifest.variants.items()}
    kinds |= {manifest.template: "the picture below", manifest.golden.file: "inputs with the answers they must get"}
    rows = tuple(
        (name, kinds[name], f"{(directory / name).stat().st_size / 1e6:.1f} MB", _short(sha256))
        for name, sha256 in manifest.files.items()
    )
    table = Table(
        ("file", "what", "size", "sha256"),
        rows,
        "A station refuses the bundle when a file was changed, or when its own engine does not reproduce the answers "
        f"in {manifest.golden.file}.",
    )
    template = Figure(
        encode_rgb(material.template),
        "A good part of the product",
        "The product, as the network sees it: 256 × 256 pixels.",
        is_photo=True,
    )
    return Section("What is in it", (), (table,), (template,))


def _short(sha256: str) -> str:
    return f"{sha256[:12]}…"
