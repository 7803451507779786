"""A configuration that cannot work is said in one line, with exit status 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.sparkplug.bdseq import BirthDeathNumbers
from edge.sparkplug.settings import load_config

NODE = '[sparkplug]\ngroup_id = "plant"\nedge_node_id = "line 1"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'sparkplug'"),
        ('[sparkplug]\ngroup_id = "a"\n', "'sparkplug.edge_node_id'"),
        (NODE.replace("line 1", "line/1"), "'sparkplug.edge_node_id'"),
        (NODE.replace("plant", "a+"), "'sparkplug.group_id'"),
        (NODE + 'primary_host_id = "#"\n', "'sparkplug.primary_host_id'"),
        (NODE + "port = 0\n", "'sparkplug.port'"),
        (NODE + 'host = "mqtt://x"\n', "'sparkplug.host'"),
        (NODE + "bdseq = 3\n", "unknown key 'sparkplug.bdseq'"),
        (NODE + '[stations]\nfilter = "plant/#"\n', "'stations.filter'"),
        (NODE + 'password_file = "nothing"\n', "check sparkplug.password_file"),
        (NODE + '[stations.tls]\nca_file = "nothing"\n', "check stations.tls.ca_file"),
        (NODE + "[", "not TOML"),
        (None, "cannot be read"),
    ],
)
def test_bad_configuration(text: str | None, words: str, tmp_path: Path, verb: Any, capsys: Any) -> None:
    path = tmp_path / "sparkplug.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert verb("sparkplug", "--config", path) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", ["256", "x", "", "\xff"])
def test_bad_numbers(content: str, tmp_path: Path, verb: Any, capsys: Any) -> None:
    (tmp_path / "sparkplug.toml").write_text(NODE, encoding="utf-8")
    (tmp_path / "sparkplug.bdseq").write_text(content, encoding="latin-1")
    assert verb("sparkplug", "--config", tmp_path / "sparkplug.toml") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_defaults_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "sparkplug.toml"
    path.write_text(NODE + 'password_file = "secret"\n', encoding="utf-8")
    (tmp_path / "secret").write_text("word\n", encoding="utf-8")
    config = load_config(path)
    assert config.sparkplug.password() == "word"
    assert config.sparkplug.bdseq_path == tmp_path / "sparkplug.bdseq"
    assert (config.stations.filter, config.stations.host) == ("+/+/+/+", "127.0.0.1")


def test_numbers_go_on_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "bdseq"
    numbers = BirthDeathNumbers(path)
    assert [numbers.take() for _ in range(3)] == [0, 1, 2]
    numbers.put_back(2)
    assert numbers.take() == 2
    assert BirthDeathNumbers(path).take() == 3
    path.write_text("255\n", encoding="ascii")
    assert BirthDeathNumbers(path).take() == 0
    with pytest.raises(ConfigError, match="cannot be written"):
        BirthDeathNumbers(tmp_path / "nothing" / "bdseq").take()
