"""The rule by which a detector is recommended."""

from __future__ import annotations

import numpy as np
import pytest

from export.choice import MIN_PARTS, Measured, choose


def measured(name: str, p95_ms: float, shift: float, parts: int = 30) -> Measured:
    """Damaged copies score by `shift` deviations higher; the same parts for every detector."""
    rng = np.random.default_rng(0)
    return Measured(
        detector=name,
        title=name,
        preset="tiny",
        backbone="resnet18",
        epochs=1,
        training_s=1,
        median_ms=p95_ms,
        p95_ms=p95_ms,
        model_bytes=1,
        multiply_accumulates=1,
        good_scores=tuple(rng.normal(size=parts)),
        damaged_scores=tuple(tuple(row) for row in rng.normal(size=(parts, 4)) + shift),
    )


def test_separation_is_the_area_under_the_curve() -> None:
    from sklearn.metrics import roc_auc_score

    one = measured("a", 1, 0.7)
    damaged = np.ravel(one.damaged_scores)
    labels = np.repeat([0, 1], [len(one.good_scores), len(damaged)])
    assert one.auroc == pytest.approx(roc_auc_score(labels, [*one.good_scores, *damaged]))
    assert one.interval is not None
    assert one.interval[0] < one.auroc < one.interval[1]


def test_the_clearly_better_is_taken_although_slower() -> None:
    slow, quick = measured("slow", 50, 3.0), measured("quick", 5, 0.5)
    choice = choose([quick, slow], 60)
    assert choice.chosen is slow
    assert choice.as_good == (slow,)
    assert "beyond noise" in choice.reason


def test_within_noise_the_quicker_is_taken() -> None:
    slow, quick = measured("slow", 50, 3.02), measured("quick", 5, 3.0)
    choice = choose([slow, quick], 60)
    assert slow.auroc >= quick.auroc
    assert choice.chosen is quick
    assert "cannot tell apart" in choice.reason
    assert "slow" in choice.reason


def test_the_best_beyond_the_budget_does_not_count() -> None:
    slow, quick = measured("slow", 50, 3.0), measured("quick", 5, 0.5)
    choice = choose([slow, quick], 49.9)
    assert choice.chosen is quick
    assert "only one" in choice.reason
    assert choose([slow, quick], 50).chosen is slow


def test_nothing_fits() -> None:
    choice = choose([measured("slow", 50, 3.0), measured("quick", 5, 0.5)], 4)
    assert choice.chosen is None
    assert choice.as_good == ()
    assert choice.reason == "No detector fits 4 ms; the quickest, quick, takes 5.0 ms."


def test_too_few_parts_prove_nothing() -> None:
    few = MIN_PARTS - 1
    slow, quick = measured("slow", 50, 9.0, few), measured("quick", 5, -9.0, few)
    assert slow.interval is None
    assert choose([slow, quick], 60).chosen is quick
