"""Weights that cannot be used are refused in one line; the hub's are checked against the hash in their name."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError
from training.networks import backbones
from training.networks.backbones import build_backbone, load_backbone, weights_source

State = dict[str, Any]


@pytest.fixture(scope="module")
def state() -> State:
    """A ResNet-18's state dict of a few kilobytes: one stored number per tensor."""
    made = build_backbone("resnet18").state_dict()
    return {key: torch.tensor(0.5).expand(value.shape) for key, value in made.items()}


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_backbone("resnet18", path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200
    return message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("layer2.0.downsample.1.running_var"), "'layer2.0.downsample.1.running_var' is missing"),
        (lambda s: s.update({"layer1.2.conv1.weight": torch.zeros(1)}), "'layer1.2.conv1.weight' is unexpected"),
        (
            lambda s: s.update({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}),
            "'layer1.0.conv1.weight' is (64, 64, 1, 1) instead of (64, 64, 3, 3)",
        ),
        (lambda s: s.update({"bn1.bias": torch.zeros(64, dtype=torch.int8)}), "'bn1.bias' is torch.int8"),
        (lambda s: s.clear(), "'conv1.weight' is missing"),
        (lambda s: s.update(epoch=3), "'epoch' is no tensor"),
    ],
)
def test_the_first_key_that_does_not_fit_is_named(
    change: Callable[[State], object], reason: str, state: State, tmp_path: Path
) -> None:
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "other.pth")
    assert reason in refusal(tmp_path / "other.pth")


def test_what_no_tap_needs_may_be_there_or_not(state: State, tmp_path: Path) -> None:
    lean = {key: value for key, value in state.items() if "num_batches" not in key}
    full = {**state, "layer4.0.conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}
    for number, given_state in enumerate((lean, full)):
        path = tmp_path / f"{number}.pth"
        torch.save(given_state, path, _use_new_zipfile_serialization=bool(number))
        assert float(load_backbone("resnet18", path).conv1.weight[0, 0, 0, 0]) == 0.5


class Foreign:
    """What a checkpoint must not bring along."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


def test_files_that_are_no_checkpoint_are_refused(state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    assert "no backbone weights" in refusal(path)
    for content in (b"", b"not a checkpoint", b"\x80\x02.", pickle.dumps({"conv1.weight": [1.0]})):
        path.write_bytes(content)
        refusal(path)
    for foreign in (Foreign(), {**state, "extra": Foreign()}):
        torch.save(foreign, path)
        assert "no checkpoint of tensors alone" in refusal(path)
    torch.save([torch.zeros(1)], path)
    assert "holds list" in refusal(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), zipped=st.booleans())
def test_truncated_checkpoints_are_refused(share: float, zipped: bool, state: State, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder that stands for the hub's server; its cache is empty as well."""
    server = tmp_path / "server"
    server.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(backbones, "HUB_URL", f"{server.as_uri()}/")
    return server


def publish(hub: Path, content: bytes, sha256: str, monkeypatch: pytest.MonkeyPatch) -> str:
    file = f"resnet18-{sha256[:8]}.pth"
    (hub / file).write_bytes(content)
    published = replace(backbones.ARCHITECTURES["resnet18"], hub_file=file)
    monkeypatch.setitem(backbones.ARCHITECTURES, "resnet18", published)
    return file


def test_the_hub_is_asked_once_and_its_file_is_checked(
    hub: Path, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    file = publish(hub, content, sha256, monkeypatch)
    assert float(load_backbone("resnet18", None).conv1.weight[0, 0, 0, 0]) == 0.5
    (hub / file).unlink()
    load_backbone("resnet18", None)
    assert weights_source("resnet18", None) == f"PyTorch hub {file} sha256 {sha256}"
    cached = tmp_path / "home" / "hub" / "checkpoints" / file
    cached.write_bytes(content[:-1])
    with pytest.raises(ConfigError, match=r"is not what its name says .* delete it, or give --weights FILE"):
        load_backbone("resnet18", None)


def test_a_download_that_does_not_match_its_hash_is_refused_and_not_kept(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = publish(hub, b"something else", "0" * 64, monkeypatch)
    with pytest.raises(ConfigError, match=rf"{file}.*invalid hash value.*--weights FILE"):
        load_backbone("resnet18", None)
    assert not any((tmp_path / "home" / "hub" / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["wide_resnet50_2", "vgg16"])
def test_without_the_hub_the_file_to_give_is_named(name: backbones.BackboneName, hub: Path) -> None:
    file = backbones.ARCHITECTURES[name].hub_file
    with pytest.raises(ConfigError, match=rf"^{name} weights '{file}' cannot be fetched.*: give them: --weights FILE$"):
        load_backbone(name, None)


def test_resnet50v2_has_no_official_file(hub: Path) -> None:
    with pytest.raises(ConfigError, match="hub has no resnet50v2 weights"):
        load_backbone("resnet50v2", None)
