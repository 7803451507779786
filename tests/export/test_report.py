"""The page about a bundle: whole, readable, and the numbers in it are the bundle's."""

from __future__ import annotations

import re
import shutil
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle import hash_files, load_bundle
from export.bundle import Made, Material
from export.outputs import Outputs, measure_parity, run_onnx
from export.page import Page, Section, Table, render
from export.report import REPORT, export_page, percent, write_export_report
from training.checkpoint import Epoch
from training.curves import draw_curves, write_history
from training.image_sets import images_sha256
from training.run import CURVES, HISTORY, Run, RunRecord
from training.settings import TrainSettings
from training.thresholds import image_threshold, pixel_threshold

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
HELD_OUT, COMPARED = 6, 10
DATA_URI = "data:image/png;base64,"


class Parsed(HTMLParser):
    """Tags that do not close, tags by name, pictures, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.pictures: list[np.ndarray] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            source, description = dict(attrs)["src"], dict(attrs)["alt"]
            assert source
            assert description
            assert source.startswith(DATA_URI)
            png = np.frombuffer(b64decode(source.removeprefix(DATA_URI), validate=True), np.uint8)
            self.pictures.append(np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three of five epochs."""
    path = tmp_path_factory.mktemp("run")
    history = [Epoch(1 / epoch, 1.1 / epoch, 1e-3, 2.0) for epoch in range(1, 4)]
    write_history(history, path / HISTORY)
    draw_curves(history, 2, path / CURVES)
    record = RunRecord(
        settings=TrainSettings(epochs=5, seed=7),
        product="washer <M8>",
        data_sha256="ab" * 32,
        train_images=23,
        held_out_images=HELD_OUT,
        skipped=(),
        backbone_weights="never trained",
        code_version="0.1.0 0123456789ab",
        torch_version="2.13.0",
        processes=1,
        command=f"tfanet-edge train --data {path}",
    )
    return Run(path, record)


@pytest.fixture(scope="module")
def material() -> Material:
    """Discs, and the same with a line across."""
    held_out = np.random.default_rng(0).integers(90, 120, (HELD_OUT, 256, 256, 3), dtype=np.uint8)
    for image in held_out:
        cv2.circle(image, (128, 128), 90, (180, 180, 170), -1)
    good = held_out[: COMPARED // 2]
    damaged = good.copy()
    for index, image in enumerate(damaged):
        cv2.line(image, (60, 60 + 9 * index), (190, 150), (250, 250, 250), 5)
    return Material(held_out[0], held_out, np.concatenate([good, damaged]), held_out[:2])


@pytest.fixture
def made(bundle_dir: Path, material: Material) -> Made:
    """The bundle whose score is a part's brightest pixel, with a variant whose answers are rounded to float16."""
    shutil.copy(bundle_dir / "model.fp32.onnx", bundle_dir / "model.fp16.onnx")
    manifest = load_bundle(bundle_dir).manifest
    fp32 = manifest.variants["fp32"]
    compared = run_onnx(bundle_dir / fp32.file, material.compared, "compared")
    held_out = run_onnx(bundle_dir / fp32.file, material.held_out, "held out")
    exact = material.compared.mean(axis=3) / 255
    answers = {
        "PyTorch": Outputs(exact.astype(np.float32), exact.max(axis=(1, 2)).astype(np.float32)),
        "fp32": compared,
        "fp16": Outputs(_rounded(compared.maps), _rounded(compared.scores)),
    }
    sha256 = images_sha256(material.held_out)
    limit = image_threshold(held_out.scores, 0.01, sha256)
    parities = {
        name: measure_parity(answers[before], answers[name], before, limit.value, sha256)
        for before, name in (("PyTorch", "fp32"), ("fp32", "fp16"))
    }
    update = {
        "image_threshold": limit,
        "pixel_threshold": pixel_threshold(held_out.maps, 0.01, sha256),
        "variants": {
            name: fp32.model_copy(update={"file": f"model.{name}.onnx", "parity": parity})
            for name, parity in parities.items()
        },
        "files": dict(hash_files(bundle_dir, [*manifest.files, "model.fp16.onnx"])),
    }
    return Made(manifest.model_copy(update=update), answers, held_out)


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


@pytest.fixture
def html(bundle_dir: Path, run: Run, material: Material, made: Made) -> str:
    write_export_report(bundle_dir, run, material, made)
    return (bundle_dir / REPORT).read_text(encoding="utf-8")


def test_page_is_whole_and_stands_alone(html: str, run: Run, bundle_dir: Path) -> None:
    page = Parsed(html)
    assert page.open == []
    assert not page.tags & {"script", "link", "iframe", "a"}
    bare = re.sub(f"{DATA_URI}[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//|@import|url\(", bare)
    assert str(run.path) not in bare
    assert str(bundle_dir) not in bare
    # Histogram, two scatters, two of heat maps, their scale, the training, the template.
    assert len(page.pictures) == 8
    assert all(picture.std() > 5 for picture in page.pictures)
    assert "washer <M8>" in page.text


def test_the_numbers_are_the_bundles(html: str, made: Made, bundle_dir: Path) -> None:
    text, manifest = Parsed(html).text, made.manifest
    for variant in manifest.variants.values():
        parity = variant.parity
        assert parity is not None
        assert text.count(percent(parity.map_error)) >= 2
        assert text.count(percent(parity.score_error)) >= 2
        assert f"{parity.flips} of {COMPARED} (0)" in text
    for limit in (manifest.image_threshold, manifest.pixel_threshold):
        assert f"{limit.value:.4g}" in text
    for name, sha256 in manifest.files.items():
        assert sha256[:12] in text
        assert f"{(bundle_dir / name).stat().st_size / 1e6:.1f} MB" in text
    for fact in ("3 of at most 5 epochs, seed 7", "23 good images, 6 more held out", "abababababab"):
        assert fact in text


def test_too_few_parts_and_too_few_epochs_are_told_first(
    bundle_dir: Path, run: Run, material: Material, made: Made
) -> None:
    unfinished, too_few = export_page(bundle_dir, run, material, made).warnings
    assert "3 of 5 epochs" in unfinished
    # One of seven, by split-conformal prediction from six.
    assert "Only 6 good parts" in too_few
    assert f"no less than {percent(1 / 7)} of good parts rejected, not the {percent(0.01)} asked for" in too_few
    assert "takes 99" in too_few


def test_nothing_is_warned_of_without_a_reason(bundle_dir: Path, run: Run, material: Material, made: Made) -> None:
    limit = made.manifest.image_threshold.model_copy(update={"guaranteed_rate": 0.01})
    settings = run.record.settings.model_copy(update={"epochs": 3})
    finished = replace(run, record=run.record.model_copy(update={"settings": settings}))
    manifest = made.manifest.model_copy(update={"image_threshold": limit})
    page = export_page(bundle_dir, finished, material, replace(made, manifest=manifest))
    assert page.warnings == ()
    assert "Before you trust it" not in render(page)


def test_the_heat_maps_that_differ_most_are_shown_each_kind_apart(
    bundle_dir: Path, run: Run, material: Material, made: Made
) -> None:
    moved = made.answers["PyTorch"].maps.copy()
    for index, by in ((3, 3.0), (1, 2.0), (0, 1.0), (8, 9.0), (5, 8.0), (9, 7.0)):
        moved[index, :9, :9] += by
    answers = {**made.answers, "fp16": Outputs(moved, made.answers["fp16"].scores)}
    page = export_page(bundle_dir, run, material, replace(made, answers=answers))
    parity = next(section for section in page.sections if section.heat_maps)
    for maps, expected in zip(parity.heat_maps, ((3, 1, 0), (8, 5, 9)), strict=True):
        assert maps.columns[:-1] == ("the part", "PyTorch", "fp32", "fp16")
        picture = cv2.imdecode(np.frombuffer(maps.png, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert picture is not None
        for row, index in enumerate(expected):
            assert (picture[row * 264 :][:256, :256] == material.compared[index]).all()


def test_any_page_is_escaped_and_may_lack_parts() -> None:
    table = Table(("a", "b"), (("<i>", "1"),), "caption & more")
    page = Parsed(render(Page("<t>", (), (), (("x", "<script>"),), (Section("s", ("p",), (table,)),))))
    assert page.open == []
    assert not page.tags & {"script", "i", "t", "img"}
    assert "caption & more" in page.text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0"), (1e-9, "under 0.0001"), (0.0123456, "1.23"), (1.2e-5, "0.0012"), (1, "100")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == f"{text}\N{NO-BREAK SPACE}%"


@pytest.mark.browser
@pytest.mark.skipif(not (BROWSER.exists() and DRIVER.exists()), reason="Chromium and its driver are not installed")
def test_page_fits_a_telephone_and_a_desk(
    html: str, bundle_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"):
        options.add_argument(argument)
    browser = Chrome(options, ChromeService(str(DRIVER)))
    request.addfinalizer(browser.quit)
    for width in (390, 1440):
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get((bundle_dir / REPORT).as_uri())
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(widths) == len(Parsed(html).pictures)
        assert all(widths)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
