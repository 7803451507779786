"""The rules of Sparkplug 3.0.0 that bind an edge node, by the ids of its conformance tests, on what was on the wire.

One long session between two brokers is recorded packet by packet; every rule is a question about the record. Left out
are rules for hosts and brokers, for templates, data sets and properties, which the bridge does not use, for MQTT 5,
which it does not speak, for several brokers, and what only the person who hands out names can keep.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.consumer import Missing

BIRTHS, DATA, DEVICE = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA"), ("DBIRTH", "DDATA", "DDEATH")
NUMBERED = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")
NODE_TOPICS = {kind: f"spBv1.0/plant/{kind}/line 1" for kind in ("NBIRTH", "NDATA", "NDEATH")}
DEVICE_TOPICS = {kind: f"spBv1.0/plant/{kind}/line 1/s1" for kind in DEVICE}
INT64, BOOLEAN = 4, 11


class Record:
    """What was on the wire, and what to ask about it."""

    def __init__(self, packets: list[Any], ended_ms: float) -> None:
        self.packets = packets
        self.ended_ms = ended_ms
        self.links = [[p for p in packets if p.link == link] for link in range(1 + packets[-1].link)]
        self.wills = [link[0].connect() for link in self.links]

    def sent(self, *kinds: str) -> list[Any]:
        found = [p for p in self.packets if p.is_out and p.kind == "PUBLISH" and p.levels[2] in kinds]
        assert found, kinds
        return found

    def metrics(self, *kinds: str) -> list[dict[str, Any]]:
        return [metric for packet in self.sent(*kinds) for metric in packet.content["metrics"]]

    def plain(self, kind: str) -> bool:
        return all(p.qos == 0 and not p.is_retained for p in self.sent(kind))

    def topics(self, kind: str) -> bool:
        return {p.topic for p in self.sent(kind)} == {{**NODE_TOPICS, **DEVICE_TOPICS}[kind]}

    def timed(self, kind: str) -> bool:
        return all(0 <= self.ended_ms - p.content["timestamp"] < 60_000 for p in self.sent(kind))

    def numbered(self, *kinds: str) -> bool:
        """Each one more than the one before in the same connection, a birth of the node 0, 255 followed by 0."""
        for before, after in itertools.pairwise(self.sent(*NUMBERED)):
            if after.levels[2] in kinds and after.levels[2] != "NBIRTH" and after.seq != (before.seq + 1) % 256:
                return False
        return all(0 <= p.seq <= 255 for p in self.sent(*kinds))

    def of_births(self, name: str) -> list[dict[str, Any]]:
        found = [[m for m in p.content["metrics"] if m["name"] == name] for p in self.sent("NBIRTH")]
        assert all(len(metrics) == 1 for metrics in found)
        return [metric for (metric,) in found]

    def bdseqs_match(self) -> bool:
        wills = [will["will"]["metrics"][0]["value"] for will in self.wills]
        return all(
            m["value"] == wills[p.link]
            for p in self.sent("NBIRTH")
            for m in p.content["metrics"]
            if m["name"] == "bdSeq"
        )

    def will_numbers(self) -> bool:
        numbers = [will["will"]["metrics"][0] for will in self.wills]
        return all(m["name"] == "bdSeq" and m["datatype"] == INT64 for m in numbers) and [
            m["value"] for m in numbers
        ] == [0, 1]

    def chronological(self, *kinds: str) -> bool:
        for packet in self.sent(*kinds):
            times = [m["timestamp"] for m in packet.content["metrics"] if not m.get("is_historical")]
            if times != sorted(times):
                return False
        return True

    def complete(self, birth: str, data: str) -> bool:
        aliases = {m["alias"] for m in self.sent(birth)[0].content["metrics"] if "alias" in m}
        return all(m["alias"] in aliases for m in self.metrics(data))

    def valued(self, *kinds: str) -> bool:
        return all(("value" in m) != m.get("is_null", False) for m in self.metrics(*kinds))

    def aliased(self) -> bool:
        """Unique over node and device, and the same metric's in every birth."""
        pairs = {
            (p.levels[2], m["name"], m["alias"])
            for p in self.sent(*BIRTHS)
            for m in p.content["metrics"]
            if "alias" in m
        }
        return len(pairs) == len({alias for _, _, alias in pairs}) == len({(kind, name) for kind, name, _ in pairs})

    def after_births(self, kind: str) -> bool:
        """Not before the node's birth and the births that belong to it."""
        for link in self.links:
            kinds = [p.levels[2] for p in link if p.is_out and p.kind == "PUBLISH"]
            if kind in kinds and kinds[: kinds.index(kind)][:2] != ["NBIRTH", "DBIRTH"]:
                return False
        return True

    def birth_sequences(self) -> list[list[str]]:
        """What follows a birth of the node while its device is there, up to the first data."""
        kinds = [p.levels[2] for p in self.sent(*NUMBERED)]
        return [kinds[at : at + 2] for at, kind in enumerate(kinds) if kind == "NBIRTH"]

    def states(self) -> list[tuple[int, str, dict[str, Any]]]:
        return [
            (at, p.levels[2], json.loads(p.body[p.body.index(b"{") :]))
            for at, p in enumerate(self.packets)
            if not p.is_out and p.kind == "PUBLISH" and p.levels[1] == "STATE"
        ]

    def waited(self) -> bool:
        """In each connection there is a STATE of the configured host, online and not older, before the first birth."""
        for link in self.links:
            at = self.packets.index(next(p for p in link if p.is_out and p.kind == "PUBLISH"))
            seen = [
                (host, state) for number, host, state in self.states() if number < at and self.packets[number] in link
            ]
            if not seen or seen[-1][0] != "scada" or seen[-1][1]["online"] is not True:
                return False
        return True

    def host_went_offline(self) -> bool:
        """The first connection ends after the newer offline message, and not before."""
        offline, _ = [at for at, _, state in self.states() if not state["online"] and state["timestamp"] == 2000]
        after = [p.levels[2] if p.kind == "PUBLISH" else p.kind for p in self.packets[offline + 1 :]]
        return after[:3] == ["NDEATH", "DISCONNECT", "CONNECT"]

    def stale_was_ignored(self) -> bool:
        (stale,) = [at for at, _, state in self.states() if state["timestamp"] == 500]
        rest = [p for p in self.packets[stale:] if p.link == 0 and p.is_out]
        return rest[0].levels[2] == "DBIRTH"

    def ends_with_death(self) -> bool:
        return all(
            [p.levels[2] if p.kind == "PUBLISH" else p.kind for p in link if p.is_out][-2:] == ["NDEATH", "DISCONNECT"]
            for link in self.links
        )

    def deaths_are_bare(self) -> bool:
        contents = [p.content for p in self.sent("NDEATH")] + [will["will"] for will in self.wills]
        return all([m["name"] for m in content["metrics"]] == ["bdSeq"] for content in contents)

    def deaths_unnumbered(self) -> bool:
        return all("seq" not in p.content for p in self.sent("NDEATH")) and all(
            "seq" not in w["will"] for w in self.wills
        )

    def deaths_match(self) -> bool:
        return all(
            p.content["metrics"][0]["value"] == self.wills[p.link]["will"]["metrics"][0]["value"]
            for p in self.sent("NDEATH")
        )

    def reborn(self) -> list[Any]:
        """What was sent from the request for a rebirth on."""
        (asked,) = [
            at for at, p in enumerate(self.packets) if not p.is_out and p.kind == "PUBLISH" and p.levels[2] == "NCMD"
        ]
        return [p for p in self.packets[asked:] if p.is_out and p.kind == "PUBLISH"]

    def subscribed(self, topic: str) -> bool:
        return all([p.subscriptions().get(topic) for p in link if p.kind == "SUBSCRIBE"] == [1] for link in self.links)

    def recent(self, *kinds: str) -> bool:
        """Milliseconds of UTC: seconds or local time would be far away."""
        return all(abs(self.ended_ms - m["timestamp"]) < 3_600_000 for m in self.metrics(*kinds))

    def wills_are(self, key: str, value: object) -> bool:
        return all(will[key] == value for will in self.wills)


def _per_kind(check: Callable[[Record, str], bool], pattern: str, *kinds: str) -> dict[str, Callable[[Record], bool]]:
    return {pattern.format(kind.lower()): (lambda record, kind=kind: check(record, kind)) for kind in kinds}  # type: ignore[misc]


def _rebirth(key: str, value: object) -> Callable[[Record], bool]:
    return lambda r: all(m.get(key, None) == value for m in r.of_births("Node Control/Rebirth"))


RULES: dict[str, Callable[[Record], bool]] = {
    # 2 Principles
    "tck-id-principles-birth-certificates-order": lambda r: all(
        next(p for p in link if p.is_out and p.kind == "PUBLISH").levels[2] == "NBIRTH" for link in r.links
    ),
    "tck-id-principles-persistence-clean-session-311": lambda r: (
        r.wills_are("is_clean", True) and r.wills_are("protocol", (b"MQTT", 4))
    ),
    # 4 Topics
    "tck-id-topic-structure": lambda r: all(
        len(p.levels) == 4 + (p.levels[2] in DEVICE) for p in r.sent(*NUMBERED, "NDEATH")
    ),
    "tck-id-topic-structure-namespace-a": lambda r: {p.levels[0] for p in r.sent(*NUMBERED, "NDEATH")} == {"spBv1.0"},
    "tck-id-topic-structure-namespace-device-id-associated-message-types": lambda r: (
        {p.levels[4] for p in r.sent(*DEVICE)} == {"s1"}
    ),
    "tck-id-topic-structure-namespace-device-id-non-associated-message-types": lambda r: (
        {len(p.levels) for p in r.sent("NBIRTH", "NDATA", "NDEATH")} == {4}
    ),
    **_per_kind(Record.topics, "tck-id-topics-{}-topic", "NBIRTH", "NDATA", "NDEATH", *DEVICE),
    **_per_kind(Record.plain, "tck-id-topics-{}-mqtt", *NUMBERED),
    **_per_kind(Record.timed, "tck-id-topics-{}-timestamp", *BIRTHS, *DATA),
    **_per_kind(Record.numbered, "tck-id-topics-{}-seq-num", "NDATA", "DDATA", "DDEATH"),
    "tck-id-topics-nbirth-seq-num": lambda r: {p.seq for p in r.sent("NBIRTH")} == {0},
    "tck-id-topics-dbirth-seq": lambda r: r.numbered("DBIRTH"),
    "tck-id-topics-nbirth-metric-reqs": lambda r: r.complete("NBIRTH", "NDATA"),
    "tck-id-topics-dbirth-metric-reqs": lambda r: r.complete("DBIRTH", "DDATA"),
    "tck-id-topics-nbirth-metrics": lambda r: (
        r.valued("NBIRTH") and all("name" in m and "datatype" in m for m in r.metrics("NBIRTH"))
    ),
    "tck-id-topics-dbirth-metrics": lambda r: (
        r.valued("DBIRTH") and all("name" in m and "datatype" in m for m in r.metrics("DBIRTH"))
    ),
    "tck-id-topics-nbirth-bdseq-included": lambda r: len(r.of_births("bdSeq")) == len(r.sent("NBIRTH")),
    "tck-id-topics-nbirth-bdseq-matching": Record.bdseqs_match,
    "tck-id-topics-nbirth-bdseq-increment": Record.will_numbers,
    "tck-id-topics-nbirth-rebirth-metric": lambda r: len(r.of_births("Node Control/Rebirth")) == len(r.sent("NBIRTH")),
    "tck-id-topics-ndeath-payload": Record.deaths_are_bare,
    "tck-id-topics-ndeath-seq": Record.deaths_unnumbered,
    # 5 Operational behaviour
    "tck-id-case-sensitivity-metric-names": lambda r: (
        len({m["name"].lower() for m in r.metrics(*BIRTHS)}) == len({m["name"] for m in r.metrics(*BIRTHS)})
    ),
    "tck-id-message-flow-edge-node-ncmd-subscribe": lambda r: r.subscribed("spBv1.0/plant/NCMD/line 1"),
    "tck-id-message-flow-edge-node-birth-publish-connect": lambda r: {link[0].kind for link in r.links} == {"CONNECT"},
    "tck-id-message-flow-edge-node-birth-publish-will-message": lambda r: r.wills_are("has_will", True),
    "tck-id-message-flow-edge-node-birth-publish-will-message-topic": lambda r: r.wills_are(
        "will_topic", NODE_TOPICS["NDEATH"]
    ),
    # The record reads every payload as Protocol Buffers, and refuses fields that the specification does not have.
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload": lambda r: all(w["will"] for w in r.wills),
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq": Record.will_numbers,
    "tck-id-message-flow-edge-node-birth-publish-will-message-qos": lambda r: r.wills_are("will_qos", 1),
    "tck-id-message-flow-edge-node-birth-publish-will-message-will-retained": lambda r: r.wills_are(
        "is_will_retained", False
    ),
    "tck-id-message-flow-edge-node-birth-publish-phid-wait": Record.waited,
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-id": Record.waited,
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-online": Record.waited,
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp": Record.stale_was_ignored,
    "tck-id-message-flow-edge-node-birth-publish-phid-offline": Record.host_went_offline,
    "tck-id-message-flow-edge-node-birth-publish-nbirth-topic": lambda r: r.topics("NBIRTH"),
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload": lambda r: all(p.content for p in r.sent("NBIRTH")),
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq": lambda r: (
        r.bdseqs_match() and {m["datatype"] for m in r.of_births("bdSeq")} == {INT64}
    ),
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload-seq": lambda r: r.numbered("NBIRTH"),
    "tck-id-message-flow-edge-node-birth-publish-nbirth-qos": lambda r: r.plain("NBIRTH"),
    "tck-id-message-flow-edge-node-birth-publish-nbirth-retained": lambda r: r.plain("NBIRTH"),
    "tck-id-operational-behavior-edge-node-birth-sequence-wait": Record.waited,
    "tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath": Record.ends_with_death,
    "tck-id-operational-behavior-edge-node-intentional-disconnect-packet": Record.ends_with_death,
    "tck-id-operational-behavior-edge-node-termination-host-offline": Record.host_went_offline,
    "tck-id-operational-behavior-edge-node-termination-host-offline-reconnect": Record.host_went_offline,
    "tck-id-operational-behavior-edge-node-termination-host-offline-timestamp": Record.stale_was_ignored,
    "tck-id-message-flow-device-birth-publish-nbirth-wait": lambda r: all(
        kinds[0] == "NBIRTH" for kinds in r.birth_sequences()
    ),
    "tck-id-message-flow-device-birth-publish-dbirth-topic": lambda r: r.topics("DBIRTH"),
    "tck-id-message-flow-device-birth-publish-dbirth-match-edge-node-topic": lambda r: (
        r.topics("DBIRTH") and r.topics("NBIRTH")
    ),
    "tck-id-message-flow-device-birth-publish-dbirth-payload": lambda r: all(p.content for p in r.sent("DBIRTH")),
    "tck-id-message-flow-device-birth-publish-dbirth-qos": lambda r: r.plain("DBIRTH"),
    "tck-id-message-flow-device-birth-publish-dbirth-retained": lambda r: r.plain("DBIRTH"),
    "tck-id-message-flow-device-birth-publish-dbirth-payload-seq": lambda r: r.numbered("DBIRTH"),
    "tck-id-operational-behavior-device-ddeath": lambda r: len(r.sent("DDEATH")) == 1,
    "tck-id-operational-behavior-data-publish-nbirth": lambda r: r.complete("NBIRTH", "NDATA"),
    "tck-id-operational-behavior-data-publish-nbirth-values": lambda r: r.valued("NBIRTH"),
    "tck-id-operational-behavior-data-publish-nbirth-change": lambda r: len(r.sent("NDATA")) == 1,
    "tck-id-operational-behavior-data-publish-nbirth-order": lambda r: r.chronological("NBIRTH", "NDATA"),
    "tck-id-operational-behavior-data-publish-dbirth": lambda r: r.complete("DBIRTH", "DDATA"),
    "tck-id-operational-behavior-data-publish-dbirth-values": lambda r: r.valued("DBIRTH"),
    "tck-id-operational-behavior-data-publish-dbirth-order": lambda r: r.chronological("DBIRTH", "DDATA"),
    "tck-id-operational-behavior-data-commands-rebirth-name": lambda r: bool(r.of_births("Node Control/Rebirth")),
    "tck-id-operational-behavior-data-commands-rebirth-name-aliases": _rebirth("alias", None),
    "tck-id-operational-behavior-data-commands-rebirth-datatype": _rebirth("datatype", BOOLEAN),
    "tck-id-operational-behavior-data-commands-rebirth-value": _rebirth("value", False),
    "tck-id-operational-behavior-data-commands-rebirth-action-1": lambda r: r.reborn()[0].levels[2] == "NBIRTH",
    "tck-id-operational-behavior-data-commands-rebirth-action-2": lambda r: (
        [p.levels[2] for p in r.reborn()[:2]] == ["NBIRTH", "DBIRTH"]
    ),
    "tck-id-operational-behavior-data-commands-rebirth-action-3": lambda r: (
        r.bdseqs_match() and r.reborn()[0].link == 0
    ),
    # 6 Payloads
    "tck-id-payloads-timestamp-in-UTC": lambda r: all(r.timed(kind) for kind in (*NUMBERED, "NDEATH")),
    "tck-id-payloads-sequence-num-always-included": lambda r: all(p.seq is not None for p in r.sent(*NUMBERED)),
    "tck-id-payloads-sequence-num-incrementing": lambda r: (
        r.numbered(*NUMBERED) and {p.seq for p in r.sent(*NUMBERED)} == set(range(256))
    ),
    "tck-id-payloads-name-requirement": lambda r: all(
        "name" in m or "alias" in m for m in r.metrics(*NUMBERED, "NDEATH")
    ),
    "tck-id-payloads-alias-uniqueness": Record.aliased,
    "tck-id-payloads-alias-birth-requirement": lambda r: all(
        "name" in m and ("alias" in m or m["name"] == "Node Control/Rebirth") for m in r.metrics(*BIRTHS)
    ),
    "tck-id-payloads-alias-data-cmd-requirement": lambda r: all(
        "alias" in m and "name" not in m for m in r.metrics(*DATA)
    ),
    "tck-id-payloads-name-birth-data-requirement": lambda r: all("timestamp" in m for m in r.metrics(*BIRTHS, *DATA)),
    "tck-id-payloads-metric-timestamp-in-UTC": lambda r: r.recent(*BIRTHS, *DATA),
    "tck-id-payloads-metric-datatype-value-type": lambda r: all(0 <= m["datatype"] < 2**32 for m in r.metrics(*BIRTHS)),
    "tck-id-payloads-metric-datatype-value": lambda r: all(1 <= m["datatype"] <= 34 for m in r.metrics(*BIRTHS)),
    "tck-id-payloads-metric-datatype-req": lambda r: all("datatype" in m for m in r.metrics(*BIRTHS)),
    "tck-id-payloads-metric-datatype-not-req": lambda r: all("datatype" not in m for m in r.metrics(*DATA)),
    **_per_kind(Record.timed, "tck-id-payloads-{}-timestamp", *NUMBERED),
    **_per_kind(Record.numbered, "tck-id-payloads-{}-seq", *NUMBERED),
    **_per_kind(Record.numbered, "tck-id-payloads-{}-seq-inc", *DEVICE, "NDATA"),
    **_per_kind(Record.plain, "tck-id-payloads-{}-qos", *BIRTHS, *DATA),
    **_per_kind(Record.plain, "tck-id-payloads-{}-retain", *BIRTHS, *DATA),
    **_per_kind(Record.after_births, "tck-id-payloads-{}-order", *DATA),
    "tck-id-payloads-nbirth-bdseq": lambda r: len(r.of_births("bdSeq")) == len(r.sent("NBIRTH")),
    "tck-id-payloads-nbirth-bdseq-repeat": Record.bdseqs_match,
    "tck-id-payloads-nbirth-rebirth-req": _rebirth("value", False),
    "tck-id-payloads-ddeath-seq-number": lambda r: r.numbered("DDEATH"),
    "tck-id-payloads-ndeath-seq": Record.deaths_unnumbered,
    "tck-id-payloads-ndeath-bdseq": Record.deaths_match,
    "tck-id-payloads-ndeath-will-message": lambda r: r.wills_are("will_topic", NODE_TOPICS["NDEATH"]),
    "tck-id-payloads-ndeath-will-message-qos": lambda r: r.wills_are("will_qos", 1),
    "tck-id-payloads-ndeath-will-message-retain": lambda r: r.wills_are("is_will_retained", False),
    "tck-id-payloads-ndeath-will-message-publisher": Record.ends_with_death,
    "tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311": Record.ends_with_death,
}


def test_rules(plant: Any) -> None:
    tap, host, station = plant.tap(), plant.host(), plant.station()
    bridge = plant.bridge(port=tap.port, primary_host_id="scada")
    plant.eventually(lambda: any(p.kind == "SUBSCRIBE" for p in tap.packets), "SUBSCRIBE")
    host.say_state("another", True, 900)
    host.say_state("scada", False, 900)
    host.say_state("scada", True, 1000)
    plant.eventually(lambda: host.of("NBIRTH"), "NBIRTH")
    host.say_state("scada", False, 500)
    station.say_status("online")
    station.say_state("Ready", "waiting")
    plant.eventually(lambda: host.of("DBIRTH"), "DBIRTH")
    station.judge(*range(130))
    station.judge(130, age_s=60.0)
    bridge._events.put(Missing("plant/paint/l1/s1", "01JD9V3N0000000000000000B0", 3, 4))
    plant.eventually(lambda: "NDATA" in host.kinds() and len(host.of("DDATA")) >= 131, "131 verdicts")
    host.ask_for_rebirth()
    plant.eventually(lambda: len(host.of("DBIRTH")) == 2, "rebirth")
    station.judge(*range(131, 400))
    plant.eventually(lambda: len(host.of("DDATA")) >= 400, "400 verdicts")
    host.say_state("scada", False, 2000)
    plant.eventually(lambda: [p.kind for p in tap.packets].count("SUBSCRIBE") == 2, "another connection")
    host.say_state("scada", True, 3000)
    plant.eventually(lambda: len(host.of("DBIRTH")) == 3, "birth after the host came back")
    station.say_status("stopped")
    plant.eventually(lambda: host.of("DDEATH"), "DDEATH")
    plant.stop_bridge()
    plant.eventually(lambda: len(host.of("NDEATH")) == 2, "NDEATH")

    record = Record(tap.packets, time.time() * 1000)
    broken = [rule for rule, holds in RULES.items() if not holds(record)]
    assert broken == []
    assert tap.open_at_once == 1


def test_the_document_says_how_many() -> None:
    document = (Path(__file__).parents[3] / "docs" / "sparkplug.md").read_text(encoding="utf-8")
    assert f"asks {len(RULES)} rules of Sparkplug 3.0.0" in " ".join(document.split())
