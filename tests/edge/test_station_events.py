"""The audit trail of a whole station: durable through an outage, by the published schema, and without a secret."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import cv2
import numpy as np
import pytest
from harness import BAD, GOOD, Consumer, until

from edge.bundle import hash_files, write_manifest
from edge.config import DashboardConfig, FolderConfig, JudgeConfig
from edge.dashboard.passwords import User, hash_password
from edge.errors import EngineError
from edge.manifest import Manifest
from edge.startup import open_dashboard, open_station

ROOT = Path(__file__).parents[2]
PASSWORD, MISTYPED = "correct horse battery", "typed where the name belongs"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "parts").mkdir()
    for name, grey in (("a.png", GOOD), ("b.png", BAD)):
        cv2.imwrite(str(tmp_path / "parts" / name), np.full((64, 64), grey, np.uint8))
    return FolderConfig(kind="folder", directory=tmp_path / "parts")


@pytest.fixture
def guarded(tmp_path):
    """A page that asks for a password."""
    file = tmp_path / "passwords"
    user = User("olga", "operator", hash_password(PASSWORD))
    file.write_text(f"{user.name}:{user.role}:{user.password_hash}\n")
    return DashboardConfig(port=0, password_file=file)


def post(address, path, cookie="", **form):
    """Status, and the cookie that was set."""
    connection = HTTPConnection("127.0.0.1", urlsplit(address).port, timeout=10)
    connection.request("POST", path, urlencode(form), {"Cookie": cookie})
    response = connection.getresponse()
    connection.close()
    return response.status, (response.getheader("Set-Cookie") or "").split(";")[0]


def by_boot(events):
    boots = {}
    for event in events:
        boots.setdefault(event["boot_id"], []).append(event)
    return [sorted(boot, key=lambda event: event["seq"]) for _, boot in sorted(boots.items())]


def event_schema_of_asyncapi():
    document = json.loads((ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8"))
    (channel,) = (channel for channel in document["channels"].values() if channel["address"].endswith("/event"))
    (message,) = channel["messages"]
    return ROOT / "docs" / document["components"]["messages"][message]["payload"]["schema"]["$ref"]


def test_what_happened_while_the_broker_was_away_is_told_later(make_line, mosquitto, validators, folder, guarded):
    line = make_line(mosquitto(), camera=folder, dashboard=guarded)
    with open_station(line.config, is_simulated=True) as station, open_dashboard(station, line.config) as address:
        assert post(address, "/login", user=MISTYPED, password="x")[0] == 401
        status, cookie = post(address, "/login", user="olga", password=PASSWORD)
        assert status == 303
        station.run(threading.Event(), 4)
        assert post(address, "/counters/anew", cookie)[0] == 204
        assert post(address, "/logout", cookie)[0] == 303
    consumer = Consumer(line.broker.start().port)
    changed = line.config.model_copy(update={"judge": JudgeConfig(min_defect_area_px=7)})
    with open_station(changed, is_simulated=True) as station:
        station.run(threading.Event(), 4)
    until(lambda: len(consumer.verdicts) == 8, "all verdicts")
    consumer.close()

    events = consumer.of(consumer.topics.event)
    assert event_schema_of_asyncapi().resolve() == ROOT / "edge" / "schemas" / "event.json"
    for event in events:
        validators["event"].validate(event)
    first, second = ([event["event"] for event in boot] for boot in by_boot(events))
    assert [fact["kind"] for fact in first] == [
        *("bundle_loaded", "golden_test", "login_refused", "login", "camera_connected", "counters_reset", "logout")
    ]
    assert [fact["kind"] for fact in second] == [
        "bundle_loaded",
        "threshold_changed",
        "golden_test",
        "camera_connected",
    ]
    loaded, golden, refused, login = first[:4]
    assert loaded["bundle_sha256"] == station.bundle.manifest_sha256
    assert loaded["thresholds"] == {"image": 0.9, "pixel": 0.8, "min_defect_area_px": 4}
    assert (golden["passed"], golden["vectors"], golden["problem"]) == (True, 2, None)
    assert golden["map_error"] <= 1e-5
    assert refused == {"kind": "login_refused", "address": "127.0.0.1", "reason": "wrong name or password"}
    assert login == {"kind": "login", "user": "olga", "role": "operator", "address": "127.0.0.1"}
    assert second[1]["before"] == loaded["thresholds"]
    assert second[1]["now"] == second[0]["thresholds"] == loaded["thresholds"] | {"min_defect_area_px": 7}
    for _, payload in consumer.messages:
        assert not any(secret.encode() in payload for secret in (PASSWORD, MISTYPED))


def test_a_golden_test_that_fails_is_kept_though_the_station_never_runs(make_line, validators, folder, bundle_dir):
    golden = dict(np.load(bundle_dir / "golden.npz"))
    np.savez(bundle_dir / "golden.npz", **(golden | {"anomaly_map": golden["anomaly_map"] * np.float32(1.1)}))
    manifest = Manifest.model_validate_json((bundle_dir / "manifest.json").read_text())
    write_manifest(bundle_dir, manifest.model_copy(update={"files": hash_files(bundle_dir, sorted(manifest.files))}))
    line = make_line(camera=folder)
    consumer = Consumer(line.broker.port)
    with pytest.raises(EngineError, match="contradicts"), open_station(line.config, is_simulated=True):
        pass
    until(lambda: len(consumer.of(consumer.topics.event)) == 2, "two events")
    consumer.close()
    _, event = consumer.of(consumer.topics.event)
    validators["event"].validate(event)
    assert (event["event"]["passed"], event["event"]["map_error"]) == (False, None)
    assert "contradicts the golden vectors" in event["event"]["problem"]
