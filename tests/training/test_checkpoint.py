"""Files of weights and states: whole or refused, and never executed."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from edge.errors import ConfigError
from training.checkpoint import Epoch, TrainingState, load_state, load_weights, save_state, save_weights
from training.files import whole_file
from training.run import load_run


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never run",)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(module, tmp_path / "weights.pth")
    load_weights(other, tmp_path / "weights.pth")
    assert torch.equal(module.weight, other.weight)
    state = TrainingState(dict(module.state_dict()), {"state": {}, "param_groups": []}, (Epoch(1.5, None, 1e-3, 2.0),))
    save_state(state, tmp_path / "state.pth")
    loaded = load_state(tmp_path / "state.pth")
    assert loaded.history == state.history
    assert torch.equal(loaded.network["weight"], module.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.pth", "weights.pth"]


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.pth"
    save_weights(nn.Linear(3, 2), good)
    content = good.read_bytes()
    cases = {
        "truncated": (content[: len(content) // 2], "truncated"),
        "empty": (b"", "truncated"),
        "text": (b"no checkpoint", "no checkpoint"),
        "pickle": (pickle.dumps(_Evil()), "no checkpoint"),
    }
    for name, (data, words) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=words) as refused:
            load_weights(nn.Linear(3, 2), path)
        assert name in str(refused.value)
        assert "\n" not in str(refused.value)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="holds list, not weights"):
        load_weights(nn.Linear(3, 2), tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="no file"):
        load_weights(nn.Linear(3, 2), tmp_path / "nowhere.pth")
    with pytest.raises(ConfigError, match=r"another network.*weight \(2, 3\) instead of \(2, 4\)"):
        load_weights(nn.Linear(4, 2), good)
    with pytest.raises(ConfigError, match=r"another network.*bias"):
        load_weights(nn.Linear(3, 2, bias=False), good)
    with pytest.raises(ConfigError, match="not the state of a training"):
        load_state(good)
    assert "never run" not in capsys.readouterr().out


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    save_weights(nn.Linear(3, 2), path)
    before = path.read_bytes()

    def fill_the_disk() -> None:
        with whole_file(path) as file:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ConfigError, match=r"weights\.pth' cannot be written \(No space left on device\)"):
        fill_the_disk()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.pth"]
    with pytest.raises(ConfigError, match="cannot be written"):
        save_weights(nn.Linear(3, 2), tmp_path / "nowhere" / "weights.pth")


def test_a_directory_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no training run.*tfanet-edge train"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 7}')
    with pytest.raises(ConfigError, match=r"run\.json' is malformed at format"):
        load_run(tmp_path)
