"""What decides a training: the paper's values where they are named, one recipe per preset, and no silent option."""

from __future__ import annotations

import argparse

import pytest
import torch

from edge.errors import ConfigError
from training.command import add_command, settings_from
from training.settings import NAMED, RECIPES, TrainSettings, starting_point


def parsed(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    return parser.parse_args(["train", "--data", "parts", "--out", "run", *options])


def test_the_papers_configuration() -> None:
    paper = settings_from(parsed("--config", "paper"), "paper")
    assert (paper.preset, paper.backbone, paper.epochs, paper.batch) == ("base", "wide_resnet50_2", 400, 4)
    assert (paper.lr, paper.betas, paper.weight_decay, paper.decay_share) == (1e-4, (0.9, 0.95), 0.01, 0)
    assert (paper.mask_range, paper.score_rule, paper.fusion) == ((0, 0.75), "std", "product")
    assert (paper.feature_scale, paper.head_bias, paper.normalise_template) == ("none", "zero", True)
    released = TrainSettings.model_validate(NAMED["released_code"])
    assert not released.normalise_template
    assert released.mask_range == (0, 0)
    same = {"normalise_template": True, "mask_range": (0, 0.75), "snapshots": False, "precision": paper.precision}
    assert released.model_copy(update=same) == paper


def test_an_option_beats_the_recipe_and_the_recipe_the_default() -> None:
    settings = settings_from(parsed("--preset", "small", "--lr", "0.01", "--roi-xywh", "1", "2", "30", "40"))
    assert settings.lr == 0.01
    assert settings.epochs == RECIPES["small"]["epochs"] != TrainSettings.model_fields["epochs"].default
    assert settings.data.roi_xywh == (1, 2, 30, 40)
    assert starting_point(None, None)["preset"] == "tiny"


def test_every_field_of_the_settings_is_an_option_or_meant_not_to_be() -> None:
    options = vars(parsed())
    # `data` names the product on the command line; the settings of that name are options one by one.
    fixed = {"betas", "weight_decay", "normalise_template", "snapshots"}
    assert set(TrainSettings.model_fields) - set(options) == fixed
    assert set(type(TrainSettings().data).model_fields) <= set(options)


def test_help_tells_the_default_of_each_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "0.001 for tiny, 0.0005 for small, 0.0001 for base" in text


def test_a_wrong_value_is_named_with_its_option() -> None:
    with pytest.raises(ConfigError, match=r"--white-level: .*greater than 0: given: -3\.0"):
        settings_from(parsed("--white-level", "-3"))


def test_bfloat16_is_only_chosen_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert settings_from(parsed()).precision == "float32"
    assert settings_from(parsed("--precision", "bfloat16")).precision == "bfloat16"
