"""Secrets come from files or systemd's credentials and are seen nowhere else."""

from __future__ import annotations

import logging
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge.config import StationConfig
from edge.config_file import load_config
from edge.credentials import read_secret
from edge.dashboard.passwords import hash_password
from edge.errors import ConfigError
from edge.mqtt.publisher import Publisher
from edge.mqtt.tls import check_transport
from edge.outbox import Outbox
from edge.wire import Topics

SECRET = "hunter2-is-not-to-be-seen"


def wait_for(condition: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(mqtt: str) -> Path:
        path = tmp_path / "station.toml"
        camera = '[camera]\nkind = "folder"\ndirectory = "parts"\n'
        path.write_text(f'bundle = "b"\n{camera}[mqtt]\n{mqtt}\n')
        return path

    return write


def load(path: Path) -> StationConfig:
    return load_config(path)


def test_systemd_credentials(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'username = "s"\npassword_file = "$CREDENTIALS_DIRECTORY/mqtt-password"'
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="LoadCredential"):
        load(write(text))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run"))
    assert load(write(text)).mqtt.password_file == tmp_path / "run" / "mqtt-password"


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"\xff" + SECRET.encode(), SECRET.encode() * 500, None])
def test_what_is_no_secret_is_named_without_its_content(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mqtt\.password_file") as error:
        read_secret(path, "mqtt.password_file")
    shown: BaseException | None = error.value
    while shown is not None:
        assert SECRET not in repr(shown)
        assert SECRET.encode() not in pickle.dumps(shown)
        shown = shown.__cause__ or shown.__context__


def test_a_password_in_the_configuration_itself_is_refused_and_not_shown(write: Any) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'mqtt\.password'") as error:
        load(write(f'password = "{SECRET}"'))
    assert SECRET not in str(error.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
@pytest.mark.parametrize("accepted", [True, False])
def test_no_log_configuration_or_message_shows_a_secret(
    write: Any,
    mosquitto: Any,
    topics: Topics,
    boot_id: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    accepted: bool,
) -> None:
    authority = Authority(tmp_path / "ca", "plant")
    server, client = authority.issue("broker", "IP:127.0.0.1"), authority.issue("station", password=SECRET)
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    tls = (f"cafile {authority.cert}", f"certfile {server.cert}", f"keyfile {server.key}", "require_certificate true")
    rules = () if accepted else (f"password_file {_empty(tmp_path / 'users')}", "allow_anonymous false")
    broker = mosquitto(*tls, *rules).start()
    path = write(
        f'port = {broker.port}\nusername = "station"\npassword_file = "secret"\nreconnect_max_s = 0.2\n'
        f'tls = {{ ca_file = "{authority.cert}", cert_file = "{client.cert}", key_file = "{client.key}", '
        'key_password_file = "secret" }'
    )
    heard: list[bytes] = []
    listener = Client(CallbackAPIVersion.VERSION2, "listener")
    listener.on_message = lambda _client, _data, message: heard.append(message.payload)
    listener.on_connect = lambda client, *_: client.subscribe("#", 1)
    with caplog.at_level(logging.DEBUG):
        config = load(path)
        check_transport(config.mqtt)
        outbox = Outbox(tmp_path / "outbox.sqlite", 100)
        publisher = Publisher(config.mqtt, topics, outbox, boot_id=boot_id, version="0")
        if accepted:
            listener.tls_set(str(authority.cert), str(server.cert), str(server.key))
            listener.connect("127.0.0.1", broker.port)
            listener.loop_start()
        publisher.start()
        try:
            wait_for(lambda: heard if accepted else publisher.last_error)
        finally:
            publisher.stop(0.5)
            outbox.close()
            if accepted:
                listener.disconnect()
                listener.loop_stop()
    shown = [record.getMessage() for record in caplog.records] + [repr(config), str(config), config.model_dump_json()]
    shown += [repr(publisher.last_error), repr(publisher.stats()), repr(publisher)]
    assert SECRET not in "\n".join(shown)
    assert SECRET.encode() not in b"\n".join(heard)
    assert publisher.last_error is None or "refused" in str(publisher.last_error)


def _empty(path: Path) -> Path:
    path.write_text("")
    path.chmod(0o644)
    return path


def test_a_hashed_password_cannot_be_read_back() -> None:
    assert SECRET not in hash_password(SECRET)
