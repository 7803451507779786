"""What a person may write for a broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.broker_address import parse_broker_address
from edge.errors import BrokerAddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1884", ("127.0.0.1", 1884)),
        ("mqtt://broker.local:8000", ("broker.local", 8000)),
        ("mqtt://broker/", ("broker", 1883)),
        ("broker", ("broker", 1883)),
        ("[::1]:1883", ("::1", 1883)),
    ],
)
def test_broker_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_broker_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1883",
        "broker:",
        "broker:0",
        "broker:99999",
        "broker:x",
        "http://broker",
        "mqtt://u:p@broker",
        "a b:1",
        "b/c",
    ],
)
def test_what_cannot_be_a_broker_address(text: str) -> None:
    with pytest.raises(BrokerAddressError, match="broker address") as caught:
        parse_broker_address(text)
    assert repr(text)[1:-1] in caught.value.problem
    assert caught.value.remedy


@given(st.text())
def test_any_text_is_an_address_or_an_error_a_person_can_mend(text: str) -> None:
    try:
        host, port = parse_broker_address(text)
    except BrokerAddressError:
        return
    assert host
    assert 1 <= port <= 65535
