"""Verdicts on their way to a host application, whatever happens to brokers, station and bridge."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

from authority import Authority

from edge.config import TlsConfig

DAY_S = 86_400.0


def test_a_verdict_becomes_metrics(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    station.say_state("Ready", "waiting")
    plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    station.judge(7, part={"part_id": "A-17", "trigger_id": 7})
    station.judge(8, verdict="TIMEOUT", score=None, defects=(), defects_total=0, mask=None)
    plant.eventually(lambda: len(host.verdicts()) == 2, "two verdicts")
    first, second = host.verdicts()
    assert first == {
        "Result/Verdict": "NG",
        "Result/Is OK": False,
        "Result/Is Defective": True,
        "Result/Reason": None,
        "Result/Score": 0.71,
        "Result/Threshold": 0.5,
        "Result/Defects": 1,
        "Result/Latency ms": 60.25,
        "Result/Part ID": "A-17",
        "Result/Result ID": f"01JD9V3N{7:018d}",
        "Result/Boot ID": "01JD9V3N0000000000000000B0",
        "Result/Sequence": 7,
        "Result/Is Simulated": True,
        "Model/Name": "flange",
        "Model/Version": "3",
        "Counters/OK": 0,
        "Counters/NG": 1,
        "Counters/INVALID": 0,
        "Counters/TIMEOUT": 0,
    }
    assert (second["Result/Verdict"], second["Result/Reason"]) == ("TIMEOUT", "frame incomplete")
    assert (second["Result/Score"], second["Result/Is OK"], second["Result/Is Defective"]) == (None, False, False)
    assert (second["Counters/NG"], second["Counters/TIMEOUT"]) == (1, 1)
    assert {message.topic for message in host.of("DDATA")} == {"spBv1.0/plant/DDATA/line 1/s1"}


def test_state_of_the_station(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    station.say_state("Error", "no camera")
    plant.eventually(lambda: host.of("DDATA"), "DDATA")
    assert host.of("DDATA")[0].values() == {"State/Name": "Error", "State/Reason": "no camera"}


def test_late_verdicts_are_historical_at_their_own_time(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    station.judge(2, age_s=6.0)
    station.judge(5)
    station.judge(3, age_s=5.0)  # overtaken by a newer one
    station.judge(4, age_s=-1.0, historical=True)
    station.judge(6, age_s=DAY_S, boot_id="01JD9V3M0000000000000000B1", result_id=f"01JD9V3M{6:018d}")
    plant.eventually(lambda: len(host.verdicts()) == 5, "five verdicts")
    _, live, *late = host.of("DDATA")
    assert live.historical() == set()
    for message in late:
        names = set(message.values())
        assert message.historical() == {name for name in names if not name.startswith("Counters/")}
    times = {m["timestamp"] for m in late[2].payload["metrics"] if m.get("is_historical")}
    assert len(times) == 1
    assert times.pop() == min(m["timestamp"] for message in host.of("DDATA") for m in message.payload["metrics"])

    host.ask_for_rebirth()
    plant.eventually(lambda: len(host.of("DBIRTH")) == 2, "DBIRTH")
    assert host.of("DBIRTH")[1].values()["Result/Sequence"] == 4  # the newest by its own time
    assert host.of("DBIRTH")[1].values()["Counters/NG"] == 5


def test_after_an_outage_of_the_sparkplug_broker(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    station.judge(0)
    plant.eventually(lambda: host.seqs() == [0], "a verdict")
    plant.infrastructure.kill()
    station.judge(1, 2, 3)
    plant.infrastructure.start()
    plant.eventually(lambda: set(host.seqs()) == {0, 1, 2, 3}, "all verdicts")
    births = [message.values()["bdSeq"] for message in host.of("NBIRTH")]
    assert births == [0, 1]
    assert len(host.of("DBIRTH")) == 2
    assert host.verdicts()[-1]["Counters/NG"] == 4


def test_a_verdict_that_the_broker_has_not_read_is_sent_again(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    bridge = plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    plant.infrastructure._process.send_signal(signal.SIGSTOP)
    station.judge(0)
    plant.eventually(lambda: bridge._question is not None, "a verdict on its way")
    assert not bridge._hand.taken.is_set()
    plant.infrastructure.kill()
    plant.infrastructure.start()
    plant.eventually(lambda: host.seqs() == [0], "the verdict")
    plant.eventually(lambda: bridge._hand is None, "an answer")


def test_a_broker_that_comes_late(plant: Any, caplog: Any) -> None:
    plant.infrastructure.kill()
    plant.bridge()
    plant.eventually(lambda: any("no connection" in text for text in caplog.messages), "an attempt")
    plant.infrastructure.start()
    host = plant.host()
    plant.eventually(lambda: plant.running[0][0]._is_born, "born")
    plant.stop_bridge()
    plant.eventually(lambda: host.of("NDEATH"), "NDEATH")
    assert host.of("NDEATH")[0].values() == {"bdSeq": 0}  # no CONNECT had been sent before


def test_a_broker_that_refuses(plant: Any, mosquitto: Any, tmp_path: Path, caplog: Any) -> None:
    refusing = mosquitto("allow_anonymous false").start()
    plant.bridge(port=refusing.port)
    # Each attempt was a CONNECT, and takes the next number.
    plant.eventually(lambda: (tmp_path / "bdseq").exists() and (tmp_path / "bdseq").read_text() == "2\n", "attempts")
    assert [text for text in caplog.messages if "efused" in text] == [
        "Sparkplug: refused: Not authorized; tried again until it works"
    ]


def test_tls_with_client_certificates(plant: Any, mosquitto: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "plant")
    server, client = authority.issue("broker", "IP:127.0.0.1"), authority.issue("bridge")
    broker = mosquitto(
        f"cafile {authority.cert}", f"certfile {server.cert}", f"keyfile {server.key}", "require_certificate true"
    ).start()
    tls = TlsConfig(ca_file=authority.cert, cert_file=client.cert, key_file=client.key)
    plant.bridge(port=broker.port, tls=tls)
    plant.eventually(lambda: plant.running[0][0]._is_born, "born")


def test_what_was_not_taken_waits_at_the_stations_broker(plant: Any) -> None:
    station = plant.station()
    station.say_status("online")
    plant.bridge()
    plant.eventually(lambda: plant.running[0][0]._is_born, "born")
    plant.infrastructure.kill()
    station.judge(0, 1, 2)
    plant.eventually(lambda: plant.running[0][0]._hand is not None, "a verdict in hand")
    plant.stop_bridge()
    plant.infrastructure.start()
    host = plant.host()
    plant.bridge()
    plant.eventually(lambda: host.seqs() == [0, 1, 2], "all verdicts")
    assert host.of("NBIRTH")[0].values()["bdSeq"] >= 1


def test_station_goes_and_comes(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    plant.bridge()
    plant.eventually(lambda: host.kinds() == ["NBIRTH", "DBIRTH"], "births")
    station.vanish()
    plant.eventually(lambda: host.kinds()[2:] == ["DDEATH"], "DDEATH")
    station.connect()
    station.say_status("online")
    plant.eventually(lambda: host.kinds()[3:] == ["DBIRTH"], "DBIRTH")
    station.say_status("stopped")
    plant.eventually(lambda: host.kinds()[4:] == ["DDEATH"], "DDEATH")
    station.judge(9)  # was still on its way
    plant.eventually(lambda: len(host.kinds()) == 8, "three more")
    assert host.kinds()[5:] == ["DBIRTH", "DDATA", "DDEATH"]
    assert [message.seq for message in host.messages] == list(range(8))


def test_stations_broker_is_lost(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    plant.shop_floor.kill()
    plant.eventually(lambda: host.of("DDEATH"), "DDEATH")
    station.close()
    plant.shop_floor.start()
    station.connect()
    seqs = itertools.count()
    # Nothing is said of its status, and the broker has forgotten who listens.
    plant.eventually(lambda: station.judge(next(seqs)) or host.seqs(), "a verdict")
    assert host.kinds()[:5] == ["NBIRTH", "DBIRTH", "DDEATH", "DBIRTH", "DDATA"]


def test_messages_that_are_none(plant: Any, caplog: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    host.ask_for_rebirth(retain=True)  # may be of any age
    plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    host.publish("spBv1.0/plant/NCMD/line 1", b"\xff\xff")
    host.publish("spBv1.0/plant/NCMD/line 1", b"")
    station.publish(station.topics.status, b"[]")
    station.publish(station.topics.state, b"{")
    station.publish("tfanet/v1/plant/paint/l1/\N{LATIN SMALL LETTER U WITH DIAERESIS}/status", b"{}")
    station.publish(station.topics.verdict, b"{}")
    station.judge(0)
    plant.eventually(lambda: host.seqs() == [0], "a verdict")
    assert len(host.of("NBIRTH")) == len(host.of("DBIRTH")) == 1
    for word in ("NCMD", "the message is list", "state of plant/paint/l1/s1", "four levels", "/verdict"):
        assert any(word in text for text in caplog.messages), word


def test_a_station_whose_clock_was_never_set(plant: Any) -> None:
    host, station = plant.host(), plant.station()
    station.say_status("online")
    plant.bridge()
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    station.judge(0, ts="0001-01-01T00:00:00.000000Z")
    plant.eventually(lambda: host.seqs() == [0], "a verdict")
    (message,) = host.of("DDATA")
    assert {m["timestamp"] for m in message.payload["metrics"] if m.get("is_historical")} == {0}
