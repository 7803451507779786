"""`tfanet-edge outbox` on the file of a running station, and on one that is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.outbox import Gap, Message, Outbox
from edge.outbox.file import PAGE_BYTES

Verb = Callable[..., int]


def waiting(path: Path) -> Outbox:
    outbox = Outbox(path, 8)
    for seq in range(6):
        outbox.append_many(
            [
                Message("root/verdict", b'{"seq":%d}' % seq, 1, False, "verdict", "boot", seq),
                Message("root/mask/x", b"\x89PNG", 1, False, "mask", "boot", seq),
            ]
        )
    outbox.remove([outbox.pending(1)[0].id])
    return outbox


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Outbox]:
    outbox = waiting(tmp_path / "outbox.sqlite")
    yield outbox
    outbox.close()


def test_it_lists_counts_and_exports_beside_a_running_station(
    running: Outbox, tmp_path: Path, verb: Verb, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "outbox.sqlite"
    assert verb("outbox", "ls", path, "--limit", 2) == 0
    heading, first, second = capfd.readouterr().out.splitlines()
    assert heading.split() == ["id", "kind", "boot", "seq", "bytes", "topic"]
    assert first.split() == ["3", "verdict", "boot", "1", "9", "root/verdict"]
    assert second.split()[:2] == ["5", "verdict"]

    assert verb("outbox", "stats", path) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "waiting mask: 2, 8 bytes, seq 4 to 5" in lines
    assert "waiting verdict: 5, 45 bytes, seq 1 to 5" in lines
    assert "boot boot: 5 verdicts waiting, seq 1 to 5" in lines
    assert "delivered and kept for replays: 1 verdicts" in lines
    assert "given up mask: seq 0 to 3 of boot boot" in lines

    assert verb("outbox", "export", path) == 0
    exported = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [item["seq"] for item in exported] == [1, 2, 3, 4, 4, 5, 5]
    assert exported[0]["payload"] == {"seq": 1}
    assert exported[-1]["payload_base64"] == "iVBORw=="
    assert running.append_many([Message("t", b"", 1, False, "verdict", "boot", 6)]) == [13]


def test_flush_needs_a_yes_and_records_the_gap(tmp_path: Path, verb: Verb, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outbox.sqlite"
    waiting(path).close()
    assert verb("outbox", "flush", path) == 2
    assert "add --yes" in capfd.readouterr().err
    assert verb("outbox", "flush", path, "--yes") == 0
    assert capfd.readouterr().out == "7 messages given up\n"
    outbox = Outbox(path, 100)
    assert outbox.count() == 0
    assert outbox.gaps()[-1] == Gap("boot", "verdict", 1, 5) or Gap("boot", "verdict", 1, 5) in outbox.gaps()
    outbox.close()


def test_the_configuration_names_the_file(tmp_path: Path, verb: Verb, capfd: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "station.toml"
    config.write_text('bundle = "b"\n[camera]\nkind = "folder"\ndirectory = "d"\n', encoding="utf-8")
    assert verb("outbox", "stats", "--config", config) == 2
    assert f"there is no outbox '{tmp_path / 'outbox.sqlite'}'" in capfd.readouterr().err
    waiting(tmp_path / "outbox.sqlite").close()
    assert verb("outbox", "stats", "--config", config) == 0
    assert "waiting verdict: 5" in capfd.readouterr().out


def test_what_is_no_outbox_is_said_to_be_none(tmp_path: Path, verb: Verb, capfd: pytest.CaptureFixture[str]) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"no database" * 1000)
    assert verb("outbox", "ls", noise) == 2
    assert "cannot be read" in capfd.readouterr().err
    path = tmp_path / "outbox.sqlite"
    waiting(path).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'{"seq":3}', b'{"seq":9}'))
    assert len(content) % PAGE_BYTES == 0
    assert verb("outbox", "export", path) == 2
    assert "is damaged (row 7 fails its checksum)" in capfd.readouterr().err
