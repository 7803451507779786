"""A whole station whose broker it cannot trust, and then can; commands to it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge.config import MqttConfig, TlsConfig
from edge.wire import utc_text

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


def wait_for(condition: Callable[[], object], what: str) -> None:
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.01)


def test_the_station_inspects_while_it_distrusts_its_broker_and_then_takes_commands(
    make_line: Any, mosquitto: Any, tmp_path: Path
) -> None:
    plant, stranger = Authority(tmp_path / "plant", "plant"), Authority(tmp_path / "stranger", "stranger")
    server, client = plant.issue("broker", "IP:127.0.0.1"), plant.issue("station")
    broker = mosquitto(
        f"cafile {plant.cert}", f"certfile {server.cert}", f"keyfile {server.key}", "require_certificate true"
    ).start()
    trusted = tmp_path / "trusted.pem"
    shutil.copy(stranger.cert, trusted)
    tls = TlsConfig(ca_file=trusted, cert_file=client.cert, key_file=client.key)
    mqtt = MqttConfig(port=broker.port, reconnect_max_s=0.2, tls=tls, accept_commands=True)
    line = make_line(broker, mqtt=mqtt).start(consume=False)

    wait_for(lambda: line.station.publisher.last_error, "an error to show")
    before = line.station.verdicts.total()
    wait_for(lambda: line.station.verdicts.total() > before + 10, "verdicts all the same")
    assert "mqtt.tls.ca_file" in str(line.station.publisher.last_error)

    shutil.copy(plant.cert, trusted)
    wait_for(lambda: line.station.publisher.stats().acknowledged > 10, "delivered")
    results: list[dict[str, Any]] = []
    host = Client(CallbackAPIVersion.VERSION2, "host")
    host.tls_set(str(plant.cert), str(client.cert), str(client.key))
    host.on_connect = lambda client, *_: client.subscribe(line.station.topics.command_result, 1)
    host.on_message = lambda _client, _data, message: results.append(json.loads(message.payload))
    host.connect("127.0.0.1", broker.port)
    host.on_subscribe = lambda client, *_: [
        client.publish(
            line.station.topics.command(action),
            json.dumps({"command_id": action, "ts": utc_text(time.time_ns())}),
            1,
        )
        for action in ("state", "outbox", "format-disk")
    ]
    host.loop_start()
    try:
        wait_for(lambda: len(results) == 3, "answers")
    finally:
        host.disconnect()
        host.loop_stop()
        line.end()
    state, outbox, unknown = results
    assert (state["result"], outbox["result"], unknown["result"]) == ("done", "done", "refused")
    assert state["values"]["camera"] == "Stream"
    assert state["values"]["verdicts_ok"] > 0
    assert outbox["values"]["acknowledged"] > 10
    assert "outbox, state" in unknown["reason"]
