"""What a person may write for a broker."""

from __future__ import annotations

from urllib.parse import urlsplit

from edge.errors import BrokerAddressError


def parse_broker_address(text: str) -> tuple[str, int]:
    """Host and port of `host`, `host:port` or `mqtt://host:port`; the port is 1883 unless given.

    Raises:
        BrokerAddressError: it is none of these.
    """
    remedy = "write host:port or mqtt://host:port, for example 192.168.1.10:1883"
    try:
        address = urlsplit(text if "://" in text else f"mqtt://{text}")
        host, port = address.hostname, address.port
    except ValueError as error:
        raise BrokerAddressError(f"broker address '{text}' cannot be one ({error})", remedy) from error
    if address.scheme != "mqtt":
        raise BrokerAddressError(f"broker address '{text}' has the scheme '{address.scheme}'", remedy)
    if not host or any(character.isspace() for character in text) or port == 0 or text.endswith(":"):
        raise BrokerAddressError(f"broker address '{text}' has no usable host and port", remedy)
    if address.username is not None or address.path.strip("/") or address.query or address.fragment:
        raise BrokerAddressError(
            f"broker address '{text}' has more than host and port", "give user name and password in the configuration"
        )
    return host, 1883 if port is None else port
