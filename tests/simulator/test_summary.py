import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from edge.mqtt.publisher import PublisherStats
from simulator.defects import DefectKind
from simulator.shopfloor import Received
from simulator.summary import auroc, count_valid, summarise

scores = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=40)


@given(scores, scores)
def test_auroc_is_scikit_learns(good, bad):
    expected = roc_auc_score([0] * len(good) + [1] * len(bad), good + bad)
    assert auroc(good, bad) == pytest.approx(expected)


def test_auroc_of_one_class_is_no_number():
    assert auroc([], [1.0]) is None
    assert auroc([1.0], []) is None


@pytest.mark.parametrize("payload", [b"{}", b'{"schema": "urn:tfanet-edge:verdict:1"}'])
def test_a_message_that_breaks_the_schema_does_not_count(payload):
    assert count_valid([payload]) == 0


def test_a_run_of_nothing_claims_nothing():
    statistics = PublisherStats(True, 0, 0, 0, 0, 0)
    summary = summarise(3, [], [DefectKind.DENT], [], statistics)
    assert summary["received"] == 0
    assert not summary["seq_gap_free"]
    assert summary["detection_rate"] is None
    assert summary["image_auroc"] is None
    assert summary["throughput_hz"] is None
    assert summary["latency_ms"] == {}


def test_a_payload_that_is_no_verdict_is_an_error():
    with pytest.raises(ValueError, match="Verdict"):
        summarise(1, [Received(b"{}", 0, None)], [None], [], PublisherStats(True, 0, 0, 0, 0, 0))
