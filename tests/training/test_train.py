"""Training as a person runs it: killed and gone on with, stopped early, on two processes; never near a test image."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge import cli
from edge.errors import ConfigError, TfanetEdgeError
from training.checkpoint import load_tensors
from training.distributed import World
from training.encodings import Encodings
from training.networks.backbones import load_backbone
from training.networks.features import TOKENS
from training.networks.tfanet_detector import TfaNet, TfaNetSettings, choose_templates, counted_tokens
from training.run import load_run
from training.settings import TrainSettings, starting_point
from training.train import train_run

ALONE = World(0, 1, torch.device("cpu"))
QUICK = TrainSettings.model_validate(
    starting_point("tfanet", None, "tiny") | {"epochs": 3, "batch": 3, "precision": "float32"}
)


def arguments(product: Path, weights: Path, out: Path, *more: str) -> list[str]:
    quick = ["--epochs", "3", "--batch", "3", "--precision", "float32", "--device", "cpu"]
    return ["train", "--data", str(product), "--weights", str(weights), "--out", str(out), *quick, *more]


def start(launcher: list[str], *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, *command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def losses(out: Path) -> list[tuple[float, float | None]]:
    return [(epoch["train_loss"], epoch["held_out_loss"]) for epoch in json.loads((out / "history.json").read_text())]


def same_weights(left: Path, right: Path) -> bool:
    a, b = load_tensors(left / "network.pth"), load_tensors(right / "network.pth")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained(product: Path, backbone_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes in one go, one thread."""
    out = tmp_path_factory.mktemp("run") / "whole"
    process = start(["-m", "edge.cli"], *arguments(product, backbone_weights, out))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "loss=" in err
    assert "<" in err, "the bar tells the time left"
    return out


def test_a_run_directory_holds_all_that_is_needed_to_judge_it(trained: Path, product: Path) -> None:
    run = load_run(trained)
    assert (run.record.train_images, run.record.held_out_images) == (7, 1)
    assert run.record.product == "washer"
    assert len(run.record.data_sha256) == 64
    assert "resnet18.pth sha256" in run.record.backbone_weights
    assert run.record.settings == QUICK
    (template,) = run.trainable().get_buffer("templates").numpy()
    first = cv2.cvtColor(cv2.imread(str(product / "train/good/0.png")), cv2.COLOR_BGR2RGB)
    assert np.abs(template.astype(int) - cv2.resize(first, (256, 256))).max() <= 1
    first_epoch, *_, last_epoch = losses(trained)
    assert last_epoch[0] < first_epoch[0]
    curves = cv2.imread(str(trained / "curves.png"))
    assert curves.shape[1] > 600
    assert curves.std() > 5
    anomaly_map, score = run.detector()(torch.zeros(2, 256, 256, 3, dtype=torch.uint8))
    assert anomaly_map.shape == (2, 256, 256)
    assert score.isfinite().all()


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_to_the_same_result(
    trained: Path, product: Path, backbone_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    command = arguments(product, backbone_weights, out)
    for epochs_before_the_kill in (1, 2):
        process = start(["-m", "edge.cli"], *command)
        deadline = time.monotonic() + 60
        while not (out / "history.json").is_file() or len(losses(out)) < epochs_before_the_kill:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(["-m", "edge.cli"], *command)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "going on after epoch" in err
    assert losses(out) == losses(trained)
    assert same_weights(out, trained)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(
    trained: Path, product: Path, backbone_weights: Path, tmp_path: Path
) -> None:
    # Seven parts in batches of three: the shares are unequal, and the last batch leaves nothing for one process.
    out = tmp_path / "two"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "edge.cli"]
    process = start(launcher, *arguments(product, backbone_weights, out))
    _, err = process.communicate(timeout=170)
    assert process.returncode == 0, err
    np.testing.assert_allclose(losses(out), losses(trained), rtol=1e-4)
    assert load_run(out).record.processes == 2


def test_no_test_image_is_opened_and_none_is_needed(
    trained: Path, product: Path, backbone_weights: Path, tmp_path: Path
) -> None:
    only_good = tmp_path / "washer"
    shutil.copytree(product / "train", only_good / "train")
    code = (
        "import sys\n"
        "seen = []\n"
        "def watch(event, arguments):\n"
        "    if event in ('open', 'os.scandir', 'os.listdir'): seen.append(str(arguments[0]))\n"
        "sys.addaudithook(watch)\n"
        "from edge import cli\n"
        "assert cli.main(sys.argv[1:]) == 0\n"
        f"product = {str(product)!r}\n"
        "assert any(name.startswith(product + '/train/good/') for name in seen)\n"
        "bad = [name for name in seen if name.startswith((product + '/test', product + '/ground_truth'))]\n"
        "assert not bad, bad\n"
    )
    watched = start(["-c", code], *arguments(product, backbone_weights, tmp_path / "watched"))
    alone = start(["-m", "edge.cli"], *arguments(only_good, backbone_weights, tmp_path / "alone"))
    for process in (watched, alone):
        _, err = process.communicate(timeout=170)
        assert process.returncode == 0, err
    assert same_weights(tmp_path / "watched", trained)
    assert same_weights(tmp_path / "alone", trained), "what lies beside the good parts makes no difference"


def test_early_stop_keeps_the_weights_of_the_lowest_held_out_loss(
    product: Path, backbone_weights: Path, tmp_path: Path
) -> None:
    # At this rate the network diverges soon.
    settings = QUICK.model_copy(update={"epochs": 12, "patience": 1, "lr": 0.05, "warmup_steps": 0, "snapshots": True})
    run = train_run(product, backbone_weights, settings, tmp_path / "run", ALONE, np.inf)
    held_out = [loss for _, loss in losses(run.path)]
    assert len(held_out) < 12
    best = int(np.argmin(held_out))
    assert best == len(held_out) - 2
    result, lowest, last = (
        run.trainable(snapshot).get_parameter("network.cls") for snapshot in (None, best + 1, best + 2)
    )
    assert torch.equal(result, lowest)
    assert not torch.equal(result, last)


def test_a_loss_that_is_not_finite_stops_the_training(product: Path, backbone_weights: Path, tmp_path: Path) -> None:
    state = torch.load(backbone_weights, weights_only=True)
    state["conv1.weight"][0, 0, 0, 0] = float("inf")
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(TfanetEdgeError, match=r"training loss became nan in epoch 1.*broken images"):
        train_run(product, tmp_path / "broken.pth", QUICK, tmp_path / "run", ALONE, np.inf)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--epochs", "4"], "holds another run: its epochs is 3, not 4: give a new directory with --out"),
        (["--patience", "2", "--held-out-share", "0", "--out", "new"], "early stopping needs held-out parts"),
        (["--templates", "9", "--held-out-share", "0", "--out", "new"], "9 templates of 8 images"),
        (["--templates", "0"], "mask_range has to be 0 0 without a template"),
        (["--lr", "-1"], "--lr: Input should be greater than 0: given: -1.0"),
        (["--mask-range", "0.5", "0.2"], r"mask_range 0\.5 to 0\.2 is empty"),
        (["--device", "cuda"], "no CUDA device.*use --device cpu"),
        (["--backbone", "resnet50"], "is not a resnet50 checkpoint"),
        (["--data", "nowhere"], "nowhere"),
        (["--ignore-mask", "nowhere.png"], r"nowhere\.png"),
        (["--out", "/dev/null/run"], "directory '/dev/null/run' cannot be made.*give another with --out"),
    ],
)
def test_impossible_wishes_get_one_line(
    more: list[str],
    words: str,
    trained: Path,
    product: Path,
    backbone_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments(product, backbone_weights, trained, *more)) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("tfanet-edge: ")
    assert re.search(words, line), line


def test_cached_and_recomputed_features_agree(product: Path, backbone_weights: Path) -> None:
    backbone = load_backbone("resnet18", backbone_weights)
    images = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    trainable = TfaNet(backbone, TfaNetSettings(), None)
    cached, live = (Encodings(trainable, images, limit) for limit in (np.inf, 0))
    assert cached.is_cached
    assert not live.is_cached
    some = torch.tensor([2, 0])
    ((cells,), pictures), ((computed,), _) = cached.batch(some), live.batch(some)
    assert cells.shape == (2, 256, 16 * 512)
    torch.testing.assert_close(cells, computed, rtol=1e-3, atol=1e-3)
    assert (pictures.numpy() == images[[2, 0]]).all()


def test_ignored_tokens_do_not_teach(product: Path, backbone_weights: Path, tmp_path: Path) -> None:
    ignored = np.zeros((256, 256), bool)
    ignored[:, 120:] = True
    assert counted_tokens(ignored).tolist() == [t for t in range(TOKENS) if t % 16 <= 7]
    with pytest.raises(ConfigError, match="covers the whole image"):
        counted_tokens(np.ones((256, 256), bool))
    mask = np.zeros((96, 120), np.uint8)
    mask[:, 60:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    data = QUICK.data.model_copy(update={"ignore_mask": tmp_path / "mask.png"})
    run = train_run(product, backbone_weights, QUICK.model_copy(update={"data": data}), tmp_path / "run", ALONE, np.inf)
    (tmp_path / "mask.png").unlink()
    anomaly_map, _ = run.detector()(torch.zeros(1, 256, 256, 3, dtype=torch.uint8))
    assert (anomaly_map[0, :, 128:] == 0).all()
    assert (anomaly_map[0, :, :128] != 0).all()


def test_templates_are_spread_over_the_parts() -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None, None]
    assert choose_templates(images, 3).ravel().tolist() == [0, 3, 6]
    assert choose_templates(images, 1).ravel().tolist() == [0]
