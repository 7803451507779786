from __future__ import annotations

import threading
from typing import Any

from edge.config import Identity
from edge.dashboard.page_state import inspection_record, page_state
from edge.dashboard.scoreboard import NG_KEPT, TREND_LENGTH, Scoreboard


def test_a_burst_is_counted_completely_while_pages_read(line: Any) -> None:
    """Line.publish is one thread; the reader takes everything it can meanwhile."""
    board = Scoreboard()
    line.side_channel.attach(board)
    done = threading.Event()
    totals: list[int] = []

    def read() -> None:
        while not done.is_set():
            reading = board.read()
            totals.append(sum(reading.counts.values()))
            assert len(reading.trend) == min(totals[-1], TREND_LENGTH)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(2000):
        line.publish("TIMEOUT" if number % 10 else "INVALID")
    done.set()
    reader.join()
    assert board.read().counts == {"OK": 0, "NG": 0, "INVALID": 200, "TIMEOUT": 1800}
    assert totals == sorted(totals)


def test_the_trend_and_the_rejected_parts_hold_the_newest(line: Any) -> None:
    board = Scoreboard()
    line.side_channel.attach(board)
    rejected = [line.publish("NG").verdict.result_id for _ in range(NG_KEPT + 3)]
    for _ in range(TREND_LENGTH - 1):
        line.publish("TIMEOUT")
    reading = board.read()
    assert len(reading.trend) == TREND_LENGTH
    assert (reading.trend[0].outcome, reading.trend[0].score) == ("NG", 1.62)
    assert (reading.trend[-1].outcome, reading.trend[-1].score, reading.trend[-1].threshold) == ("TIMEOUT", None, None)
    assert [part.verdict.result_id for part in reading.ng] == rejected[:2:-1]


def test_what_was_read_can_be_found_for_a_while_and_rejected_parts_longer(line: Any) -> None:
    board = Scoreboard()
    line.side_channel.attach(board)
    rejected = line.publish("NG").verdict.result_id
    unseen = line.publish("OK").verdict.result_id
    seen = line.publish("OK").verdict.result_id
    board.read()
    assert board.find(unseen) is None
    assert board.find(seen) is not None
    for _ in range(40):
        line.publish("OK")
        board.read()
    assert board.find(seen) is None
    assert board.find(rejected) is not None


def test_before_the_first_part_nothing_is_claimed(line: Any) -> None:
    reading = Scoreboard().read()
    state = page_state(Identity(), reading, line.status)
    assert state["newest"] is None
    assert state["newest_age_s"] is None
    assert state["trend"] == []


def test_boxes_are_shares_of_the_picture(line: Any) -> None:
    inspection = line.publish("NG")
    record: Any = inspection_record(inspection)
    assert record["defects_total"] == len(record["defects"]) == 2
    for shown, defect in zip(record["defects"], inspection.verdict.defects, strict=True):
        assert [side * 256 for side in shown["box"]] == list(defect.bbox)
        assert shown["area_px"] == defect.area_px
