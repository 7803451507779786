"""Real HTTP on a real port."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edge.dashboard.app import UPDATES_PER_S
from edge.dashboard.server import Dashboard
from edge.errors import ConfigError


@contextmanager
def answer(
    address: str, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> Iterator[HTTPResponse]:
    connection = HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    while text := response.readline():
        if text.startswith(b"data: "):
            yield json.loads(text[6:])


def picture(address: str, result_id: str, view: str) -> Any:
    with answer(address, f"/inspections/{result_id}/{view}") as response:
        assert response.status == 200
        assert response.getheader("Content-Type") == "image/jpeg"
        return cv2.imdecode(np.frombuffer(response.read(), np.uint8), cv2.IMREAD_COLOR)


def test_updates_tell_verdict_counters_and_station(line: Any, address: str) -> None:
    with answer(address, "/events") as response:
        assert response.getheader("Content-Type", "").startswith("text/event-stream")
        stream = events(response)
        assert next(stream)["newest"] is None
        published = line.publish("NG").verdict
        state = next(stream)
    assert state["newest"]["result_id"] == published.result_id
    assert (state["newest"]["verdict"], state["newest"]["score"], state["newest"]["threshold"]) == ("NG", 1.62, 1.0)
    assert state["newest"]["durable_ms"] == 42.0
    assert state["counts"] == {"OK": 0, "NG": 1, "INVALID": 0, "TIMEOUT": 0}
    assert state["place"] == ["plant-7", "casting", "line-2", "flange-inspection"]
    assert state["station"]["camera_streams"]
    assert [part["result_id"] for part in state["ng"]] == [published.result_id]


def test_a_silent_line_still_tells_how_the_station_is(line: Any, address: str) -> None:
    with answer(address, "/events") as response:
        stream = events(response)
        next(stream)
        line.set_status(broker_connected=False, outbox_pending=17)
        begin_s = time.monotonic()
        station = next(stream)["station"]
    assert (station["broker_connected"], station["outbox_pending"]) == (False, 17)
    assert 0.5 < time.monotonic() - begin_s < 2.5


def test_a_burst_is_counted_to_the_last_verdict_and_updates_stay_few(line: Any, address: str) -> None:
    with answer(address, "/events") as response:
        stream = events(response)
        next(stream)
        begin_s = time.monotonic()
        for number in range(2000):
            line.publish(("TIMEOUT", "TIMEOUT", "TIMEOUT", "INVALID")[number % 4])
        updates = 1
        while sum((state := next(stream))["counts"].values()) < 2000:
            updates += 1
        took_s = time.monotonic() - begin_s
    assert state["counts"] == {"OK": 0, "NG": 0, "INVALID": 500, "TIMEOUT": 1500}
    assert updates <= took_s * UPDATES_PER_S + 2
    assert len(state["trend"]) == 200
    assert state["trend"][-1][0] == state["newest"]["seq"] == 2000


def test_publishing_costs_the_line_microseconds_while_pages_look(line: Any, address: str) -> None:
    inspection = line.publish("NG")
    enough = threading.Event()

    def look() -> None:
        with answer(address, "/events") as response:
            for state in events(response):
                picture(address, state["newest"]["result_id"], "heatmap")
                if enough.is_set():
                    return

    pages = [threading.Thread(target=look) for _ in range(2)]
    for page in pages:
        page.start()
    costs_ms = []
    for _ in range(300):
        begin_s = time.perf_counter()
        line.side_channel.publish(inspection)
        costs_ms.append((time.perf_counter() - begin_s) * 1000)
        time.sleep(0.002)
    enough.set()
    for page in pages:
        page.join()
    assert float(np.median(costs_ms)) < 1.0


def test_pictures_show_the_frame_the_heat_and_the_outline(line: Any, address: str) -> None:
    inspection = line.publish("NG")
    result_id = inspection.verdict.result_id
    frame, heat, drawn = (picture(address, result_id, view) for view in ("frame", "heatmap", "outline"))
    large_mask = cv2.resize(inspection.mask, frame.shape[1::-1], interpolation=cv2.INTER_NEAREST) == 1
    away = ~cv2.dilate(large_mask.astype(np.uint8), np.ones((61, 61), np.uint8)).astype(bool)
    for view in (heat, drawn):
        difference = cv2.absdiff(frame, view).max(axis=2)
        assert np.median(difference[away]) <= 3
    assert cv2.absdiff(frame, heat)[large_mask].mean() > 30
    assert ((drawn[..., 2] > 200) & (drawn[..., 1] > 170) & (drawn[..., 0] < 90)).sum() > 200


@pytest.mark.parametrize(
    ("outcome", "available"),
    [("OK", {"frame", "heatmap", "outline"}), ("INVALID", {"frame"}), ("TIMEOUT", set())],
)
def test_only_pictures_that_exist_are_served(line: Any, address: str, outcome: str, available: set[str]) -> None:
    result_id = line.publish(outcome).verdict.result_id
    with answer(address, "/events") as response:
        assert set(next(events(response))["newest"]["views"]) == available
    for view in ("frame", "heatmap", "outline", "thumbnail", "nonsense"):
        with answer(address, f"/inspections/{result_id}/{view}") as response:
            exists = bool(available) if view == "thumbnail" else view in available
            assert response.status == (200 if exists else 404)


def test_a_rejected_part_is_told_in_full_and_an_unknown_one_is_not(line: Any, address: str) -> None:
    verdict = line.publish("NG").verdict
    with answer(address, f"/inspections/{verdict.result_id}") as response:
        assert json.load(response)["defects_total"] == 2
    with answer(address, "/inspections/01ARZ3NDEKTSV4RRFFQ69G5FAV") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/static/style.css", "/static/icon.svg", "/colour-scale", "/x"]
)
def test_every_answer_forbids_foreign_code_embedding_and_caching(quiet_address: str, path: str) -> None:
    with answer(quiet_address, path) as response:
        assert response.status == (404 if path == "/x" else 200)
        policy = response.getheader("Content-Security-Policy", "")
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.getheader("Cache-Control") == "no-store"
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert response.getheader("Cross-Origin-Resource-Policy") == "same-origin"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost@evil.example", "10.0.0.1", ""]
)
@pytest.mark.parametrize("path", ["/", "/events", "/static/app.js"])
def test_a_foreign_host_name_gets_nothing(quiet_address: str, host: str, path: str) -> None:
    with answer(quiet_address, path, headers={"Host": host}) as response:
        assert response.status == 421
        assert b"script" not in response.read()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.1:80"])
def test_this_machines_own_names_are_served(quiet_address: str, host: str) -> None:
    with answer(quiet_address, "/", headers={"Host": host}) as response:
        assert response.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_everything_is_read_only(quiet_address: str, method: str) -> None:
    for path in ("/", "/events"):
        with answer(quiet_address, path, method) as response:
            assert response.status == 405
            assert response.getheader("Allow") == "GET"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/",
        "/../server.py",
    ],
)
def test_no_path_leaves_the_static_files(quiet_address: str, path: str) -> None:
    with answer(quiet_address, path) as response:
        assert response.status == 404
        assert b"import" not in response.read()


def test_the_port_is_bound_to_this_machine_alone(quiet_address: str) -> None:
    port = urlsplit(quiet_address).port
    assert port is not None
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), timeout=2):
        pass


def test_a_taken_port_is_named(new_dashboard: Callable[..., Dashboard], address: str) -> None:
    port = urlsplit(address).port
    assert port is not None
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} .*dashboard\.port"):
        new_dashboard(port).start()


def test_a_missing_extra_is_named() -> None:
    """In an interpreter of its own where starlette cannot be imported."""
    program = """
import sys
sys.modules["starlette"] = None
from edge.config import DashboardConfig, Identity
from edge.dashboard.server import Dashboard
from edge.observer import SideChannel
Dashboard(SideChannel(), lambda: None, identity=Identity(), pixel_threshold=1.0, config=DashboardConfig(port=0)).start()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "edge.errors.ConfigError" in result.stderr
    assert "pip install 'tfanet-edge[dashboard]'" in result.stderr


def test_stop_ends_live_updates_at_once_and_frees_the_port(
    new_dashboard: Callable[..., Dashboard], dashboard: Dashboard, address: str
) -> None:
    port = urlsplit(address).port
    with answer(address, "/events") as response:
        stream = events(response)
        next(stream)
        begin_s = time.monotonic()
        dashboard.stop()
        assert time.monotonic() - begin_s < 3
        assert list(stream) == []
    dashboard.stop()
    assert new_dashboard(port).start() == address


def test_stop_before_start_is_harmless(dashboard: Dashboard) -> None:
    dashboard.stop()
