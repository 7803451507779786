"""The page a person reads before trusting an INT8 variant: `report.int8.html`."""

from __future__ import annotations

import numpy as np

from calibration.calibrate import Calibrated
from calibration.evidence import Cost, Evidence
from calibration.int8 import Network
from edge.bundle import Bundle
from edge.manifest import Parity, Quantisation, Variant
from export.outputs import Outputs
from export.page import Figure, HeatMaps, Page, Section, Table
from export.pictures import bars, difference, fitting_gain, score_scatter, side_by_side
from export.report import percent

REPORT = "report.int8.html"
SHOWN = 3


def quantisation_page(
    bundle: Bundle, network: Network, found: Calibrated, evidence: Evidence, answers: Outputs, variant: Variant
) -> Page:
    """What computes in INT8, what each part of the network would cost, and how far the result is from fp32.

    Args:
        bundle: that the variant is for.
        network: it was made of.
        found: how.
        evidence: what it was judged on.
        answers: the variant's to the evidence's images.
        variant: what the manifest says of it.
    """
    quantisation, parity = variant.quantisation, variant.parity
    assert quantisation is not None
    assert parity is not None
    assert found.selection.chosen is not None
    name = f"{bundle.manifest.name} {bundle.manifest.version}"
    return Page(
        title=f"{name}: does INT8 decide as fp32 does?",
        summary=(
            f"{percent(quantisation.int8_share)} of the multiply-accumulates of a frame are in INT8, the rest of the "
            "network in half precision; softmax, normalisation and the anomaly map stay in float32.",
            f"{parity.flips} of {parity.images} verdicts changed. {_accuracy(found.selection.chosen.cost)}",
            "Defects are needed to see what INT8 does to accuracy. Unless labelled ones were given, a program drew "
            "them onto good parts: good enough to compare two precisions, never to judge the detector.",
        ),
        warnings=(),
        facts=_facts(bundle, quantisation, variant),
        sections=(
            _parts(network, found, quantisation),
            _tried(network, found),
            _scores(bundle, evidence, answers, parity),
            _maps(bundle, evidence, answers),
        ),
    )


def _facts(bundle: Bundle, quantisation: Quantisation, variant: Variant) -> tuple[tuple[str, str], ...]:
    return (
        (
            "Network",
            f"{bundle.manifest.detector}, preset {bundle.manifest.preset}, backbone {bundle.manifest.backbone}",
        ),
        ("Ranges from", f"{quantisation.images} good parts, pixels' sha256 {quantisation.data_sha256[:12]}…"),
        ("Made from fp32 (sha256)", f"{bundle.manifest.files[bundle.variant('fp32').file][:12]}…"),
        ("Golden vectors", f"maps within {percent(variant.map_tolerance)}, checked at every start"),
    )


def _parts(network: Network, found: Calibrated, quantisation: Quantisation) -> Section:
    layers = {group.name: f"{group.layers} of {group.of_layers}" for group in quantisation.groups}
    singles = found.singles
    rows = tuple(
        (
            group,
            percent(network.share(nodes)),
            *(percent(cost.map_error) for cost in found.by_method[group].values()),
            found.methods[group],
            percent(singles[group].score_error),
            layers.get(group, "none"),
        )
        for group, nodes in network.groups.items()
    )
    methods = next(iter(found.by_method.values()))
    table = Table(
        ("part", "work", *methods, "taken", "score error", "layers in INT8"),
        rows,
        "Each part alone in INT8, the others in half precision, on a few of the images. Below the methods: mean map "
        "error of such ranges, as a share of the mean map. Score error: the mean, with the ranges taken.",
    )
    sensitivity = Figure(
        bars(list(singles), [100 * cost.map_error for cost in singles.values()], None, "mean map error, %"),
        "Map error of each part of the network alone in INT8",
        "What each part alone costs. Errors add up like variances: the largest count most.",
    )
    return Section("The parts of the network", (), (table,), (sensitivity,))


def _tried(network: Network, found: Calibrated) -> Section:
    rows = tuple(
        (
            candidate.label,
            percent(network.share(candidate.nodes)),
            percent(candidate.cost.map_error),
            percent(max(candidate.cost.flip_share, candidate.cost.expected_flip_share)),
            percent(candidate.cost.swap_share),
            *(f"{100 * drop:+.3f}" for drop in _drops(candidate.cost)),
            "yes" if candidate is found.selection.chosen else "",
        )
        for candidate in found.selection.tried
    )
    table = Table(
        ("in INT8", "work", "map error", "verdicts", "order", "image AUROC", "pixel AUROC", "AUPRO", "taken"),
        rows,
        "Verdicts: the share that changes, or is to be expected to. Order: of the pairs of good parts, those that "
        "change places by score. Then by how many points the figures fell; with a minus they rose.",
    )
    return Section("What was tried", ("The largest part of the work within the tolerance is taken.",), (table,))


def _scores(bundle: Bundle, evidence: Evidence, answers: Outputs, parity: Parity) -> Section:
    scatter = Figure(
        score_scatter(
            evidence.reference.scores,
            answers.scores,
            bundle.manifest.image_threshold.value,
            ("score by fp32", "score by int8"),
        ),
        "Scores by int8 over scores by fp32",
        f"Each mark is one of {parity.images} images. On the line, int8 gives what fp32 gave.",
    )
    return Section("The scores", (), figures=(scatter,))


def _maps(bundle: Bundle, evidence: Evidence, answers: Outputs) -> Section:
    """The worst of each kind: the images whose maps differ most."""
    errors = np.abs(answers.maps - evidence.reference.maps).max(axis=(1, 2))
    defective = evidence.masks.any(axis=(1, 2))
    worst = [np.flatnonzero(which)[np.argsort(-errors[which])[:SHOWN]] for which in (~defective, defective)]
    shown = np.concatenate(worst)
    limit = bundle.manifest.pixel_threshold.value
    columns = {"fp32": evidence.reference.maps[shown], "int8": answers.maps[shown]}
    gain, largest = fitting_gain(columns, limit), float(difference(columns).max()) / limit
    picture = HeatMaps(
        side_by_side(evidence.images[shown], columns, limit, gain),
        "Heat maps by fp32 and int8 side by side",
        f"The images whose maps differ most, {SHOWN} good parts at most and then as many with defects. Last column: "
        f"their difference, multiplied by {gain:,}; it reaches {percent(largest)} of the limit.",
        ("picture", *columns, f"difference × {gain}"),
    )
    return Section("The heat maps", (), heat_maps=(picture,))


def _accuracy(cost: Cost) -> str:
    image, pixel, aupro = (f"{100 * drop:.2f}" for drop in np.abs(_drops(cost)))
    return f"Image AUROC changed by {image} points, pixel AUROC by {pixel}, AUPRO by {aupro}."


def _drops(cost: Cost) -> tuple[float, float, float]:
    return cost.auroc, cost.pixel_auroc, cost.aupro
