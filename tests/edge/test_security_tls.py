"""TLS to a real Mosquitto, with certificates made here."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from authority import Authority, Certificate

from edge.config import MqttConfig, TlsConfig
from edge.delivery import verdict_messages
from edge.errors import ConfigError, DeliveryError
from edge.messages import fit_verdict
from edge.mqtt.link import Link
from edge.mqtt.packets import Incoming, Will
from edge.mqtt.publisher import Publisher
from edge.mqtt.tls import check_transport, tls_context
from edge.outbox import Outbox
from edge.wire import Topics

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")

PASSWORD = "opens-the-key"


class Certificates:
    """Of one plant, and of a stranger's."""

    def __init__(self, directory: Path) -> None:
        self.plant = Authority(directory / "plant", "plant")
        self.stranger = Authority(directory / "stranger", "stranger")
        self.broker = self.plant.issue("broker", "IP:127.0.0.1,DNS:localhost")
        self.station = self.plant.issue("station")

    @staticmethod
    def listener(ca: Authority, broker: Certificate, *more: str) -> tuple[str, ...]:
        return (f"cafile {ca.cert}", f"certfile {broker.cert}", f"keyfile {broker.key}", *more)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def tls(ca: Authority, client: Certificate | None = None, password_file: Path | None = None) -> TlsConfig:
    if client is None:
        return TlsConfig(ca_file=ca.cert)
    return TlsConfig(ca_file=ca.cert, cert_file=client.cert, key_file=client.key, key_password_file=password_file)


@pytest.fixture
def connect() -> Iterator[Callable[..., Link]]:
    bell, rope = socket.socketpair()
    made: list[Link] = []

    def make(port: int, config: TlsConfig | None, host: str = "127.0.0.1", protocol: str = "3.1.1") -> Link:
        mqtt = MqttConfig.model_validate({"host": host, "port": port, "tls": config, "protocol": protocol})
        made.append(Link(mqtt, None, "station", Will("gone", b""), bell))
        return made[-1]

    yield make
    for link in made:
        link.close()
    bell.close()
    rope.close()


def refusal(connect: Any, *arguments: Any) -> str:
    with pytest.raises(DeliveryError) as error:
        connect(*arguments)
    assert "it is tried again" in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_both_ends_show_certificates(
    mosquitto: Any, certificates: Certificates, connect: Any, tmp_path: Path, protocol: str
) -> None:
    broker = mosquitto(
        *certificates.listener(certificates.plant, certificates.broker, "require_certificate true")
    ).start()
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    closed = certificates.plant.issue("closed", password=PASSWORD)
    link = connect(broker.port, tls(certificates.plant, closed, password), "localhost", protocol)
    # Many messages in one TLS record: what is decrypted already must not wait for the socket.
    got: list[Incoming] = []
    link.subscribe("echo", got.append, 100)
    for number in range(50):
        link.send("echo", b"%d" % number, qos=1, retain=False, kind="verdict")
    give_up_s = time.monotonic() + 5
    begin_s = time.monotonic()
    while len(got) < 50 or len(link.receipts) < 50:
        assert time.monotonic() < give_up_s
        link.wait(1.0)
    assert time.monotonic() - begin_s < 1.0
    assert [incoming.payload for incoming in got] == [b"%d" % number for number in range(50)]


def test_another_authority_is_refused_here(mosquitto: Any, certificates: Certificates, connect: Any) -> None:
    broker = mosquitto(*certificates.listener(certificates.plant, certificates.broker)).start()
    said = refusal(connect, broker.port, tls(certificates.stranger))
    assert "certificate" in said
    assert "mqtt.tls.ca_file" in said


def test_a_certificate_for_another_host_is_refused_here(
    mosquitto: Any, certificates: Certificates, connect: Any
) -> None:
    elsewhere = certificates.plant.issue("elsewhere", "DNS:broker.example")
    broker = mosquitto(*certificates.listener(certificates.plant, elsewhere)).start()
    for host in ("127.0.0.1", "localhost"):
        said = refusal(connect, broker.port, tls(certificates.plant), host)
        assert "mismatch" in said
        assert "mqtt.host" in said


def test_an_expired_certificate_is_refused_here(mosquitto: Any, certificates: Certificates, connect: Any) -> None:
    expired = certificates.plant.issue("expired", "IP:127.0.0.1", days=-1)
    broker = mosquitto(*certificates.listener(certificates.plant, expired)).start()
    said = refusal(connect, broker.port, tls(certificates.plant))
    assert "expired" in said
    assert "clock" in said


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_a_missing_or_foreign_client_certificate_is_told_from_each_other(
    mosquitto: Any, certificates: Certificates, connect: Any, version: str
) -> None:
    options = certificates.listener(
        certificates.plant, certificates.broker, "require_certificate true", f"tls_version {version}"
    )
    broker = mosquitto(*options).start()
    assert "set mqtt.tls.cert_file" in refusal(connect, broker.port, tls(certificates.plant))
    foreign = certificates.stranger.issue("station")
    said = refusal(connect, broker.port, tls(certificates.plant, foreign))
    assert "the broker trusts its issuer" in said
    expired = certificates.plant.issue("late", days=-1)
    assert "has not expired" in refusal(connect, broker.port, tls(certificates.plant, expired))


def test_old_versions_of_tls_are_not_spoken(certificates: Certificates) -> None:
    context = tls_context(tls(certificates.plant))
    assert context.minimum_version.name == "TLSv1_2"
    assert context.check_hostname


def test_tls_where_there_is_none_and_the_other_way_round(
    mosquitto: Any, certificates: Certificates, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.mqtt.link._CONNECT_TIMEOUT_S", 1.0)
    plain = mosquitto().start()
    assert refusal(connect, plain.port, tls(certificates.plant))
    encrypted = mosquitto(*certificates.listener(certificates.plant, certificates.broker)).start()
    assert "[mqtt.tls]" in refusal(connect, encrypted.port, None)


def test_the_station_goes_on_and_delivers_when_the_certificate_is_renewed(
    mosquitto: Any, certificates: Certificates, topics: Topics, boot_id: str, make_verdict: Any, tmp_path: Path
) -> None:
    options = certificates.listener(certificates.plant, certificates.broker, "require_certificate true")
    broker = mosquitto(*options).start()
    expired = certificates.plant.issue("station", days=-1)
    cert, key = tmp_path / "station.pem", tmp_path / "station.key"
    shutil.copy(expired.cert, cert)
    shutil.copy(expired.key, key)
    config = MqttConfig(
        port=broker.port,
        reconnect_max_s=0.2,
        tls=TlsConfig(ca_file=certificates.plant.cert, cert_file=cert, key_file=key),
    )
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    publisher = Publisher(config, topics, outbox, boot_id=boot_id, version="0")
    publisher.start()
    try:
        outbox.append_many(verdict_messages(topics, fit_verdict(make_verdict(0)), with_plc=False))
        give_up_s = time.monotonic() + 10
        while publisher.last_error is None:
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        assert "expired" in str(publisher.last_error)
        assert publisher.stats().pending == 1
        cert.write_text("half written")  # a renewal is not atomic everywhere
        while "cannot be used" not in str(publisher.last_error):
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        shutil.copy(certificates.station.key, key)
        shutil.copy(certificates.station.cert, cert)
        while publisher.stats().pending:
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
    finally:
        publisher.stop(0.0)
        outbox.close()


@pytest.mark.parametrize("wrong", ["ca", "missing ca", "key", "password", "no password", "binary password"])
def test_files_that_cannot_be_used_are_named_at_the_start(
    certificates: Certificates, tmp_path: Path, wrong: str
) -> None:
    closed = certificates.plant.issue("closed", password=PASSWORD)
    secret, garbage = tmp_path / "secret", tmp_path / "garbage.pem"
    secret.write_text({"password": "mistaken"}.get(wrong, PASSWORD))
    if wrong == "binary password":
        secret.write_bytes(b"\xff\xfe")
    garbage.write_text("no certificate")
    config = TlsConfig(
        ca_file={"ca": garbage, "missing ca": tmp_path / "nowhere"}.get(wrong, certificates.plant.cert),
        cert_file=closed.cert,
        key_file=certificates.station.key if wrong == "key" else closed.key,
        key_password_file=None if wrong == "no password" else secret,
    )
    with pytest.raises(ConfigError) as error:
        check_transport(MqttConfig(tls=config))
    assert "mqtt.tls" in str(error.value)
    assert "mistaken" not in str(error.value)


def test_an_unencrypted_way_to_another_machine_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_transport(MqttConfig())
        assert not caplog.records
        check_transport(MqttConfig(host="192.0.2.7", username="station"))
    assert "password" in caplog.text
    assert "[mqtt.tls]" in caplog.text
