"""What the bytes are, as read by a decoder that knows nothing of the encoder."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import MessageError
from edge.sparkplug.payload import DataType, Metric, Payload, decode, encode

UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=40)
VALUES = st.one_of(
    st.tuples(st.just(DataType.BOOLEAN), st.booleans()),
    st.tuples(st.just(DataType.UINT64), UINT64),
    st.tuples(st.just(DataType.INT64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(DataType.DOUBLE), st.floats(allow_nan=False)),
    st.tuples(st.just(DataType.STRING), TEXT),
    st.tuples(st.sampled_from(DataType), st.none()),
)
METRICS = st.builds(
    lambda name, alias, at_ms, typed, is_historical: Metric(name, alias, typed[0], at_ms, typed[1], is_historical),
    TEXT,
    st.none() | UINT64,
    UINT64,
    VALUES,
    st.booleans(),
)
PAYLOADS = st.builds(Payload, UINT64, st.none() | st.integers(0, 255), st.lists(METRICS, max_size=5).map(tuple))
KINDS = {bool: "boolean", int: "long", float: "double", str: "string"}


@given(payload=PAYLOADS)
def test_another_decoder_reads_the_same(payload: Payload, read: Any) -> None:
    found = read(encode(payload))
    assert (found["timestamp"], found.get("seq")) == (payload.timestamp_ms, payload.seq)
    assert len(found["metrics"]) == len(payload.metrics)
    for metric, said in zip(payload.metrics, found["metrics"], strict=True):
        assert said["name"] == metric.name
        assert said.get("alias") == metric.alias
        assert said["timestamp"] == metric.timestamp_ms
        assert said["datatype"] == metric.datatype
        assert said.get("is_historical", False) == metric.is_historical
        assert said.get("is_null", False) == (metric.value is None)
        if metric.value is None:
            assert "value" not in said
        else:
            assert said["kind"] == KINDS[type(metric.value)]
            assert said["value"] == (metric.value % 2**64 if type(metric.value) is int else metric.value)


@given(payload=PAYLOADS)
def test_there_and_back(payload: Payload) -> None:
    assert decode(encode(payload)) == payload


def test_not_a_number_stays_none() -> None:
    (metric,) = decode(encode(Payload(1, 0, (Metric("a", 1, DataType.DOUBLE, 1, math.nan),)))).metrics
    assert isinstance(metric.value, float)
    assert math.isnan(metric.value)


@given(data=st.binary(max_size=60) | PAYLOADS.map(encode).map(lambda data: data[:-1]))
def test_any_bytes(data: bytes) -> None:
    with suppress(MessageError):
        decode(data)


@pytest.mark.parametrize("metric", [b"\x0a\x02\xff\xfe", b"\x7a\x02\xff\xfe"])
def test_text_that_is_none(metric: bytes) -> None:
    with pytest.raises(MessageError, match="Sparkplug"):
        decode(b"\x12" + bytes([len(metric)]) + metric)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (b"\x20\x03\x50\xff\xff\xff\xff\x0f", -1),  # Int32 in int_value
        (b"\x20\x07\x50\xff\xff\xff\xff\x0f", 2**32 - 1),  # UInt32
        (b"\x20\x09\x65\x00\x00\xc0\x3f", 1.5),  # Float
        (b"\x20\x11\x82\x01\x02ab", None),  # Bytes, which the bridge has no use for
        (b"\x38\x01\x58\x05", None),  # null counts, whatever stands beside it
    ],
)
def test_types_that_others_write(metric: bytes, value: object) -> None:
    assert decode(b"\x12" + bytes([len(metric)]) + metric).metrics[0].value == value
