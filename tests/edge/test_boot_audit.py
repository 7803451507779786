"""Thresholds are compared with those of the boot before, as far as anything tells of them."""

from __future__ import annotations

from contextlib import closing

import pytest

from edge.audit import AuditTrail
from edge.boot_audit import audit_bundle
from edge.bundle import load_bundle
from edge.errors import OutboxError
from edge.events import Event, ThresholdChanged
from edge.messages import Model
from edge.outbox import Outbox

MODEL = Model(name="brightness", version="1", precision="fp32", engine_sha256="0" * 64)


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory"


@pytest.fixture
def start(tmp_path, read_only_bundle_dir, memory, boot_id):
    """A start with another smallest defect; gives what the outbox got."""
    bundle = load_bundle(read_only_bundle_dir)
    with closing(Outbox(tmp_path / "outbox.sqlite", 1000)) as outbox:

        def run(min_defect_area_px):
            before = outbox.last_id
            audit_bundle(AuditTrail(outbox, boot_id, "t"), bundle, MODEL, min_defect_area_px, memory)
            return [Event.model_validate_json(row.message.payload).event for row in outbox.pending(10, before)]

        yield run


def test_only_a_change_is_told_and_only_once(start):
    told = [start(area) for area in (4, 4, 7, 7, 4)]
    assert [len(facts) for facts in told] == [1, 1, 2, 1, 2]
    changes = [facts[1] for facts in told if len(facts) == 2]
    assert all(isinstance(change, ThresholdChanged) for change in changes)
    assert [(change.before.min_defect_area_px, change.now.min_defect_area_px) for change in changes] == [(4, 7), (7, 4)]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b'{"image": 1}'])
def test_what_cannot_be_read_tells_nothing_and_is_replaced(start, memory, content, caplog):
    memory.write_bytes(content)
    assert len(start(4)) == 1
    assert "does not tell the thresholds" in caplog.text
    assert len(start(5)) == 2


def test_without_room_for_it_the_station_does_not_start(start, memory):
    memory.mkdir()
    with pytest.raises(OutboxError, match="memory' cannot be written"):
        start(4)
