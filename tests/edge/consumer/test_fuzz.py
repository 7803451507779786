"""No message ends the loop: any bytes on any topic, damaged verdicts and masks among good ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.consumer import Broker, Consumer
from edge.consumer.session import Arrival

ROOT = "tfanet/v1/plant/paint/l1/s1"


@pytest.fixture(scope="module")
def good(make_verdict):
    """Verdicts whose masks are elsewhere, nowhere, and unreadable."""
    verdicts = [make_verdict(seq) for seq in range(4)]
    verdicts[1] = make_verdict(1, mask=verdicts[0].mask.model_copy(update={"counts": None, "uri": "mask/1"}))
    verdicts[2] = make_verdict(2, mask=None)
    return verdicts


@settings(max_examples=60)
@given(st.data())
def test_no_message_ends_the_loop(good, make_verdict, data):
    bad, masks = [], []
    consumer = Consumer(
        Broker("127.0.0.1", "fuzz"), on_bad=bad.append, on_mask=lambda *pair: masks.append(pair), from_start=True
    )
    payloads = st.sampled_from([verdict.encode() for verdict in good])
    damaged = st.tuples(payloads, st.integers(0, 1400), st.binary(max_size=3), st.integers(0, 3)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + cut[3] :]
    )
    topics = st.sampled_from(["verdict", "mask/x", f"mask/{good[1].result_id}", "", "mask/", "verdict/mask/1"]).map(
        f"{ROOT}/{{}}".format
    ) | st.sampled_from(["", "/", "verdict", "\0"])
    messages = data.draw(st.lists(st.tuples(topics, payloads | damaged | st.binary(max_size=40)), max_size=8))
    last = make_verdict(0, mask=None, boot_id="7" + "Z" * 25, result_id="7" + "Y" * 25)
    for topic, payload in [*messages, (f"{ROOT}/verdict", last.encode())]:
        consumer._session._news.put(Arrival(topic, payload, 1, 1, -1))
    consumer.stop()
    verdicts = list(consumer)
    assert last.result_id in [verdict.result_id for verdict in verdicts]
    assert len({verdict.result_id for verdict in verdicts}) == len(verdicts)
    assert consumer.counts.bad == len(bad)
