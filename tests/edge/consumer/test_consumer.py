"""At a real Mosquitto: what a receiver gets, whatever is published and whoever goes away."""

from __future__ import annotations

import json
import shutil
import ssl
import threading

import numpy as np
import paho.mqtt.client as paho
import pytest
from authority import Authority
from harness import until
from paho.mqtt.enums import CallbackAPIVersion

from edge import messages
from edge.consumer import Broker, Consumer, Counts, Missing, Ordering
from edge.masks import encode_png, encode_rle

EAGER = Ordering(patience_s=0.15, requests=2)


class Station:
    """Publishes, and answers requests for a replay with what it has kept."""

    def __init__(self, port, topics, make_verdict):
        self.topics = topics
        self.kept = {}
        self.requests = []
        self.make_verdict = make_verdict
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self._answer(json.loads(message.payload))
        self._client.connect("127.0.0.1", port)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe(f"{topics.root}/replay/request", qos=1)
        self._client.loop_start()
        assert subscribed.wait(10)

    def judge(self, *seqs, mask=None):
        for seq in seqs:
            self.send(self.topics.verdict, self.make_verdict(seq, mask=mask).encode())

    def send(self, topic, payload):
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def _answer(self, request):
        self.requests.append(request)
        for seq in range(request["from_seq"], request["to_seq"] + 1):
            if seq in self.kept:
                self._client.publish(self.topics.verdict, self.kept[seq].encode(), qos=1)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


class Receiver:
    """A consumer that runs in a thread, and what it was told."""

    def __init__(self, port, protocol="3.1.1", **options):
        self.verdicts, self.told, self.notices, self.bad, self.masks = [], [], [], [], []
        self.consumer = Consumer(
            Broker("127.0.0.1", "receiver", port, protocol, **options.pop("broker", {})),
            on_missing=self.told.append,
            on_bad=self.bad.append,
            on_notice=self.notices.append,
            on_mask=lambda verdict, bitmap: self.masks.append((verdict, bitmap)),
            **options,
        )
        self.error = None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            with self.consumer:
                self.consumer.run(self.take)
        except ValueError as error:
            self.error = error

    def take(self, verdict):
        self.verdicts.append(verdict)
        self.told.append(verdict.seq)

    def start(self):
        self._thread.start()
        return self

    def connected(self):
        self.start()
        until(lambda: any(notice.startswith("connected") for notice in self.notices), "connection")
        return self

    def end(self):
        self.consumer.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def seqs(self):
        return [verdict.seq for verdict in self.verdicts]


@pytest.fixture
def broker(mosquitto, tmp_path):
    return mosquitto("persistence true", f"persistence_location {tmp_path}/").start()


@pytest.fixture
def station(broker, topics, make_verdict):
    made = Station(broker.port, topics, make_verdict)
    yield made
    made.close()


@pytest.fixture
def receive(broker):
    made = []

    def make(**options):
        made.append(Receiver(broker.port, **options))
        return made[-1]

    yield make
    for receiver in made:
        if receiver._thread.is_alive():
            receiver.end()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_what_came_while_away_comes_later_and_what_was_handled_does_not(station, receive, protocol):
    first = receive(protocol=protocol).connected()
    station.judge(0, 1, 2)
    until(lambda: first.seqs == [0, 1, 2], "three verdicts")
    first.end()
    station.judge(*range(3, 30))
    second = receive(protocol=protocol).connected()
    until(lambda: len(second.seqs) == 27, "what came in between")
    assert second.seqs == list(range(3, 30))
    assert "connected" in second.notices
    assert first.notices[0] == "connected; the broker has kept nothing for this client id"


def test_a_verdict_in_hand_when_the_program_dies_comes_again(station, receive, broker):
    receive().connected().end()
    station.judge(0, 1, 2)
    with Consumer(Broker("127.0.0.1", "receiver", broker.port)) as consumer:
        assert [next(consumer).seq, next(consumer).seq] == [0, 1]
    again = receive().connected()
    until(lambda: len(again.seqs) == 2, "the one in hand and the one behind it")
    assert again.seqs == [1, 2]


def test_a_gap_is_replayed_by_the_station(station, receive):
    receiver = receive(ordering=EAGER).connected()
    station.kept = {seq: station.make_verdict(seq, historical=True, mask=None) for seq in (1, 2, 5)}
    station.judge(0, 3, 4, 4, 6)
    until(lambda: len(receiver.seqs) == 7, "all seven")
    assert receiver.told == list(range(7))
    boot_id = receiver.verdicts[0].boot_id
    assert {"boot_id": boot_id, "from_seq": 1, "to_seq": 2} in station.requests
    receiver.end()
    assert receiver.consumer.counts == Counts(verdicts=7, repeated=1, requests=2)


def test_a_real_station_replays_what_was_before(make_line):
    line = make_line().start(consume=False)
    until(lambda: line.station.verdicts.total() >= 15, "verdicts without this receiver")
    receiver = Receiver(line.broker.port, ordering=EAGER, from_start=True).connected()
    until(lambda: 0 in receiver.seqs, "the first verdict")
    line.end()
    total = line.station.verdicts.total()
    until(lambda: len(receiver.seqs) == total, "all")
    receiver.end()
    assert receiver.seqs == list(range(total))
    assert receiver.verdicts[3].historical
    assert (receiver.bad, receiver.consumer.counts.missing) == ([], 0)


def test_what_the_station_does_not_have_is_named(station, receive):
    receiver = receive(ordering=EAGER).connected()
    station.kept = {2: station.make_verdict(2, historical=True, mask=None)}
    station.judge(0, 3)
    until(lambda: len(receiver.seqs) == 3, "those that exist")
    boot_id = receiver.verdicts[0].boot_id
    assert receiver.told == [0, Missing("plant/paint/l1/s1", boot_id, 1, 1), 2, 3]
    station.judge(1)
    until(lambda: receiver.seqs == [0, 2, 3, 1], "the late one")


def test_what_waits_behind_a_gap_is_handed_over_at_the_end(station, receive):
    receiver = receive().connected()
    station.judge(0, 2)
    until(lambda: receiver.consumer.counts.waiting == 1, "the second waits")
    receiver.end()
    assert receiver.told == [0, Missing("plant/paint/l1/s1", receiver.verdicts[0].boot_id, 1, 1), 2]


def test_one_bad_message_is_told_and_the_rest_goes_on(station, receive, topics):
    receiver = receive().connected()
    good = json.loads(station.make_verdict(1).encode())
    for payload in (b"", b"\xff\x00", b"[]", json.dumps({**good, "schema_version": "2.0.0"}).encode()):
        station.send(topics.verdict, payload)
    station.send(topics.verdict.replace("/s1/", "/s2/"), station.make_verdict(1).encode())
    station.send(topics.mask("x"), bytes(2_000_000))
    station.judge(1)
    until(lambda: receiver.seqs == [1], "the good one")
    assert [bad.source.removeprefix(topics.root) for bad in receiver.bad] == [
        *["/verdict"] * 4,
        topics.verdict.replace("/s1/", "/s2/"),
        "/mask/x",
    ]
    assert "came on" in receiver.bad[4].problem
    assert receiver.consumer.counts.bad == 6


def test_masks_come_with_their_verdicts(station, receive, topics):
    """Inline, as a PNG before its verdict, as run lengths behind it, and one that cannot be read."""
    receiver = receive().connected()
    pixels = np.zeros((256, 256), np.uint8)
    pixels[40:60, 70:80] = 1

    def mask(encoding, counts=None, uri=None):
        return messages.Mask(encoding=encoding, size=(256, 256), to_image=(1, 0, 0, 0, 1, 0), counts=counts, uri=uri)

    ids = [station.make_verdict(seq).result_id for seq in range(5)]
    station.judge(0, mask=mask("coco_rle", counts=encode_rle(pixels)))
    station.send(topics.mask(ids[1]), encode_png(pixels))
    station.judge(1, mask=mask("png", uri=f"mask/{ids[1]}"))
    station.judge(2, mask=mask("coco_rle", uri=f"mask/{ids[2]}"))
    station.send(topics.mask(ids[2]), encode_rle(pixels).encode())
    station.judge(3, mask=mask("coco_rle", counts="000"))
    station.judge(4)
    until(lambda: len(receiver.seqs) == 5, "all verdicts")
    assert [verdict.seq for verdict, _ in receiver.masks] == [0, 1, 2]
    for _, bitmap in receiver.masks:
        assert np.array_equal([list(row) for row in bitmap.rows], pixels)
    assert [bad.source for bad in receiver.bad] == [f"mask/{ids[3]}"]


def test_a_broker_that_restarts_is_found_again(station, receive, broker):
    receiver = receive().connected()
    station.judge(0)
    until(lambda: receiver.seqs == [0], "the first")
    broker.terminate()
    until(lambda: any("lost" in notice for notice in receiver.notices), "the loss")
    broker.start()
    until(lambda: receiver.notices[-1] == "connected", "the connection")
    station.judge(1)
    until(lambda: receiver.seqs == [0, 1], "the second")


def test_a_broker_absent_at_start_and_one_that_refuses_are_told(receive, broker, mosquitto):
    broker.terminate()
    receiver = receive(broker={"username": "nobody", "password": "x"}).start()
    until(lambda: receiver.notices, "a notice")
    assert receiver.notices[0].startswith("no connection to 127.0.0.1")
    receiver.consumer.stop()

    closed = mosquitto("allow_anonymous false").start()
    refused = Receiver(closed.port).start()
    until(lambda: refused.notices, "a notice")
    assert refused.notices[0] == "the broker refuses the connection: Not authorized"
    refused.end()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_tls_with_a_client_certificate(mosquitto, tmp_path):
    authority = Authority(tmp_path / "plant", "plant")
    own, host = authority.issue("broker", "IP:127.0.0.1"), authority.issue("line-host")
    files = (f"cafile {authority.cert}", f"certfile {own.cert}", f"keyfile {own.key}")
    guarded = mosquitto(*files, "require_certificate true").start()
    context = ssl.create_default_context(cafile=str(authority.cert))
    stranger = Receiver(guarded.port, broker={"tls": context}).start()
    until(lambda: stranger.notices, "a notice")
    assert not stranger.notices[0].startswith("connected")
    stranger.consumer.stop()

    context = ssl.create_default_context(cafile=str(authority.cert))
    context.load_cert_chain(host.cert, host.key)
    receiver = Receiver(guarded.port, broker={"tls": context}).connected()
    receiver.end()
    stranger.end()


def test_a_filter_that_cannot_be_one_ends_the_loop(mosquitto):
    receiver = Receiver(mosquitto().start().port, prefix="#").start()
    until(lambda: receiver.error, "an error")
    receiver.end()
    assert "filter" in str(receiver.error)
