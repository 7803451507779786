import re
from pathlib import Path

import pytest

from edge.config import FolderConfig, GenicamConfig
from edge.config_file import load_config
from edge.errors import ConfigError

GENICAM = """
bundle = "bundle"
[camera]
kind = "genicam"
serial = "R001"
[camera.features]
PixelFormat = "BayerRG8"
ExposureTime = 1200.0
Gain = 2
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "station.toml"
        path.write_text(text)
        return path

    return write


def test_features_keep_their_order(write):
    camera = load_config(write(GENICAM)).camera
    assert isinstance(camera, GenicamConfig)
    assert list(camera.features.items()) == [("PixelFormat", "BayerRG8"), ("ExposureTime", 1200.0), ("Gain", 2)]


def test_paths_are_relative_to_the_file(write, tmp_path):
    config = load_config(write('bundle = "b"\n[camera]\nkind = "folder"\ndirectory = "parts"\n'))
    assert config.bundle == tmp_path / "b"
    assert isinstance(config.camera, FolderConfig)
    assert config.camera.directory == tmp_path / "parts"
    assert config.outbox.path == tmp_path / "outbox.sqlite"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GENICAM + "\n[mqtt]\nhots = 'a'\n", "unknown key 'mqtt.hots'"),
        (GENICAM + "\n[mqtt]\nport = 70000\n", r"'mqtt.port': .*\(got 70000\)"),
        (GENICAM + "\n[trigger]\nmode = 'sometimes'\n", r"'trigger.mode': .*\(got 'sometimes'\)"),
        (GENICAM + "\n[identity]\nline = 'a/b'\n", r"'identity.line': .*\(got 'a/b'\)"),
        (GENICAM.replace('serial = "R001"', ""), "exactly one of serial and user_id"),
        (GENICAM.replace('"genicam"', '"usb"'), "camera.*usb"),
        ("bundle = ", "is not TOML"),
        ("[camera]\nkind='folder'\ndirectory='x'\n", "'bundle': Field required"),
    ],
)
def test_what_is_wrong_is_named_with_its_value(write, text, words):
    path = write(text)
    with pytest.raises(ConfigError, match=words) as refusal:
        load_config(path)
    assert str(path) in str(refusal.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml' cannot be read"):
        load_config(tmp_path / "nowhere.toml")


SAMPLE = Path(__file__).parents[2] / "systemd" / "station.toml"


def test_the_sample_file_names_every_key_with_its_default():
    text = SAMPLE.read_text()
    loaded = load_config(SAMPLE)
    for section in ("identity", "trigger", "engine", "judge", "mqtt", "outbox", "dashboard"):
        model = type(getattr(loaded, section))
        for key, field in model.model_fields.items():
            assert re.search(rf"^(# )?{key} = ", text, re.MULTILINE), f"{section}.{key}"
            if section != "identity" and key != "path" and field.default is not None:
                assert getattr(getattr(loaded, section), key) == field.default, f"{section}.{key}"
    for key in GenicamConfig.model_fields.keys() - {"features", "user_id"}:
        assert re.search(rf"^(# )?{key} = ", text, re.MULTILINE), f"camera.{key}"
