"""What decides a training: the paper's values where they are named, one recipe per preset, and no silent option."""

from __future__ import annotations

import argparse

import pytest
import torch

from edge.errors import ConfigError
from training.command import add_command, preferred_precision
from training.data.settings import DataSettings
from training.networks.table import DETECTORS
from training.networks.tfanet_detector import TfaNetSettings
from training.options import settings_from
from training.settings import TrainSettings, starting_point

TFANET = DETECTORS["tfanet"]


def parsed(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    return parser.parse_args(["train", "--data", "parts", "--out", "run", *options])


def chosen(*options: str) -> TrainSettings:
    arguments = parsed(*options)
    return settings_from(vars(arguments), arguments.config, {"precision": preferred_precision("auto")})


def test_the_papers_configuration() -> None:
    paper = chosen("--config", "paper")
    network = paper.network
    assert isinstance(network, TfaNetSettings)
    assert (network.preset, network.backbone, paper.epochs, paper.batch) == ("base", "wide_resnet50_2", 400, 4)
    assert (paper.lr, paper.betas, paper.weight_decay, paper.decay_share) == (1e-4, (0.9, 0.95), 0.01, 0)
    assert (network.mask_range, paper.score_rule, network.fusion) == ((0, 0.75), "std", "product")
    assert (network.feature_scale, network.head_bias, network.normalise_template) == ("none", "zero", True)
    released = chosen("--config", "released_code")
    assert isinstance(released.network, TfaNetSettings)
    assert not released.network.normalise_template
    assert released.network.mask_range == (0, 0)
    same = {"normalise_template": True, "mask_range": (0, 0.75)}
    assert released.network.model_copy(update=same) == network
    assert released.model_copy(update={"network": network, "snapshots": False}) == paper


def test_an_option_beats_the_recipe_and_the_recipe_the_default() -> None:
    settings = chosen("--preset", "small", "--lr", "0.01", "--roi-xywh", "1", "2", "30", "40")
    assert settings.lr == 0.01
    assert settings.epochs == TFANET.recipes["small"]["epochs"] != TrainSettings.model_fields["epochs"].default
    assert settings.data.roi_xywh == (1, 2, 30, 40)
    assert starting_point("tfanet", None, None)["network"]["preset"] == "tiny"


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_a_detector_begins_with_is_possible(detector: str) -> None:
    kind = DETECTORS[detector]
    assert isinstance(chosen("--detector", detector).network, kind.settings)
    for preset in kind.recipes:
        assert chosen("--detector", detector, "--preset", preset).network.preset == preset
    for name in kind.named:
        chosen("--detector", detector, "--config", name)
    assert kind.fusions


def test_every_field_of_the_settings_is_an_option() -> None:
    options = vars(parsed())
    fields = {name: set(kind.settings.model_fields) for name, kind in DETECTORS.items()}
    common = set(TrainSettings.model_fields) - {"network", "data"} | set(DataSettings.model_fields)
    assert common <= set(options)
    for detector, own in fields.items():
        assert own <= set(options)
        assert not own & common, f"{detector} has a setting of its own that all detectors have"


def test_help_tells_what_each_preset_begins_with(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    text = capsys.readouterr().out
    assert "tfanet small: warmup_steps 50, decay_share 0.5, epochs 100, lr 0.0005\n" in text
    assert "--templates N" in text


def test_a_wrong_value_is_named_with_its_option() -> None:
    with pytest.raises(ConfigError, match=r"--white-level: .*greater than 0: given: -3\.0"):
        chosen("--white-level", "-3")
    with pytest.raises(ConfigError, match=r"--templates: .*less than or equal to 16: given: 17"):
        chosen("--templates", "17")


def test_bfloat16_is_only_chosen_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert chosen().precision == "float32"
    assert chosen("--precision", "bfloat16").precision == "bfloat16"


def test_settings_come_back_from_json_in_the_detectors_own_type() -> None:
    for detector in DETECTORS:
        settings = chosen("--detector", detector)
        assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings
    with pytest.raises(ValueError, match="there is no detector 'yolo', only tfanet"):
        TrainSettings(detector="yolo")
