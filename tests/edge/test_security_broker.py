"""The broker's sample configuration, run as it is with its paths replaced."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from ports import free_port

from edge.config import Identity, MqttConfig, TlsConfig
from edge.delivery import verdict_messages
from edge.messages import fit_verdict
from edge.mqtt.link import Incoming
from edge.mqtt.publisher import Publisher
from edge.outbox import Outbox
from edge.wire import Topics

SAMPLE = Path(__file__).parents[2] / "systemd" / "mosquitto"
PLACES = {name: Topics(Identity(site="plant", area="a", line="l", station=name)) for name in ("press", "mill")}

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


def wait_for(condition: Callable[[], object], what: str = "") -> None:
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.005)


class Site:
    """A broker with the sample's files, and whoever connects to it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.authority = Authority(directory / "tfanet-edge", "plant")
        certificate = self.authority.issue("broker", "IP:127.0.0.1")
        for source, name in (
            (certificate.cert, "broker.pem"),
            (certificate.key, "broker.key"),
            (SAMPLE / "acl", "acl"),
        ):
            shutil.copy(source, directory / "tfanet-edge" / name)
        self.port = free_port()
        text = (SAMPLE / "tfanet-edge.conf").read_text()
        for old, new in (
            ("/etc/mosquitto/tfanet-edge", str(directory / "tfanet-edge")),
            ("/var/lib/mosquitto/", f"{directory}/"),
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
        ):
            assert old in text
            text = text.replace(old, new)
        # As root it would become another user, who may not read the test's directory.
        self._config = directory / "mosquitto.conf"
        self._config.write_text(f"{text}\nuser {getpass.getuser()}\n" if os.getuid() == 0 else text)
        self._process: subprocess.Popen[bytes] | None = None
        self._peers: list[Peer] = []

    def start(self) -> None:
        binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if binary is None:
            pytest.skip("needs the program mosquitto")
        with (self._directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen([binary, "-c", str(self._config)], stdout=log, stderr=log)
        wait_for(self._answers, (self._directory / "broker.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def tls(self, name: str) -> TlsConfig:
        certificate = self.authority.issue(name)
        return TlsConfig(ca_file=self.authority.cert, cert_file=certificate.cert, key_file=certificate.key)

    def peer(self, name: str, *topics: str) -> Peer:
        self._peers.append(Peer(name, self.tls(name), self.port, topics))
        return self._peers[-1]

    def part(self) -> None:
        """Nobody is connected any more."""
        while self._peers:
            self._peers.pop().close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "broker.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Peer:
    """A client with a certificate; MQTT 5, where a broker says when it refuses a message."""

    def __init__(self, name: str, tls: TlsConfig, port: int, topics: tuple[str, ...]) -> None:
        self.heard: list[str] = []
        self._reasons: dict[int, str] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
        context = ssl.create_default_context(cafile=tls.ca_file)
        assert tls.cert_file is not None
        context.load_cert_chain(tls.cert_file, tls.key_file)
        self._client.tls_set_context(context)
        self._client.on_publish = lambda _c, _d, mid, reason, _p: self._reasons.update({mid: reason.getName()})
        self._client.on_message = lambda _c, _d, message: self.heard.append(message.topic)
        self._client.on_connect = lambda client, *_: [client.subscribe(topic, 1) for topic in topics]
        granted: list[object] = []
        self._client.on_subscribe = lambda *_: granted.append(1)
        # The broker keeps the session while this end is away.
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        self._client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()
        wait_for(lambda: self._client.is_connected() and len(granted) == len(topics), f"{name} connected")

    def may_publish(self, topic: str) -> bool:
        information = self._client.publish(topic, b"{}", 1)
        wait_for(lambda: information.mid in self._reasons, topic)
        reason = self._reasons[information.mid]
        assert reason in ("Success", "No matching subscribers", "Not authorized"), reason
        return reason != "Not authorized"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    yield running
    running.part()


def test_a_station_speaks_for_itself_alone(site: Site) -> None:
    press = site.peer("press")
    own, other = PLACES["press"], PLACES["mill"]
    for topic in (own.verdict, own.status, own.plc, own.alarm("x"), own.mask("m"), own.command_result):
        assert press.may_publish(topic), topic
    for topic in (other.verdict, other.status, other.command("state"), other.command_result, "tfanet/v2/x", "other"):
        assert not press.may_publish(topic), topic


@pytest.mark.parametrize("name", ["line-host", "screen", "line-control", "somebody-else"])
def test_nobody_but_stations_publishes_verdicts(site: Site, name: str) -> None:
    peer = site.peer(name)
    for place in PLACES.values():
        for topic in (place.verdict, place.verdict_last, place.status, place.state, place.meta, place.command_result):
            assert not peer.may_publish(topic), topic
    posing = Topics(Identity(site="plant", area="a", line="l", station=name))
    assert peer.may_publish(posing.verdict) == (name == "somebody-else")


@pytest.mark.parametrize(
    ("name", "commands", "replays"),
    [("line-host", False, True), ("screen", False, False), ("line-control", True, False), ("mill", False, False)],
)
def test_who_may_command_and_who_may_ask_for_a_replay(site: Site, name: str, commands: bool, replays: bool) -> None:
    peer = site.peer(name)
    press = PLACES["press"]
    assert peer.may_publish(press.command("state")) == commands
    assert peer.may_publish(press.command("outbox")) == commands
    assert not peer.may_publish(press.command("shutdown"))
    assert peer.may_publish(f"{press.root}/replay/request") == replays


def test_who_hears_what(site: Site) -> None:
    mill, screen = site.peer("mill", "#"), site.peer("screen", "tfanet/#")
    stranger = site.peer("stranger", "#")
    press, control, host = site.peer("press", "#"), site.peer("line-control"), site.peer("line-host")
    topics = PLACES["press"]
    assert press.may_publish(topics.verdict)
    assert control.may_publish(topics.command("state"))
    assert host.may_publish(f"{topics.root}/replay/request")
    assert control.may_publish(PLACES["mill"].command("state"))
    wait_for(lambda: len(mill.heard) == 1 and len(press.heard) == 2 and len(screen.heard) == 4, "everything heard")
    assert mill.heard == [PLACES["mill"].command("state")]
    assert press.heard == [topics.command("state"), f"{topics.root}/replay/request"]
    assert stranger.heard == []


def test_the_station_delivers_and_a_subscriber_misses_nothing_over_a_restart(
    tmp_path: Path, boot_id: str, make_verdict: Any
) -> None:
    site = Site(tmp_path / "site")
    site.start()
    topics = PLACES["press"]
    outbox = Outbox(tmp_path / "outbox.sqlite", 100)
    config = MqttConfig(port=site.port, tls=site.tls("press"), reconnect_max_s=0.2)
    publisher = Publisher(config, topics, outbox, boot_id=boot_id, version="0")
    requests: list[Incoming] = []
    publisher.listen(f"{topics.root}/replay/request", requests.append, 100)
    publisher.start()
    try:
        host = site.peer("line-host", topics.verdict)
        for seq in range(3):
            outbox.append_many(verdict_messages(topics, fit_verdict(make_verdict(seq)), with_plc=False))
        wait_for(lambda: len(host.heard) == 3, "verdicts")
        assert host.may_publish(f"{topics.root}/replay/request")
        wait_for(lambda: requests, "the request")
        host.close()
        outbox.append_many(verdict_messages(topics, fit_verdict(make_verdict(3)), with_plc=False))
        wait_for(lambda: publisher.stats().pending == 0, "delivered")
        site.stop()
        site.start()
        again = site.peer("line-host", topics.verdict)
        wait_for(lambda: again.heard == [topics.verdict], "what the broker kept")
        wait_for(lambda: publisher.stats().connected, "connected again")
    finally:
        publisher.stop(0.0)
        outbox.close()
        site.part()
        site.stop()
