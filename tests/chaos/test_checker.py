"""The checker finds each kind of broken promise, and none where there is none."""

from __future__ import annotations

import json

import pytest
from chaos.checker import Boot, Delivery, check

S = 1_000_000_000


def boot(name="A", triggers=10, durable=None, ended="stopped", ended_s=100.0) -> Boot:
    """Trigger i is fired at second i and durable half a second later."""
    answered = range(triggers) if durable is None else durable
    return Boot(
        name,
        {trigger: trigger * S for trigger in range(triggers)},
        {f"{name}{trigger}": trigger * S + S // 2 for trigger in answered},
        ended,
        round(ended_s * S),
    )


def delivery(number: int, name="A", at_s: float | None = None, **changes: object) -> Delivery:
    fields = {
        "received_ns": round((number + 0.6 if at_s is None else at_s) * S),
        "result_id": f"{name}{number}",
        "boot_id": name,
        "seq": number,
        "trigger_id": number,
        "verdict": "OK",
        "content": f"{name}{number}".encode(),
    }
    return Delivery(**(fields | changes))


def violations(boots, deliveries, sessions_s=(0.0,)):
    return check(boots, deliveries, [round(s * S) for s in sessions_s], deadline_s=1.0, slack_s=0.1).violations


def test_a_faultless_day():
    report = check([boot(), boot("B", 3)], [*map(delivery, range(10)), *(delivery(i, "B") for i in range(3))], [0],
                   deadline_s=1.0)  # fmt: skip
    assert report.violations == []
    assert (report.boots, report.triggers, report.verdicts, report.lost, report.repeated) == (2, 13, 13, 0, 0)
    assert report.by_kind == {"OK": 13}


def test_repetitions_are_counted_and_allowed_if_they_say_the_same():
    twice = [*map(delivery, range(10)), delivery(3, at_s=20)]
    assert check([boot()], twice, [0], deadline_s=1.0).repeated == 1
    assert violations([boot()], twice) == []
    (said,) = violations([boot()], [*twice, delivery(3, at_s=21, content=b"other")])
    assert "A3 came twice and was not the same" in said


def test_a_durable_verdict_that_never_arrives():
    said = violations([boot()], map(delivery, [0, 1, 2, 3, 4, 5, 6, 7, 8]))
    assert any("1 durable verdicts never arrived, such as A9" in one for one in said)
    assert any("no verdict of triggers [9]" in one for one in said)


def test_a_gap_in_seq_and_a_number_given_twice():
    fired = boot(durable=[0, 1, 2, 4, 5, 6, 7, 8, 9], ended="killed", ended_s=3.5)
    (said,) = violations([fired], map(delivery, [0, 1, 2, 4, 5, 6, 7, 8, 9]))
    assert "seq has gaps at [3]" in said
    said = violations([boot(triggers=3, durable=[0, 1])], [delivery(0), delivery(1), delivery(2, seq=1)])
    assert any("one number at [1]" in one for one in said)


def test_two_verdicts_of_one_trigger():
    said = violations([boot(triggers=2)], [delivery(0), delivery(1), delivery(2, trigger_id=1)])
    assert any("more than one verdict of triggers [1]" in one for one in said)


def test_verdicts_of_nothing():
    assert any("never fired: [7]" in one for one in violations([boot(triggers=7)], map(delivery, range(8))))
    assert violations([], [delivery(0)]) == ["1 verdicts of boot A, which never ran"]


@pytest.mark.parametrize("ended", ["killed", "failed"])
def test_a_boot_that_ended_early_owes_only_what_was_due(ended):
    fired = boot(durable=range(9), ended=ended, ended_s=9.5)
    assert violations([fired], map(delivery, range(9))) == []
    assert check([fired], map(delivery, range(9)), [0], deadline_s=1.0).open_at_end == 1
    (said,) = violations([boot(durable=range(8), ended=ended, ended_s=9.5)], map(delivery, range(8)))
    assert "no verdict of triggers [8]" in said


def test_what_it_left_open_the_next_boot_owes():
    ended = boot(durable=range(9), ended="killed", ended_s=9.5)
    following = boot("B", 2, durable=range(2))
    following.durable_ns["A9"] = 11 * S
    answers = [*map(delivery, range(10)), delivery(0, "B"), delivery(1, "B")]
    report = check([ended, following], answers, [0], deadline_s=1.0)
    assert (report.violations, report.answered_later, report.open_at_end) == ([], 1, 0)
    following.durable_ns.pop("A9")
    (said,) = violations([ended, following], [*answers[:9], *answers[10:]])
    assert "boot A, killed: no verdict of triggers [9]" in said


def test_a_boot_that_was_killed_may_have_fired_one_more_than_its_witness_saw():
    killed = boot(triggers=9, ended="killed", ended_s=9.5)
    assert violations([killed, boot("B", 0)], map(delivery, range(10))) == []
    (said,) = violations([boot(triggers=9)], map(delivery, range(10)))
    assert "never fired: [9]" in said


def test_a_live_verdict_out_of_order():
    order = [0, 1, 3, 2, *range(4, 10)]
    late = [delivery(number, at_s=3.7 + place / 100) for place, number in enumerate(order)]
    (said,) = violations([boot()], late)
    assert "live verdict 2 came after 3" in said
    # Across a connection that came after it was durable, the same is a backlog.
    assert violations([boot()], late, sessions_s=(0.0, 3.0)) == []


def test_a_backlog_out_of_order():
    arrived = [delivery(9)] + [
        delivery(number, at_s=20 + place) for place, number in enumerate([0, 2, 1, *range(3, 9)])
    ]
    (said,) = violations([boot()], arrived, sessions_s=(0.0, 15.0))
    assert "backlog out of order, 1 came after 2" in said
    assert violations([boot()], [delivery(9), *(delivery(i, at_s=20 + i) for i in range(9))], (0.0, 15.0)) == []


def test_a_delivery_is_told_by_its_message():
    said = {"result_id": "R", "boot_id": "A", "seq": 4, "part": {"trigger_id": 7}, "verdict": "NG", "historical": False}
    once = Delivery.of(json.dumps(said).encode(), 5)
    assert (once.seq, once.trigger_id, once.verdict, once.received_ns) == (4, 7, "NG", 5)
    assert Delivery.of(json.dumps({**said, "historical": True}).encode(), 6).content == once.content
    assert Delivery.of(json.dumps({**said, "verdict": "OK"}).encode(), 6).content != once.content


def test_a_verdict_against_what_was_under_the_camera():
    seen = [delivery(number, ts_camera=number + 1) for number in range(10)]
    expected = {number + 1: "OK" for number in range(10)}
    report = check([boot()], seen, [0], deadline_s=1.0, expected=expected)
    assert (report.violations, report.compared) == ([], 10)
    wrong = check([boot()], seen, [0], deadline_s=1.0, expected={**expected, 4: "NG"})
    assert wrong.violations == ["verdict A3 is OK, the part NG"]
    seen[3] = delivery(3, ts_camera=4, verdict="INVALID")
    assert check([boot()], seen, [0], deadline_s=1.0, expected={**expected, 4: "NG"}).violations == []
