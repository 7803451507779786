"""Whether two detectors pay: against the better one, over the seeds that have all products."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ensembles(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import ensembles

    return ensembles


def figures(aupro: float, precision: float = 0.5) -> dict[str, float]:
    return {"AUPRO@0.3": aupro, "pixel AP": precision, "image AUROC": 1.0}


def test_a_pair_is_compared_with_its_better_member(ensembles):
    cells = {
        "a/0": {"x": figures(0.8), "y": figures(0.5), "x & y": figures(0.82, 0.4)},
        "a/1": {"x": figures(0.7), "y": figures(0.9), "x & y": figures(0.72, 0.4)},
        "b/0": {"x": figures(0.8), "y": figures(0.1), "x & y": figures(0.88, 0.6)},
    }
    ((pair, better, products, by_seed),) = ensembles.gains(cells)
    assert (pair, better, products) == ("x & y", "x", 2)
    # Seed 1 has not both products.
    assert by_seed == [pytest.approx({"AUPRO@0.3": 0.05, "pixel AP": 0.0, "image AUROC": 0.0})]
    assert "| x & y | x | 2 | 1 | +5.00 | +0.00 | +0.00 |" in ensembles.table(cells)


def test_runs_of_two_lengths_are_not_chosen_between(ensembles, tmp_path):
    for epochs in (10, 20):
        directory = tmp_path / f"tfanet.e{epochs}" / "a.s0"
        directory.mkdir(parents=True)
        (directory / "evaluation.json").write_text("{}")
    with pytest.raises(SystemExit, match="Leave one"):
        ensembles.runs_of(tmp_path, "a", 0)
    assert ensembles.runs_of(tmp_path, "a", 1) == {}
