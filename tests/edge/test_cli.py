"""What a person sees when the command line is wrong: one line, with the value and the remedy, and exit status 2."""

from __future__ import annotations

import importlib.metadata
import re

import cv2
import numpy as np
import pytest

from edge import cli
from simulator.build import build

STATION = """
bundle = "bundle"
[camera]
kind = "genicam"
producer = "{producer}"
serial = "R1"
[camera.features]
{feature}
[mqtt]
port = 1
[dashboard]
enabled = false
"""
FOLDER_STATION = 'bundle = "bundle"\n[camera]\nkind = "folder"\ndirectory = "parts"\n[mqtt]\nport = 1\n'


@pytest.fixture
def station_file(tmp_path, bundle_dir):
    def write(producer: object, feature: str = "") -> str:
        path = tmp_path / "station.toml"
        path.write_text(STATION.format(producer=producer, feature=feature))
        return str(path)

    return write


def run(capfd, *arguments):
    """Exit status and the one line on standard error."""
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        status = end.code
    # Whatever a child process or the log says comes before the program's own last word.
    return status, capfd.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--confg", "x"], "unknown option '--confg', did you mean '--config'.*see 'tfanet-edge run --help'"),
        (["demo", "--colour"], "unknown option '--colour'.*see 'tfanet-edge demo --help'"),
        (["dance"], "invalid choice: 'dance'.*see 'tfanet-edge --help'"),
        ([], "VERB"),
        (["run"], "--config"),
        (["run", "--config", "nowhere.toml"], r"nowhere\.toml' cannot be read.*check the path"),
        (["demo", "--triggers", "0"], "'0' is not a whole number from 1 upwards"),
        (["demo", "--defect-rate", "2"], "'2' is not a number from 0 to 1"),
        (["demo", "--json"], "give --triggers N as well"),
        (["demo", "--broker", "http://x", "--triggers", "1"], "has the scheme 'http': write host:port"),
        (["demo", "--bundle", "/nowhere", "--triggers", "1"], "'/nowhere' is not a bundle.*give the directory"),
        (["cameras", "--producer", "/nowhere.cti"], "/nowhere.cti"),
    ],
)
def test_a_wrong_command_line(capfd, arguments, words):
    status, said = run(capfd, *arguments)
    assert status == 2
    assert re.search(words, said), said


def test_a_tampered_bundle(capfd, station_file, bundle_dir):
    (bundle_dir / "model.fp32.onnx").write_bytes(b"something else")
    status, said = run(capfd, "run", "--config", station_file(build()))
    assert status == 2
    assert re.search(r"model\.fp32\.onnx' was changed \(sha256 .*copy the bundle again", said), said


@pytest.mark.parametrize(("content", "words"), [(None, "does not exist|no such|missing"), ("text", "not|cannot")])
def test_a_producer_that_is_none(capfd, station_file, tmp_path, content, words):
    producer = tmp_path / "camera.cti"
    if content is not None:
        producer.write_text(content)
    status, said = run(capfd, "run", "--config", station_file(producer))
    assert status == 2
    assert str(producer) in said
    assert re.search(words, said), said


def test_a_misspelt_feature(capfd, station_file, tmp_path, monkeypatch):
    from simulator.replay import ReplayCamera

    monkeypatch.setenv("REPLAY_CAMERAS", str(tmp_path / "cameras"))
    ReplayCamera.create(tmp_path / "cameras", "R1", np.zeros((1, 32, 32), np.uint8)).close()
    status, said = run(capfd, "run", "--config", station_file(build(), "ExposureTme = 100.0"))
    assert status == 2
    assert "ExposureTme" in said


def test_a_folder_without_a_readable_image(capfd, tmp_path, bundle_dir):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "broken.png").write_bytes(b"no image")
    (tmp_path / "station.toml").write_text(FOLDER_STATION)
    status, said = run(capfd, "run", "--config", str(tmp_path / "station.toml"))
    assert status == 2
    assert "broken.png" in said


def test_a_port_in_use(capfd, tmp_path, bundle_dir):
    import socket

    (tmp_path / "parts").mkdir()
    cv2.imwrite(str(tmp_path / "parts" / "a.png"), np.zeros((8, 8), np.uint8))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "station.toml").write_text(f"{FOLDER_STATION}[dashboard]\nport = {port}\n")
        status, said = run(capfd, "run", "--config", str(tmp_path / "station.toml"))
    assert status == 2
    assert f"127.0.0.1:{port}" in said


def test_a_verb_whose_extra_is_missing_says_which(capfd, monkeypatch):
    entry = importlib.metadata.EntryPoint("train", "no_such_package.cli:add_command [training]", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry])
    status, said = run(capfd, "train", "--data", "x")
    assert status == 2
    assert "'train' needs the Python package 'no_such_package'" in said
    assert "pip install 'tfanet-edge[training]'" in said


def test_every_verb_has_help(capfd):
    for entry in importlib.metadata.entry_points(group=cli.GROUP):
        with pytest.raises(SystemExit) as end:
            cli.main([entry.name, "--help"])
        assert end.value.code == 0
        assert entry.name in capfd.readouterr().out
