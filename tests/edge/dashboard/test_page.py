"""What an operator sees, in a real browser."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edge.cameras.camera import CameraState
from edge.dashboard.passwords import hash_password
from edge.dashboard.server import Dashboard
from edge.frame import Image

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BROWSER.exists() and DRIVER.exists()), reason="Chromium or its driver is not installed"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    os.environ["SE_OFFLINE"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1440,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """The page as an operator reads it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def text(self, element_id: str) -> str:
        return str(self.driver.find_element(By.ID, element_id).text)

    def wait(self, condition: Callable[[], Any], timeout_s: float = 8.0) -> Any:
        return WebDriverWait(self.driver, timeout_s, poll_frequency=0.05).until(lambda _: condition())

    def wait_text(self, element_id: str, text: str) -> None:
        self.wait(lambda: self.text(element_id) == text)

    def picture(self, figure: str = "live", view: str = "heatmap") -> Image:
        """The pixels on the screen, once that view is painted."""
        path = f"#{figure} .sheet img"
        self.wait(
            lambda: self.driver.execute_script(
                "const image = document.querySelector(arguments[0]);"
                "return image && image.src.endsWith(arguments[1]) && image.complete && image.naturalWidth > 0",
                path,
                f"/{view}",
            )
        )
        data = self.driver.find_element(By.CSS_SELECTOR, path).screenshot_as_png
        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)

    def press(self, key: str) -> None:
        self.driver.find_element(By.TAG_NAME, "body").send_keys(key)

    def background(self, selector: str) -> str:
        return str(self.driver.find_element(By.CSS_SELECTOR, selector).value_of_css_property("background-color"))


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Page]:
    """The line's page; at the end nothing was complained of and nobody else was asked."""
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.get(address)
    yield Page(chromium)
    requested = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in chromium.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    # The browser's own start page asks itself for chrome:// addresses.
    hosts = {urlsplit(url).netloc for url in requested if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
    chromium.get("about:blank")
    assert hosts == {urlsplit(address).netloc}


def complaints(page: Page) -> list[str]:
    return [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_the_operator_sees_every_verdict(line: Any, page: Page) -> None:
    page.wait_text("word", "WAITING")
    assert page.text("yield") == "—"
    colours = {}
    for outcome in ("OK", "NG", "INVALID", "TIMEOUT"):
        line.publish(outcome)
        page.wait_text("word", outcome)
        colours[outcome] = page.background(".plate")
        shape = page.driver.execute_script("return document.getElementById('shape').href.baseVal")
        assert shape == f"#shape-{outcome}"
    assert len(set(colours.values())) == 4
    assert page.text("reason") == "frame incomplete"
    assert [page.text(f"count-{name}") for name in ("total", "OK", "NG", "INVALID", "TIMEOUT")] == [
        "4",
        "1",
        "1",
        "1",
        "1",
    ]
    assert page.text("yield") == "25.0 %"
    assert page.text("score") == "—"
    assert (
        page.driver.find_element(By.ID, "announce").get_attribute("textContent") == "Part #4: TIMEOUT, frame incomplete"
    )
    assert complaints(page) == []


def test_counters_hold_the_truth_after_a_burst(line: Any, page: Page) -> None:
    page.wait_text("word", "WAITING")
    for number in range(2000):
        line.publish("INVALID" if number % 2000 == 7 else "TIMEOUT")
    page.wait_text("count-total", "2 000")
    assert (page.text("count-INVALID"), page.text("count-TIMEOUT")) == ("1", "1 999")


def test_frame_heat_map_and_outline_are_painted_and_differ(line: Any, page: Page) -> None:
    line.publish("NG")
    page.wait_text("word", "NG")
    heat = page.picture(view="heatmap")
    page.press("1")
    frame = page.picture(view="frame")
    page.press("3")
    drawn = page.picture(view="outline")
    assert frame.std() > 10
    assert page.text("part").startswith("Part #1 ·")
    assert page.driver.find_element(By.CSS_SELECTOR, "#live .sheet").value_of_css_property("opacity") == "1"
    for view in (heat, drawn):
        assert (cv2.absdiff(frame, view).max(axis=2) > 60).mean() > 0.001
    line.publish("OK")
    page.wait_text("word", "OK")
    page.press("2")
    assert (cv2.absdiff(frame, page.picture(view="heatmap")).max(axis=2) > 40)[: frame.shape[0] // 2].mean() < 0.001
    assert complaints(page) == []


def test_a_picture_that_cannot_be_had_leaves_no_older_one_in_its_place(line: Any, page: Page) -> None:
    line.publish("OK")
    page.picture(view="heatmap")
    shown = page.text("part")
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*://*/inspections/*"]})
    line.publish("NG")
    page.wait(lambda: page.text("live") == "No picture of this part")
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    line.publish("OK")
    page.picture(view="heatmap")
    assert page.text("part") != shown


def test_defects_are_listed_with_area_peak_and_place(line: Any, page: Page) -> None:
    verdict = line.publish("NG").verdict
    page.wait_text("word", "NG")
    rows = page.wait(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#defects tr"))[1:]
    cells = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    assert [row[1] for row in cells] == [str(defect.area_px) for defect in verdict.defects]
    assert [row[2] for row in cells] == ["2.8 ×", "1.8 ×"]
    assert cells[0][3] == "90, 150"
    page.picture()
    assert [tag.text for tag in page.driver.find_elements(By.CSS_SELECTOR, "#live .tag")] == ["1", "2"]


def test_the_trend_is_drawn(line: Any, page: Page) -> None:
    for number in range(60):
        line.publish("NG" if number % 20 == 0 else "OK")
    page.wait_text("trend-note", "last 60 · 3 NG")
    inked = page.driver.execute_script(
        "const canvas = document.getElementById('trend');"
        "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        "let count = 0; for (let i = 3; i < data.length; i += 4) count += data[i] > 0; return count"
    )
    assert inked > 1000


def test_a_rejected_part_opens_large_while_the_verdict_stays_live(line: Any, page: Page) -> None:
    line.publish("NG", score=1.7)
    line.publish("OK")
    page.wait_text("word", "OK")
    button = page.wait(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#strip button"))[0]
    assert "1.7 ×" in button.text
    button.click()
    thumbnail = page.driver.find_element(By.CSS_SELECTOR, "#strip img")
    page.wait(lambda: int(thumbnail.get_property("naturalWidth")) > 0)
    page.wait(lambda: page.text("large-facts").startswith("Score 1.70, limit 1.00 · 2 defects"))
    assert page.picture("large-picture", "heatmap").shape[0] > 400
    line.publish("INVALID", reason="frame too dark")
    page.wait_text("word", "INVALID")
    page.driver.find_element(By.ID, "large-close").click()
    page.wait(lambda: not page.driver.find_element(By.ID, "large").is_displayed())
    assert complaints(page) == []


def test_a_lost_camera_hides_the_last_verdict(line: Any, page: Page) -> None:
    line.publish("OK")
    page.wait_text("word", "OK")
    line.set_status(
        camera_state=CameraState.LOST, camera_reason="device gone", broker_connected=False, outbox_pending=3
    )
    page.wait_text("word", "NO CAMERA")
    assert page.text("banner") == "Camera lost: device gone"
    assert page.text("broker").endswith("offline · 3 waiting")
    line.set_status(camera_state=CameraState.STREAM)
    page.wait_text("word", "OK")
    assert not page.driver.find_element(By.ID, "banner").is_displayed()


def test_a_stopped_station_never_looks_live_and_comes_back_by_itself(
    line: Any, page: Page, dashboard: Dashboard, address: str, new_dashboard: Callable[..., Dashboard]
) -> None:
    line.publish("OK")
    page.wait_text("word", "OK")
    green = page.background(".plate")
    assert complaints(page) == []
    dashboard.stop()
    page.wait_text("word", "OFFLINE")
    assert "nothing on this page is live" in page.text("banner")
    assert page.background(".plate") != green
    time.sleep(0.5)
    assert page.text("word") == "OFFLINE"
    new_dashboard(urlsplit(address).port).start()
    line.publish("NG")
    page.wait_text("word", "NG")
    assert not page.driver.find_element(By.ID, "banner").is_displayed()


@pytest.mark.parametrize(("width_px", "height_px"), [(1920, 1080), (1440, 900), (1024, 768), (390, 844)])
def test_nothing_is_cut_off_sideways_and_the_verdict_fits(line: Any, page: Page, width_px: int, height_px: int) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": width_px < 500},
    )
    line.publish("TIMEOUT")
    page.wait_text("word", "TIMEOUT")
    too_wide = page.driver.execute_script(
        "return [...document.querySelectorAll('html, .card, .plate, .bar, .counters div, header, #word')]"
        ".filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.outerHTML.slice(0, 80))"
    )
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert too_wide == []


def test_an_operator_logs_in_starts_a_new_count_and_logs_out(
    chromium: Any, line: Any, new_dashboard: Callable[..., Dashboard], tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"olga:operator:{hash_password('correct horse')}\n")
    address = new_dashboard(0, password_file=passwords).start()
    page = Page(chromium)
    chromium.get(address)
    assert chromium.current_url == f"{address}login"
    line.publish("NG")
    for name, text in (("user", "olga"), ("password", "correct horse")):
        chromium.find_element(By.NAME, name).send_keys(text)
    chromium.get_log("browser")
    chromium.find_element(By.TAG_NAME, "button").click()
    page.wait_text("user", "olga (operator)")
    page.wait_text("count-NG", "1")
    assert chromium.execute_script("return document.cookie") == ""
    chromium.find_element(By.ID, "count-anew").click()
    page.wait_text("count-NG", "0")
    assert complaints(page) == []
    chromium.find_element(By.ID, "log-out").click()
    page.wait(lambda: chromium.current_url == f"{address}login")
    chromium.get(address)
    assert chromium.current_url == f"{address}login"
    chromium.get("about:blank")
