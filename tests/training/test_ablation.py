"""The table of what each part of the recipe is worth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge import cli
from training.ablation import variants
from training.networks.table import DETECTORS
from training.settings import TrainSettings

OF_SNC = {"codes compared", "neighbourhood", "temperature", "element : neighbourhood loss"}
GROUPS = {
    "tfanet": {"masking ratio", "template", "number of templates", "preset"},
    "mfrnet": {"largest cell hidden in training", "cell hidden at inference", "number of masks", "weight of 1 − SSIM"},
    "stfpm": OF_SNC,
    "reverse_distillation": OF_SNC,
    "efficientad": OF_SNC,
}


@pytest.mark.parametrize("detector", DETECTORS)
def test_rows_change_one_thing_each(detector: str) -> None:
    base = TrainSettings.model_validate({"detector": detector})
    rows = variants(base, ["resnet18", "resnet50v2"])
    assert {row.group for row in rows} >= {"backbone", *GROUPS[detector]}

    def flat(settings: TrainSettings) -> dict[str, object]:
        return settings.model_dump(exclude={"network"}) | settings.network.model_dump()

    plain = flat(base)
    for row in rows:
        changed = {name for name, value in flat(row.settings).items() if value != plain[name]}
        assert row.settings.detector == detector
        allowed = {
            "masking ratio": {"mask_range"},
            "template": {"mask_range", "templates"},
            "element : neighbourhood loss": {"low_weight", "high_weight"},
        }
        if row.group != "the authors' release":
            assert len(changed - allowed.get(row.group, set())) <= (0 if row.group in allowed else 1), row
    assert len({(row.group, row.name) for row in rows}) == len(rows)
    if detector != "tfanet":
        # The recipe itself is a row of every table.
        assert all(any(flat(row.settings) == plain for row in rows if row.group == group) for group in GROUPS[detector])


@pytest.mark.slow
def test_tables_are_measured_and_nothing_is_trained_twice(
    product: Path, backbone_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["ablate", "--data", str(product), "--weights", f"resnet18={backbone_weights}", "--out", str(tmp_path)]
    quick = ["--epochs", "2", "--precision", "float32", "--device", "cpu"]
    groups = ["--groups", "template", "score rule", "the authors' release"]
    assert cli.main([*command, *quick, *groups]) == 0
    text = (tmp_path / "ablation.md").read_text()
    assert text in capfd.readouterr().out
    assert "| without: direct reconstruction |" in text
    assert "not a fair figure" in text
    found = json.loads((tmp_path / "ablation.json").read_text())["groups"]
    assert found.keys() == {"template", "score rule", "the authors' release"}
    unmasked = found["template"]["with, unmasked"]["washer"]
    assert found["the authors' release"]["ours, unmasked"]["washer"] == unmasked
    assert unmasked["error ratio"] > 0
    last, picked = (found["the authors' release"][name]["washer"] for name in list(found["the authors' release"])[1:])
    assert picked["image AUROC"] >= last["image AUROC"]
    assert len(list((tmp_path / "washer").iterdir())) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--weights", "resnet18"], "'resnet18' is not NAME=FILE"),
        (["--weights", "resnet50=x"], "has no file for resnet18"),
        (["--weights", "resnet18=x", "--groups", "colour"], "no group 'colour'"),
    ],
)
def test_wrong_wishes_get_one_line(options: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ablate", "--data", "nowhere", "--out", "nowhere", *options]) == 2
    assert words in capfd.readouterr().err.strip().splitlines()[-1]
