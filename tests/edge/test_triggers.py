import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import TriggerConfig
from edge.triggers import TriggerLedger, TriggerPacer

MS = 1_000_000


def test_a_trigger_leaves_the_ledger_once():
    ledger = TriggerLedger(deadline_ms=10)
    trigger = ledger.open(0, 0)
    ledger.close(trigger)
    with pytest.raises(KeyError):
        ledger.close(trigger)


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(0, 400))
def test_overdue_are_exactly_those_whose_deadline_came(pauses_ms, later_ms):
    ledger = TriggerLedger(deadline_ms=50)
    now_ns = 0
    for pause_ms in pauses_ms:
        now_ns += pause_ms * MS
        ledger.open(now_ns, 0)
    now_ns += later_ms * MS
    overdue = ledger.overdue(now_ns)
    assert all(trigger.deadline_monotonic_ns <= now_ns for trigger in overdue)
    for trigger in overdue:
        ledger.close(trigger)
    assert ledger.overdue(now_ns) == []
    wait_s = ledger.until_deadline_s(now_ns, 1.0)
    assert (wait_s > 0) if len(ledger) else (wait_s == 1.0)


def test_without_interval_it_keeps_the_room_filled():
    pacer = TriggerPacer(TriggerConfig(interval_ms=0), room=2, limit=3)
    assert [pacer.fire(0, open_now) for open_now in (0, 1, 2, 1, 0)] == [True, True, False, True, False]
    assert pacer.exhausted


def test_missed_beats_are_skipped_and_the_beat_is_kept():
    pacer = TriggerPacer(TriggerConfig(interval_ms=10), room=2, limit=None)
    fired = [now_ms for now_ms in (0, 5, 10, 47, 48, 50, 60) if pacer.fire(now_ms * MS, 0)]
    assert fired == [0, 10, 47, 50, 60]
    assert pacer.until_due_s(62 * MS, 1.0) == pytest.approx(0.008)


@pytest.mark.parametrize("mode", ["line", "free_run"])
def test_only_software_triggers_are_fired(mode):
    pacer = TriggerPacer(TriggerConfig(mode=mode), room=2, limit=None)
    assert pacer.exhausted
    assert not pacer.fire(0, 0)
