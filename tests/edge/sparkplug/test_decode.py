"""What a person sees of Sparkplug messages."""

from __future__ import annotations

from edge.sparkplug.decode import lines
from edge.sparkplug.node import EdgeNode

TIME_MS = 1_763_787_695_000
TIME = "2025-11-22T05:01:35.000+00:00"


def test_lines() -> None:
    node = EdgeNode("plant", "line 1", "plant/paint/+/+", "0.1.0")
    device = node.device("plant/paint/l1/s1")
    birth, born = node.birth(3, TIME_MS), node.device_birth(device, TIME_MS)
    data = node.device_data(device, device.set_state("Ready", "waiting", TIME_MS), TIME_MS)
    shown = list(lines(f"{sent.topic} {sent.payload.hex()}\n" for sent in (data, birth, born, data)))
    assert shown[0] == f"spBv1.0/plant/DDATA/line 1/l1:s1 seq=2 {TIME}"
    assert shown[1].startswith("  alias ")
    assert f"  bdSeq = 3 {TIME}" in shown
    assert shown[-2:] == [f"  State/Name = 'Ready' {TIME}", f"  State/Reason = 'waiting' {TIME}"]


def test_lines_that_are_no_messages() -> None:
    state = b'{"online": true, "timestamp": 1}'
    shown = list(lines(["", "x", "spBv1.0/a/NDATA/b zz", "spBv1.0/a/NDATA/b ff", f"spBv1.0/STATE/h {state.hex()}"]))
    assert len(shown) == 5
    assert shown[-1] == f"spBv1.0/STATE/h {state.decode()}"
