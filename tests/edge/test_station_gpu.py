"""A whole station that computes on the GPU, on a stand-in for the driver."""

from __future__ import annotations

from harness import check_complete, until

from edge.config import EngineConfig, TriggerConfig
from edge.errors import EngineLostError

TENSORRT = EngineConfig(kind="tensorrt", transfer="pinned")


def test_parts_are_told_apart_on_the_gpu(make_line, make_plan, validators):
    make_plan()
    line = make_line(engine=TENSORRT.model_copy(update={"keep_warm_ms": 5.0})).start()
    until(lambda: len(line.consumer.verdicts) >= 10, "10 verdicts")
    line.end()
    check_complete(line, validators)
    assert [verdict["verdict"] for verdict in line.consumer.verdicts[:10]] == ["OK", "NG"] * 5
    verdict = line.consumer.verdicts[1]
    assert verdict["defects"][0]["bbox"] == [140, 80, 20, 40]
    assert verdict["timing_ms"]["infer"] >= 0


def test_a_gpu_that_faults_ends_the_station_and_no_old_answer_passes(make_line, make_plan, gpu, validators):
    make_plan()
    line = make_line(engine=TENSORRT).start()
    until(lambda: len(line.consumer.verdicts) >= 6, "6 verdicts")
    gpu.fault_kernel()
    until(lambda: line.error is not None, "the engine's end")
    line.end()
    check_complete(line, validators)
    assert isinstance(line.error, EngineLostError)
    verdicts = [verdict["verdict"] for verdict in line.consumer.verdicts]
    first = verdicts.index("INVALID")
    assert verdicts[:first] == (["OK", "NG"] * first)[:first]
    assert set(verdicts[first:]) == {"INVALID"}
    assert "the GPU failed" in line.consumer.verdicts[first]["reason"]
    assert line.consumer.states[-1] == "Error"


def test_a_gpu_that_faults_while_it_is_kept_warm_ends_the_station_too(make_line, make_plan, gpu, validators):
    make_plan()
    config = TENSORRT.model_copy(update={"keep_warm_ms": 1.0})
    line = make_line(engine=config, trigger=TriggerConfig(interval_ms=300)).start()
    until(lambda: len(line.consumer.verdicts) >= 2, "2 verdicts")
    gpu.fault_kernel()
    until(lambda: line.error is not None, "the engine's end")
    line.end()
    check_complete(line, validators)
    assert line.consumer.states[-1] == "Error"
