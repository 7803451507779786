"""Whatever the network does: each verdict once and in order, or its absence said."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edge.consumer import Missing, Ordering, Position, Verdict, positions_after
from edge.consumer.order import ReplayRequest, Spans
from edge.consumer.sequencer import Sequencer

HERE = "plant/paint/l1/s1"
OTHER = "plant/paint/l1/s2"
orderings = st.builds(
    Ordering, hold=st.booleans(), window=st.integers(1, 50), patience_s=st.just(1.0), requests=st.integers(1, 3)
)


class Application:
    """Keeps what it is handed, and checks at each step that it makes sense."""

    def __init__(self, hold=True):
        self.hold = hold
        self.seqs = []
        self.missing = set()
        self.requests = []

    def take(self, outputs):
        for output in outputs:
            if isinstance(output, Verdict):
                self._take_verdict(output.seq)
            elif isinstance(output, Missing):
                span = set(range(output.from_seq, output.to_seq + 1))
                assert span
                assert not span & (self.missing | set(self.seqs))
                self.missing |= span
            else:
                assert isinstance(output, ReplayRequest)
                self.requests.append(output)

    def _take_verdict(self, seq):
        assert seq not in self.seqs
        if seq in self.missing:
            self.missing.remove(seq)
        elif self.hold:
            assert set(range(seq)) <= set(self.seqs) | self.missing
        self.seqs.append(seq)


# A step is a verdict that arrives, seconds that pass, or an answer to the last request.
def steps(count):
    deliveries = st.tuples(st.just("deliver"), st.integers(0, count - 1))
    times = st.tuples(st.just("wait"), st.floats(0.1, 3))
    answers = st.tuples(st.just("answer"), st.integers(0, 5))
    return st.lists(st.one_of(deliveries, deliveries, times, answers), max_size=80)


@given(st.integers(1, 40).flatmap(steps), orderings)
def test_each_once_and_in_order_or_named_missing(received, script, ordering):
    application = Application(ordering.hold)
    sequencer = Sequencer(ordering, from_start=True)
    now_s, arrived = 0.0, set()
    for kind, value in script:
        if kind == "wait":
            now_s += value
            application.take(sequencer.wait(now_s))
            continue
        seqs = [value] if kind == "deliver" else []
        if kind == "answer" and application.requests:
            asked = application.requests[-1]
            seqs = list(range(asked.from_seq, asked.to_seq + 1))[value:]  # cut at the front
        for seq in seqs:
            verdict = received(seq, historical=kind == "answer")
            application.take(sequencer.accept(verdict, now_s))
            arrived.add(seq)
    application.take(sequencer.give_up())

    assert set(application.seqs) == arrived
    assert application.missing == set(range(max(arrived, default=-1) + 1)) - arrived


@given(st.permutations(range(30)), st.sets(st.integers(0, 28)), st.lists(st.integers(0, 29)), st.booleans())
def test_what_was_lost_is_asked_for_and_nothing_is_missing(received, order, lost, again, hold):
    application = Application(hold)
    sequencer = Sequencer(Ordering(hold=hold, patience_s=1.0), from_start=True)
    for seq in [seq for seq in order if seq not in lost] + [seq for seq in again if seq not in lost]:
        application.take(sequencer.accept(received(seq), 0.0))
    assert not application.requests
    application.take(sequencer.wait(1.1))
    for request in application.requests:
        for seq in range(request.from_seq, request.to_seq + 1):
            application.take(sequencer.accept(received(seq, historical=True), 1.2))
    assert sorted(application.seqs) == list(range(30))
    if hold:
        assert application.seqs == list(range(30))
    assert not application.missing
    assert sequencer.wait(100.0) == sequencer.give_up() == []


@given(st.permutations(range(25)), st.integers(0, 24), st.integers(0, 30))
def test_a_program_that_died_goes_on_where_it_was(received, order, died_after, handled):
    """What was acknowledged while it waited behind a gap is replayed."""
    first = Application()
    sequencer = Sequencer(Ordering(), from_start=True)
    for seq in order[:died_after]:
        first.take(sequencer.accept(received(seq), 0.0))
    kept = first.seqs[:handled]

    positions = positions_after([(HERE, received(0).boot_id, seq) for seq in kept])
    second = Application()
    second.missing = set(kept)  # for the check of the order only
    sequencer = Sequencer(Ordering(patience_s=1.0), positions, from_start=True)
    for seq in [*order[died_after:], 25]:
        second.take(sequencer.accept(received(seq), 0.0))
    second.take(sequencer.wait(2.0))
    for request in list(second.requests):
        for seq in range(request.from_seq, request.to_seq + 1):
            second.take(sequencer.accept(received(seq, historical=True), 2.0))
    assert kept + second.seqs == list(range(26))


@given(st.sets(st.integers(0, 60), min_size=1))
def test_positions_say_what_is_wanted(handled):
    (position,) = positions_after([(HERE, "B", seq) for seq in handled])
    wanted = {seq for first, last in position.missing for seq in range(first, last + 1)}
    assert position.next_seq == max(handled) + 1
    assert wanted == set(range(position.next_seq)) - handled


def take_all(sequencer, *verdicts):
    """Sequence numbers handed over, and what else came, in order."""
    outputs = [output for verdict in verdicts for output in sequencer.accept(verdict, 0.0)]
    return [output.seq if isinstance(output, Verdict) else output for output in outputs]


def test_a_boot_met_midway_counts_from_there_and_its_backlog_is_taken(received):
    sequencer = Sequencer(Ordering())
    assert take_all(sequencer, received(40), received(41), received(7), received(8), received(7)) == [40, 41, 7, 8]
    assert take_all(sequencer, received(9, historical=True), received(10)) == [10]
    assert (sequencer.repeated, sequencer.foreign) == (1, 1)
    assert sequencer.wait(1000.0) == []


def test_a_boot_that_began_later_is_wanted_from_its_first_verdict(received):
    sequencer = Sequencer(Ordering(patience_s=1.0))
    assert take_all(sequencer, received(40), received(2, boot=1)) == [40]
    assert sequencer.wait(2.0) == [ReplayRequest(HERE, received(0, boot=1).boot_id, 0, 1)]
    assert take_all(sequencer, received(41)) == [41]  # the earlier boot's backlog does not wait
    assert take_all(sequencer, received(0, boot=1), received(1, boot=1)) == [0, 1, 2]


def test_replays_of_boots_unheard_of_are_somebody_elses(received):
    sequencer = Sequencer(Ordering())
    assert take_all(sequencer, received(3, historical=True)) == []
    assert sequencer.foreign == 1


def test_stations_are_followed_each_for_itself(received):
    sequencer = Sequencer(Ordering(patience_s=1.0), [Position(HERE, received(0).boot_id, 5)])
    other = replace(received(6, boot=1).station, station="s2")
    assert take_all(sequencer, received(6)) == []
    assert take_all(sequencer, replace(received(8, boot=1), station=other)) == [8]  # the first of its station
    assert take_all(sequencer, replace(received(10, boot=1), station=other)) == []
    assert [(request.station, request.from_seq) for request in sequencer.wait(1.0)] == [(HERE, 5), (OTHER, 9)]


def test_a_gap_is_asked_for_so_often_and_then_given_up(received):
    sequencer = Sequencer(Ordering(patience_s=1.0, requests=2))
    boot_id = received(0).boot_id
    take_all(sequencer, received(0), received(3), received(6))
    holes = [ReplayRequest(HERE, boot_id, 1, 2), ReplayRequest(HERE, boot_id, 4, 5)]
    assert sequencer.wait(0.9) == []
    assert sequencer.wait(1.0) == holes
    take_all(sequencer, received(9))  # a gap since: it has its own chances
    assert sequencer.wait(1.5) == []
    assert sequencer.wait(2.0) == holes
    given_up = sequencer.wait(3.0)
    assert [output for output in given_up if isinstance(output, Missing)] == [
        Missing(HERE, boot_id, 1, 2),
        Missing(HERE, boot_id, 4, 5),
    ]
    assert [output.seq for output in given_up if isinstance(output, Verdict)] == [3, 6]
    assert sequencer.wait(4.0) == [ReplayRequest(HERE, boot_id, 7, 8)]
    assert take_all(sequencer, received(2)) == [2]


def test_requests_are_such_as_a_station_takes(received):
    sequencer = Sequencer(Ordering(window=100_000, patience_s=1.0, requests=1), from_start=True)
    take_all(sequencer, received(30_000))
    spans = [(request.from_seq, request.to_seq) for request in sequencer.wait(1.0)]
    assert spans == [(20_000, 29_999)]
    take_all(sequencer, *(received(seq, historical=True) for seq in range(20_000, 30_000)))
    assert [(request.from_seq, request.to_seq) for request in sequencer.wait(2.0)] == [(10_000, 19_999)]
    assert sequencer.wait(3.0)[0] == Missing(HERE, received(0).boot_id, 0, 19_999)

    take_all(sequencer, *(received(seq) for seq in range(30_010, 30_110, 10)), received(50_000))
    assert [(request.from_seq, request.to_seq) for request in sequencer.wait(4.0)] == [(30_001, 30_099)]
    given_up = [output for output in sequencer.wait(5.0) if isinstance(output, Missing)]
    assert [missing.to_seq for missing in given_up] == list(range(30_009, 30_109, 10))
    assert [(request.from_seq, request.to_seq) for request in sequencer.wait(6.0)] == [(40_000, 49_999)]


def test_the_window_bounds_what_waits(received):
    sequencer = Sequencer(Ordering(window=3), [Position(HERE, received(0).boot_id, 0)])
    assert take_all(sequencer, received(2), received(3), received(5)) == []
    assert take_all(sequencer, received(7)) == [Missing(HERE, received(0).boot_id, 0, 1), 2, 3]


def test_without_holding_a_verdict_never_waits_for_a_gap(received):
    sequencer = Sequencer(Ordering(hold=False, patience_s=1.0))
    assert take_all(sequencer, received(0), received(3), received(3)) == [0, 3]
    assert sequencer.wait(1.0) == [ReplayRequest(HERE, received(0).boot_id, 1, 2)]
    assert take_all(sequencer, received(2), received(1), received(4)) == [2, 1, 4]


def test_a_repetition_is_known_by_its_number_when_its_id_is_forgotten(received, monkeypatch):
    monkeypatch.setattr("edge.consumer.sequencer.RESULT_IDS_KEPT", 0)
    sequencer = Sequencer(Ordering())
    assert take_all(sequencer, received(4), received(4), received(6), received(6), received(2), received(2)) == [4, 2]
    assert take_all(sequencer, received(5), received(6)) == [5, 6]
    assert sequencer.repeated == 4


def test_a_repetition_is_known_by_its_id_when_its_boot_is_forgotten(received, monkeypatch):
    monkeypatch.setattr("edge.consumer.sequencer._BOOTS_KEPT", 1)
    sequencer = Sequencer(Ordering())
    assert take_all(sequencer, received(4), received(0, boot=1), received(4)) == [4, 0]


def test_while_a_backlog_comes_nobody_asks(received):
    sequencer = Sequencer(Ordering(patience_s=1.0), from_start=True)
    sequencer.accept(received(9), 0.0)
    for seq in range(8, 0, -1):
        now_s = 0.8 * (9 - seq)
        assert sequencer.wait(now_s) == []
        assert sequencer.accept(received(seq), now_s) == []
    assert len(sequencer.wait(now_s + 1.0)) == 1


def test_ranges_that_never_came_are_not_kept_for_ever():
    spans = Spans([(0, 0)])
    for number in range(2, 2002, 2):
        spans.append(number, number)
    assert not spans.discard(0)
    assert spans.discard(2)
    assert spans.discard(2000)


def test_memory_is_bounded_when_boots_never_end(received, monkeypatch):
    monkeypatch.setattr("edge.consumer.sequencer._BOOTS_KEPT", 2)
    sequencer = Sequencer(Ordering(), from_start=True)
    boot_ids = [received(0, boot).boot_id for boot in range(3)]
    assert take_all(sequencer, received(1, boot=0), received(0, boot=1)) == [0]
    take_all(sequencer, received(2, boot=0))  # the one heard of longest ago is now number 1
    assert take_all(sequencer, received(2, boot=1)) == []
    assert take_all(sequencer, received(0, boot=2)) == [Missing(HERE, boot_ids[0], 0, 0), 1, 2, 0]
