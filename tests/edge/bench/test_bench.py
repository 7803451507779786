"""`bench`: statistics known by construction, every part of the line measured, one line for whatever cannot be."""

from __future__ import annotations

import json
import time
from contextlib import closing

import numpy as np
import pytest

from edge import cli
from edge.bench.result import Alone, BenchResult, Distribution, Growth, overlap_efficiency
from edge.bench.run import PAUSES, WARM_UP, Rig, after_idle, one_at_a_time, pipelined, resident_bytes
from edge.bench.table import table
from edge.bundle import load_bundle
from edge.cameras.memory import MemoryCamera
from edge.engines.engine import EngineTiming
from edge.engines.plan_cache import PlanKey, store_plan
from edge.errors import EngineError
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.slots import Owner, SlotRing
from edge.unpack import unpack
from edge.verdict import Limits

SIDE_PX = 32


def silent(part, done, of):
    pass


class ScriptedEngine:
    """Has an answer for whoever waits or asks often, with the score it is told; notes how many slots are under way."""

    precision, artefact_sha256 = "fp32", "0" * 64

    def __init__(self, score=0.0):
        self.score = score
        self.under_way = self.most_under_way = self.idled = 0
        self.adopted, self.waited, self.asked = [], [], 0

    def adopt(self, memory):
        self.adopted.append(memory)

    def enqueue(self, slot, image, pixel_format, settings):
        slot.hand_over(Owner.HOST, Owner.ENGINE)
        slot.score[0] = self.score
        slot.quality_sums[:] = 100 * slot.above.size, 0, 0
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

    def wait(self, slot, timeout_s):
        self.asked += 1
        if not timeout_s and self.asked < 10:
            return False
        self.asked = 0
        slot.hand_over(Owner.ENGINE, Owner.HOST)
        self.under_way -= 1
        self.waited.append(slot.index)
        return True

    def fetch(self, slot):
        pass

    def timing(self, slot):
        return EngineTiming(upload_ms=1.0, preprocess_ms=2.0, infer_ms=len(self.waited))

    def idle(self):
        self.idled += 1


def make_rig(engine, slots=2):
    size_px = (SIDE_PX, SIDE_PX)
    camera = MemoryCamera(PixelFormat.BAYER_RG8, size_px)
    return Rig(engine, SlotRing(slots, size_px), camera, Preprocessing(input_size_px=size_px), Limits(0.5, 0.5, 4))


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed():
    found = Distribution.of([float(value) for value in range(1000, 0, -1)])
    assert (found.p50_ms, found.p99_ms, found.p99_9_ms, found.max_ms) == (500, 990, 999, 1000)
    assert (found.count, found.mean_ms) == (1000, 500.5)
    assert found.quantiles_ms[:3] == (1, 5, 10)
    assert found.quantiles_ms[-1] == 1000
    one = Distribution.of([7.0])
    assert {one.p50_ms, one.p99_9_ms, *one.quantiles_ms} == {7.0}


def test_overlap_is_complete_when_the_line_is_as_fast_as_its_slowest_stage_alone():
    stages = {"upload": 2.0, "infer": 8.0, "judge": 1.0}
    assert overlap_efficiency(125.0, stages) == 1
    assert overlap_efficiency(1e3 / sum(stages.values()), stages) == pytest.approx(8 / 11, rel=1e-4)


def test_growth_is_the_slope_through_all_readings():
    frames = [0, 10, 20, 30]
    assert Growth.of(frames, [1000 + 64 * number for number in frames]).bytes_per_frame == pytest.approx(64)
    assert Growth.of(frames, [5000] * 4).bytes_per_frame == pytest.approx(0, abs=1e-9)
    # a peak in the middle is no growth
    assert Growth.of(frames, [0, 100, 100, 0]).bytes_per_frame == pytest.approx(0, abs=1e-9)


def test_one_at_a_time_has_every_stage_of_the_frames_that_count():
    engine = ScriptedEngine()
    rig = make_rig(engine)
    told = []
    found = Alone.of(one_at_a_time(rig, 20, lambda *progress: told.append(progress)))
    assert engine.adopted == [rig.camera.memory]
    assert engine.most_under_way == 1
    assert list(found.stages) == ["upload", "preprocess", "infer", "fetch", "judge"]
    assert (found.stages["upload"].max_ms, found.stages["preprocess"].p50_ms) == (1, 2)
    # The scripted engine takes 1 ms more with every frame: the warm-up is over when it takes WARM_UP + 1.
    assert found.stages["infer"].quantiles_ms[0] == WARM_UP + 1
    assert found.stages["infer"].max_ms == WARM_UP + 20
    assert found.slowest_stage == "infer"
    assert found.total.count == 20
    assert told[-1] == ("one at a time", 20, 20)


@pytest.mark.parametrize("slots", [2, 3])
def test_the_line_keeps_every_slot_under_way(slots):
    engine = ScriptedEngine(score=1.0)
    readings = iter(range(1000, 2000))
    found, (growth,) = pipelined(make_rig(engine, slots), 40, silent, (lambda: next(readings),))
    assert engine.most_under_way == slots
    assert found.verdicts == {"NG": 40}
    assert found.latency.count == 40
    assert len(growth.used_bytes) == 40
    assert growth.bytes_per_frame == pytest.approx(1)
    assert engine.under_way == 0


def test_throughput_counts_frames_per_time(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(clock) * 1_000_000)
    found, _ = pipelined(make_rig(ScriptedEngine()), 30, silent, (resident_bytes,))
    # Every look at the clock is a millisecond; a frame in steady state always takes the same number of looks.
    assert 1000 / found.throughput_hz == pytest.approx(round(1000 / found.throughput_hz))
    assert found.latency.p50_ms == found.latency.max_ms


def test_a_pause_is_spent_idle_and_its_first_frame_compared():
    engine = ScriptedEngine()
    found = after_idle(make_rig(engine), 0.03, 0.001, silent)
    assert len(found.first_ms) == PAUSES
    assert engine.idled >= PAUSES
    assert found.times_median == pytest.approx(sorted(found.first_ms)[1] / 0.001)


@pytest.mark.parametrize(
    "measure", [lambda rig: one_at_a_time(rig, 10, silent), lambda rig: pipelined(rig, 10, silent, ())]
)
def test_what_cannot_be_judged_becomes_no_figure(measure):
    with pytest.raises(EngineError, match="judged"):
        measure(make_rig(ScriptedEngine(score=np.nan)))


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_the_camera_in_memory_has_frames_of_every_format(pixel_format):
    camera = MemoryCamera(pixel_format, (16, 8))
    for image in camera.images:
        assert image.shape == pixel_format.shape(16, 8)
        assert np.shares_memory(image, camera.memory)
        assert 80 < unpack(image, pixel_format).mean() < 176


@pytest.fixture
def bench(capfd):
    """Exit status, standard output, standard error."""

    def run(*arguments):
        try:
            status = cli.main(["bench", *map(str, arguments)])
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


def test_a_bundle_is_measured_and_the_file_says_how(bench, read_only_bundle_dir, tmp_path):
    out = tmp_path / "result.json"
    options = ("--engine", "onnxruntime", "--size", "300x260", "--frames", 12, "--idle-s", 0, "--slots", 3)
    status, text, err = bench(read_only_bundle_dir, *options, "--out", out)
    assert (status, err) == (0, "")
    result = BenchResult.model_validate_json(out.read_text())
    assert table(result) + "\n" == text
    assert result.settings.model_dump() == {
        "pixel_format": "BayerRG8",
        "width_px": 300,
        "height_px": 260,
        "frames": 12,
        "slots": 3,
        "idle_s": 0,
        "transfer": "auto",
    }
    manifest = json.loads((read_only_bundle_dir / "manifest.json").read_text())
    assert result.engine.kind == "onnxruntime"
    assert result.engine.artefact_sha256 == manifest["files"]["model.fp32.onnx"]
    assert result.engine.map_error < 1e-5
    assert result.bundle.name == "brightness"
    assert result.alone.total.count == result.pipelined.latency.count == 12
    # The stages follow one another in what is measured end to end; upload is part of nothing here.
    stages = result.alone.stages
    assert stages["upload"].max_ms == 0
    assert sum(stage.quantiles_ms[0] for stage in stages.values()) <= result.alone.total.max_ms
    assert sum(result.pipelined.verdicts.values()) == 12
    assert result.memory.gpu is None
    assert result.memory.host.used_bytes[0] >= result.memory.before_engine_bytes > 1e6
    assert {"python", "onnxruntime", "numpy"} <= result.versions.keys()
    assert "not measured" in next(line for line in text.splitlines() if line.startswith("GPU memory"))


def test_on_a_gpu_its_memory_and_graphs_are_told(
    bench, bundle_dir, fake_cuda, fake_tensorrt, compiled_kernels, tmp_path
):
    from edge.cuda import Gpu
    from edge.engines.device import read_device_facts

    with closing(Gpu()) as gpu:
        facts = read_device_facts(gpu.device)
    sha256 = load_bundle(bundle_dir).manifest.files["model.fp32.onnx"]
    key = PlanKey(onnx_sha256=sha256, precision="fp32", max_batch=1, workspace_mib=None, device=facts)
    plan = fake_tensorrt.make_plan((bundle_dir / "model.fp32.onnx").read_bytes(), facts, facts.tensorrt)
    store_plan(tmp_path / "plans", plan, key, 1.0, 0.0, 0.0)
    options = ("--plans", tmp_path / "plans", "--transfer", "pinned", "--size", "64x48", "--frames", 10, "--idle-s", 0)
    status, text, err = bench(bundle_dir, *options, "--out", tmp_path / "result.json")
    assert (status, err) == (0, "")
    result = BenchResult.model_validate_json((tmp_path / "result.json").read_text())
    assert (result.engine.kind, result.engine.cuda_graphs) == ("tensorrt", True)
    assert result.engine.transfer in ("pinned", "mapped", "managed")
    assert result.machine.gpu["gpu"] in text
    assert result.memory.gpu is not None
    # Nothing is allocated per frame: every reading is the same.
    assert len(set(result.memory.gpu.used_bytes)) == 1
    assert "+0 bytes per frame" in next(line for line in text.splitlines() if line.startswith("GPU memory"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "5MP"), "'5MP' is not a size in pixels such as 2448x2048"),
        (("--size", "0x100"), "'0x100' is not a size"),
        (("--frames", "9"), "'9' is not a whole number from 10 upwards"),
        (("--slots", "1"), "'1' is not a whole number from 2 to 16"),
        (("--idle-s", "-1"), "--idle-s"),
        (("--pixel-format", "Bayer8"), "'Bayer8' is not a pixel format; known are Mono8"),
        (("--pixel-format", "Mono12p", "--size", "11x9"), "a width of 11 pixels is not possible in Mono12p"),
        (("--precision", "int8"), "has no variant 'int8'"),
        (("--engine", "openvino"), "invalid choice: 'openvino'"),
        (("--out", "no/such/place.json"), "'no/such/place.json' cannot be written"),
    ],
)
def test_one_line_says_what_is_wrong(bench, read_only_bundle_dir, options, words):
    status, out, err = bench(read_only_bundle_dir, "--engine", "onnxruntime", *options)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert words in line
