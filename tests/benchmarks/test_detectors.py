"""The comparison of detectors: order, tables, the rule for SNC, and one cell that is really measured."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOT_MEASURED = "not measured"


@pytest.fixture
def detectors(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import detectors

    return detectors


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import detectors_table

    return detectors_table


@pytest.fixture
def cell(tables):
    """A measured cell; what is not given is the same in all."""

    def make(variant, product, seed, **figures):
        values = dict.fromkeys(tables.FIGURES, 0.9) | {name.replace("_", " "): of for name, of in figures.items()}
        return tables.Cell(variant, product, seed, 10, 60.0, values)

    return make


def test_first_seed_of_all_comes_first_and_cheap_detectors_before_dear_ones(detectors):
    names = ["efficientad", "stfpm+snc", "stfpm"]
    more = {"": ["--backbone", "resnet50v2"], "efficientad": ["--teacher-steps", "12"]}
    plans = detectors.planned(names, [Path("a"), Path("b")], [4, 5], {"": 0.1, "efficientad": 0.01}, more)
    order = [f"{name}/{product}/4" for name in reversed(names) for product in "ab"]
    assert [plan.key for plan in plans[:6]] == order
    assert [plan.seed for plan in plans] == [4] * 6 + [5] * 6
    by_name = {plan.variant: plan for plan in plans}
    assert by_name["stfpm"].epochs == by_name["stfpm+snc"].epochs == 10
    assert by_name["stfpm+snc"].options[:-2] == ("--detector", "stfpm", "--epochs", "10", "--snc", "relation")
    assert by_name["stfpm+snc"].options[-2:] == ("--backbone", "resnet50v2")
    assert by_name["efficientad"].options[-4:] == ("--backbone", "resnet50v2", "--teacher-steps", "12")


def test_another_backbone_does_not_overwrite_what_is_there(detectors, monkeypatch, capsys):
    options = ["--data", "a", "--weights", "w", "--work", "x", "--backbone", "resnet50v2"]
    monkeypatch.setattr(sys, "argv", ["detectors.py", *options])
    with pytest.raises(SystemExit, match="2"):
        detectors.main()
    assert "give another --out" in capsys.readouterr().err


def test_options_are_of_one_detector_or_of_all(detectors):
    assert detectors._options('efficientad=--teacher-steps 12 --snc "none"') == (
        "efficientad",
        ["--teacher-steps", "12", "--snc", "none"],
    )
    assert detectors._scale("0.5") == ("", 0.5)
    with pytest.raises(argparse.ArgumentTypeError, match="no detector 'patchcore'"):
        detectors._options("patchcore=--epochs 1")


def test_a_result_counts_for_the_same_training_only(detectors):
    (plan,) = detectors.planned(["tfanet"], [Path("a")], [0], {"": 0.1}, {})
    (longer,) = detectors.planned(["tfanet"], [Path("a")], [0], {"": 0.2}, {})
    found = detectors.described(plan)
    assert detectors.is_measured(found, plan)
    assert not detectors.is_measured(found, longer)
    assert not detectors.is_measured({**found, "failed": "no memory"}, plan)
    assert not detectors.is_measured(None, plan)


def test_what_another_has_written_meanwhile_stays(detectors, tmp_path):
    kept = detectors.Kept(tmp_path / "detectors.json", ["a"])
    other = detectors.Kept(tmp_path / "detectors.json", ["a"])
    before = kept.read()
    other.add("cells", {"stfpm/a/0": {"failed": "no memory"}})
    kept.add("cells", {"tfanet/a/0": {"failed": "no memory"}})
    kept.add("cells", {"stfpm/a/0": {"failed": "no time"}})
    assert before["cells"] == {}
    found = {key: of["failed"] for key, of in kept.read()["cells"].items()}
    assert found == {"stfpm/a/0": "no time", "tfanet/a/0": "no memory"}


def test_means_over_seeds_and_what_was_not_measured(tables, cell):
    cells = [cell("tfanet", "a", seed, pixel_AP=value) for seed, value in enumerate((0.5, 0.6))]
    cells.append(cell("tfanet", "b", 0, pixel_AUROC=None))
    rows = tables.accuracy_table(cells, ["tfanet", "mfrnet"], ["a", "b"]).splitlines()[2:]
    assert (
        rows[0] == "| a | tfanet | 10 | 2 | 90.0 ± 0.0 | 90.0 ± 0.0 | 55.0 ± 7.1 | 90.0 ± 0.0 | 90.0 ± 0.0 | 60 ± 0 |"
    )
    assert rows[1] == f"| a | mfrnet |{f' {NOT_MEASURED} |' * 8}"
    assert rows[2].startswith(f"| b | tfanet | 10 | 1 | 90.0 | {NOT_MEASURED} | 90.0 |")
    assert len(rows) == 4


def test_a_failure_is_told_and_a_refusal_is_not_a_figure(detectors):
    (plan,) = detectors.planned(["tfanet"], [Path("a")], [0], {"": 0.1}, {})
    ms = {"median": 3.0, "low": 2.0, "high": 4.0}
    fp32 = {"bytes": 9_100_000, "ms_per_frame": ms, "image_auroc": 0.9, "pixel_auroc": None, "aupro_30": 0.8}
    network = {"files": {"fp32": fp32}, "macs": 2.5e9, "images": 60}
    results = {
        "cells": {plan.key: {**detectors.described(plan), "failed": "train ended with 4"}},
        "networks": {"tfanet": {**detectors.described(plan), **network}},
    }
    text = detectors.report(results, ["a"])
    assert f"| a | tfanet |{f' {NOT_MEASURED} |' * 8}" in text
    assert "| tfanet | 9.1 | refused | 2.50 | refused | 3.0 (2.0 to 4.0) | refused |" in text
    assert f"| mfrnet |{f' {NOT_MEASURED} |' * 6}" in text
    assert f"| tfanet | a |{' refused |' * 4}" in text
    int8 = {**fp32, "image_auroc": 0.899, "int8_share": 0.5, "against_fp32": {"flips": 1}}
    with_int8 = {"tfanet": {**results["networks"]["tfanet"], "files": {"fp32": fp32, "int8": int8}}}
    assert "| tfanet | a | -0.100 | – | +0.000 | 1 of 60 |" in detectors.tables.int8_table(with_int8, ["tfanet"])
    row = "| tfanet | 9.1 | 9.1 | 2.50 | 50% | 3.0 (2.0 to 4.0) | 3.0 (2.0 to 4.0) |"
    assert row in detectors.tables.networks_table(with_int8, ["tfanet"])
    assert text.endswith("tfanet/a/0 failed: train ended with 4")


def test_snc_is_compared_with_its_own_base_seed_by_seed(tables, cell):
    cells = [cell("stfpm", "a", seed, pixel_AP=0.4 + 0.1 * seed) for seed in range(3)]
    cells += [cell("stfpm+snc", "a", seed, pixel_AP=0.45 + 0.1 * seed) for seed in range(2)]
    found = tables.snc_differences(cells, "stfpm", ["a"], tables.SNC)
    assert [of["pixel AP"] for of in found["a"]] == pytest.approx([0.05, 0.05])
    assert found["all"] == found["a"]
    # Another product without a cell: no seed has all products.
    assert tables.snc_differences(cells, "stfpm", ["a", "b"], tables.SNC)["all"] == []
    text = tables.snc_table(cells, ["stfpm"], ["a"], tables.SNC)
    assert "| stfpm+snc | a | 2 | +0.00 ± 0.00 | +5.00 ± 0.00 | +0.00 ± 0.00 |  |" in text
    with_loss = tables.SNC + tables.LOSS
    cells.append(cell("stfpm+snc+loss", "a", 0, pixel_AP=0.3))
    (of,) = tables.snc_differences(cells, "stfpm", ["a"], with_loss)["a"]
    assert of["pixel AP"] == pytest.approx(-0.1)
    assert "| stfpm+snc+loss | a | 1 |" in tables.snc_table(cells, ["stfpm"], ["a"], with_loss)


def test_trainings_of_different_lengths_are_not_compared(tables, cell):
    longer = tables.Cell("stfpm+snc", "a", 0, 20, 60.0, cell("", "", 0).figures)
    assert tables.snc_differences([cell("stfpm", "a", 0), longer], "stfpm", ["a"], tables.SNC)["a"] == []


@pytest.mark.parametrize(
    ("aupro", "precision", "image", "passed"),
    [
        (0.01, 0.02, 0.0, True),
        (0.01, 0.02, -0.0019, True),
        (0.01, 0.02, -0.0021, False),
        (0.01, -0.001, 0.1, False),
        (0.0, 0.1, 0.1, False),
    ],
)
def test_a_base_passes_by_all_three_figures(tables, aupro, precision, image, passed):
    by_seed = [{"AUPRO@0.3": aupro, "pixel AP": precision, "image AUROC": image}] * 3
    assert tables.passes(by_seed) is passed
    assert tables.passes(by_seed[:2]) is None


@pytest.mark.parametrize(
    ("bases", "verdict"),
    [
        ([True, True, None], True),
        ([True, False, None], None),
        ([None, None, False], None),
        ([True, False, False], False),
        ([False, False, None], False),
    ],
)
def test_two_bases_decide(tables, bases, verdict):
    assert tables.accepted(bases) is verdict


def test_front_and_picture_hold_only_what_was_measured_on_all_products(tables, cell, tmp_path):
    networks = {
        name: {"files": {"fp32": {"ms_per_frame": {"median": ms, "low": ms, "high": ms}}}}
        for name, ms in {"fast": 5.0, "beaten": 8.0, "good": 9.0, "half": 1.0}.items()
    }
    accuracies = {"fast": 0.7, "beaten": 0.6, "good": 0.8}
    cells = [cell(name, product, 0, **{"AUPRO@0.3": of}) for name, of in accuracies.items() for product in "ab"]
    cells.append(cell("half", "a", 0))
    points = tables.points(cells, networks, ["a", "b"], "AUPRO@0.3")
    assert {name: ms for name, (ms, _) in points.items()} == {"fast": 5.0, "beaten": 8.0, "good": 9.0}
    assert {name: of.mean for name, (_, of) in points.items()} == pytest.approx(accuracies)
    assert tables.pareto_front(points) == ["fast", "good"]
    assert not tables.draw(cells, {}, ["a", "b"], tmp_path / "none.png")
    assert tables.draw(cells, networks, ["a", "b"], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_a_cell_is_measured_once_and_can_be_cut_short(
    detectors, product, backbone_weights, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "detectors.json"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            *("detectors.py", "--data", str(product), "--weights", str(backbone_weights), "--work", str(tmp_path)),
            *("--only", "stfpm", "--seeds", "0", "--epochs-scale", "0.01", "--device", "cpu", "--frames", "0"),
            *("--out", str(out)),
        ],
    )
    whole = list(sys.argv)
    monkeypatch.setattr(sys, "argv", [*whole, "--budget-minutes", "0.001"])
    detectors.main()
    assert "the same command goes on" in capfd.readouterr().err
    assert not out.exists()
    monkeypatch.setattr(sys, "argv", whole)
    detectors.main()
    first = json.loads(out.read_text())
    found = first["cells"]["stfpm/washer/0"]
    assert found["epochs"] == 1
    assert (
        found["training_s"] > json.loads((tmp_path / "stfpm.e1/washer.s0/run/history.json").read_text())[0]["seconds"]
    )
    assert all(0 <= value <= 1 for value in found["figures"].values())
    assert "| washer | stfpm | 1 | 1 |" in capfd.readouterr().out
    before = out.stat().st_mtime_ns
    detectors.main()
    assert out.stat().st_mtime_ns == before
