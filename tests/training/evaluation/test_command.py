"""The verb `evaluate` from the command line to the report in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edge.cli import main
from training.evaluation.evaluate import Evaluation, evaluate_run
from training.evaluation.limit import Limit
from training.evaluation.predict import read_parts
from training.evaluation.report import worst
from training.evaluation.results import Result
from training.metrics.summary import over_seeds
from training.run import Run

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
CURVES = {"image_roc.png", "pixel_roc.png", "pro.png", "histogram.png", "curves.png", "colour_scale.png"}


class Page(HTMLParser):
    """Tags that do not close, tags by name, and the sources of images."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.images: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            source, description = dict(attrs)["src"], dict(attrs)["alt"]
            assert source
            assert description
            self.images.append(source)
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def evaluated(run: Run, other_seed: Run, product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds through the command line."""
    out = tmp_path_factory.mktemp("evaluated")
    runs = ["--run", str(run.path), "--run", str(other_seed.path)]
    files = ["--data", str(product), "--json", str(out / "new" / "out.json"), "--report", str(out / "report")]
    assert main(["evaluate", *runs, *files, "--device", "cpu"]) == 0
    return out


def test_json_has_everything(evaluated: Path, run: Run, other_seed: Run, product: Path) -> None:
    content = json.loads((evaluated / "new" / "out.json").read_text())
    parts = read_parts(product, run.record.settings.data)
    direct = [evaluate_run(each, parts, torch.device("cpu")) for each in (run, other_seed)]
    assert content["figures"] == over_seeds([evaluation.figures for evaluation in direct])
    auroc = [evaluation["figures"]["total"]["pixel_256"]["auroc"] for evaluation in content["runs"]]
    assert content["figures"]["total"]["pixel_256"]["auroc"] == {
        "mean": pytest.approx(np.mean(auroc)),
        "std": pytest.approx(np.std(auroc, ddof=1)),
    }
    assert content["test_images"] == {
        "total": 6,
        "good": 2,
        "defective": 4,
        "by_defect": {"scratch": 2, "stain": 2},
        "defective_without_mask": 1,
        "defective_with_empty_mask": 0,
    }
    for entry, each, evaluation in zip(content["runs"], (run, other_seed), direct, strict=True):
        assert entry["record"] == each.record.model_dump(mode="json")
        assert entry["figures"] == evaluation.figures
        assert [image["score"] for image in entry["images"]] == evaluation.scores.tolist()
        assert [image["defect"] for image in entry["images"]] == [part.defect for part in parts.parts]
        assert entry["images"][2]["name"] == "test/scratch/0.png"
        found = [image["score"] >= entry["threshold"]["image"] for image in entry["images"]]
        counts = {"good": 2, "good_rejected": sum(found[:2]), "defective": 4, "defective_found": sum(found[2:])}
        assert entry["at_threshold"] == counts
    assert (content["score_rule"], content["fusion"], content["snapshot_epoch"]) == ("std", "direction", None)


def test_report_is_whole_and_stands_alone(evaluated: Path) -> None:
    page = Page(evaluated / "report" / "report.html")
    assert page.open == []
    assert not page.tags & {"script", "link", "iframe"}
    assert not re.search(r"https?:|//|@import|url\(", page.text.replace(str(evaluated), "").replace("<!doctype", ""))
    content = json.loads((evaluated / "new" / "out.json").read_text())
    at = content["runs"][0]["at_threshold"]
    shown = {path.name for path in (evaluated / "report").glob("*.png")}
    assert set(page.images) == shown
    assert shown >= CURVES
    assert len([name for name in shown if name.startswith("missed")]) == at["defective"] - at["defective_found"]
    assert len([name for name in shown if name.startswith("found")]) == at["defective_found"]
    assert len([name for name in shown if name.startswith("false_alarm")]) == at["good_rejected"]
    for name in shown:
        image = cv2.imread(str(evaluated / "report" / name))
        assert image.std() > 5, name
    assert "Defective images without a mask: 1." in page.text
    assert "seeds 0, 1" in page.text
    # Two parts are held out.
    assert "33.3 % of new good parts may be rejected on average, more than the 1 % asked for" in page.text
    assert "more than 0.1 % of the pixels of a good part reach it in on average at most 33.3 % of good" in page.text
    assert " ± " in page.text


def test_one_run_reports_into_itself_and_names_the_defects(
    run: Run, product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(product, tmp_path / "<b>changed</b>")
    (data / "train/good/7.png").unlink()
    shutil.copytree(run.path, tmp_path / "run")
    options = ["--score-rule", "max", "--fusion", "sum"]
    arguments = ["--run", str(tmp_path / "run"), "--data", str(data), "--json", str(tmp_path / "out.json"), *options]
    (tmp_path / "run" / "evaluation").mkdir()
    (tmp_path / "run" / "evaluation" / "missed_7.png").touch()
    assert main(["evaluate", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["%,", "all", "scratch", "stain", "report:"]
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["score_rule"], content["fusion"]) == ("max", "sum")
    entry = content["runs"][0]
    assert entry["at_threshold"] is None
    assert entry["threshold"]["image"] is None
    assert "not those that the detector was trained on" in entry["threshold"]["explanation"]
    page = Page(tmp_path / "run" / "evaluation" / "report.html")
    assert "<b>changed" not in page.text
    # Without a threshold the extremes are shown, and nothing is called found.
    shown = [name for name in page.images if name not in CURVES]
    assert shown == [f"missed_{number}.png" for number in (1, 2, 3, 4)] + ["false_alarm_1.png", "false_alarm_2.png"]
    assert not (tmp_path / "run" / "evaluation" / "missed_7.png").exists()


def test_worst_parts_come_first(run: Run, product: Path) -> None:
    parts = read_parts(product, run.record.settings.data)  # two good ones, then four defective ones
    scores = np.array([1, 5, 4, 2, 3, 9], np.float32)
    evaluation = Evaluation("std", "product", np.zeros((6, 256, 256), np.float32), scores, {}, None)
    result = Result(run, evaluation, Limit(4.0, 1.0, 0.01, True, 99, "given"))
    assert worst(result, parts) == {"missed": [3, 4], "found": [2, 5], "false_alarm": [1]}
    without = Result(run, evaluation, Limit(None, None, None, False, 0, "none"))
    assert worst(without, parts) == {"missed": [3, 4, 2, 5], "found": [], "false_alarm": [1, 0]}


def test_refusals_say_what_to_mend(
    run: Run, product: Path, verb: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slower").mkdir()
    settings = run.record.settings.model_copy(update={"lr": 5e-5, "seed": 2})
    slower = run.record.model_copy(update={"settings": settings})
    (tmp_path / "slower" / "run.json").write_text(slower.model_dump_json())
    (tmp_path / "file").touch()
    given: dict[str, Any] = {"--run": run.path, "--data": product, "--json": tmp_path / "out.json"}
    for changed, more, problem in (
        ({}, ["--run", str(tmp_path / "slower")], "differs from .* in more than the seed: its lr is 5e-05, not 0.0001"),
        ({}, ["--run", str(run.path)], "have the same seed 0"),
        ({"--run": tmp_path}, [], "is no training run"),
        ({"--data": tmp_path}, [], "is no product"),
        ({"--json": tmp_path / "file" / "out.json"}, [], "'.*file' cannot be made"),
        ({"--json": tmp_path}, [], "cannot be written"),
        ({"--report": tmp_path / "file"}, [], "'.*file' cannot be made"),
        ({"--false-reject-rate": 0}, [], "--false-reject-rate: '0' is not a number between 0 and 1"),
        ({"--snapshot": 1}, [], "epoch_0001.pth'"),
    ):
        arguments = [str(word) for pair in (given | changed).items() for word in pair]
        assert verb("evaluate", *arguments, *more) == 2
        assert re.search(problem, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.browser
@pytest.mark.skipif(not (BROWSER.exists() and DRIVER.exists()), reason="Chromium and its driver are not installed")
def test_report_in_a_browser(evaluated: Path, tmp_path: Path) -> None:
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"):
        options.add_argument(argument)
    browser = Chrome(options, ChromeService(str(DRIVER)))
    try:
        metrics = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get((evaluated / "report" / "report.html").as_uri())
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(widths) >= len(CURVES)
        assert all(widths)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        browser.quit()
