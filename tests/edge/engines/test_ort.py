import numpy as np
import onnxruntime
import pytest

from edge.bundle import load_bundle
from edge.engines.golden import check_golden
from edge.engines.ort import OrtEngine
from edge.errors import BundleError, EngineError
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.quality import Quality, quality_of
from edge.slots import Owner, SlotRing


@pytest.fixture
def ring():
    return SlotRing(3, (256, 256))


@pytest.fixture
def engine(bundle_dir, ring):
    engine = OrtEngine(load_bundle(bundle_dir), "fp32", threads=1)
    for slot in ring.slots:
        engine.bind(slot)
    yield engine
    engine.close()


def enqueue(engine, slot, grey):
    frame = np.full((300, 400), grey, np.uint8)
    engine.enqueue(slot, frame, PixelFormat.MONO8, Preprocessing(input_size_px=(256, 256)))


def test_slots_in_flight_get_their_own_answers(engine, ring):
    for grey in (10, 230, 90):
        slot = ring.acquire()
        enqueue(engine, slot, grey)
    for slot, grey in zip(ring.slots, (10, 230, 90), strict=True):
        assert engine.wait(slot, 10.0)
        engine.fetch(slot)
        assert slot.score[0] == pytest.approx(grey / 255)
        assert np.allclose(slot.anomaly_map, grey / 255)
        assert np.allclose(slot.maxima, grey / 255)
        assert (slot.above == (grey == 230)).all()
        assert quality_of(slot.quality_sums, slot.above.size) == Quality(grey, 0.0)
        assert engine.timing(slot).preprocess_ms > 0
        assert engine.timing(slot).infer_ms > 0


def test_the_host_may_not_touch_a_slot_while_the_engine_has_it(engine, ring):
    slot = ring.acquire()
    enqueue(engine, slot, 10)
    assert slot.owner is Owner.ENGINE
    with pytest.raises(RuntimeError, match="belongs to engine"):
        ring.release(slot)
    assert engine.wait(slot, 10.0)
    ring.release(slot)


def test_golden_vectors_are_reproduced(engine, bundle_dir, ring):
    result = check_golden(engine, load_bundle(bundle_dir), "fp32", ring)
    assert result.vectors == 2
    assert result.map_error < 1e-6


def test_a_wrong_engine_is_refused(bundle_dir, ring):
    bundle = load_bundle(bundle_dir)
    golden = dict(np.load(bundle_dir / "golden.npz"))
    golden["anomaly_map"][1, 7, 7] += 0.01
    np.savez(bundle_dir / "golden.npz", **golden)
    engine = OrtEngine(bundle, "fp32", threads=1)
    for slot in ring.slots:
        engine.bind(slot)
    try:
        with pytest.raises(EngineError, match="contradicts the golden vectors"):
            check_golden(engine, bundle, "fp32", ring)
    finally:
        engine.close()


def test_a_failing_run_is_an_error_and_the_slot_comes_back(engine, ring, monkeypatch):
    def fail(_):
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("out of memory")

    monkeypatch.setattr(engine, "_session", type("Session", (), {"run_with_iobinding": staticmethod(fail)})())
    slot = ring.acquire()
    enqueue(engine, slot, 10)
    with pytest.raises(EngineError, match="out of memory"):
        engine.wait(slot, 10.0)
    ring.release(slot)


def test_a_file_that_is_no_network_is_refused(bundle_dir):
    bundle = load_bundle(bundle_dir)
    (bundle_dir / "model.fp32.onnx").write_bytes(b"no network")
    with pytest.raises(EngineError, match=r"cannot load .*model\.fp32\.onnx"):
        OrtEngine(bundle, "fp32", threads=1)


def test_a_missing_precision_names_those_there_are(bundle_dir):
    with pytest.raises(BundleError, match="no variant 'int8': choose one of: fp32"):
        OrtEngine(load_bundle(bundle_dir), "int8", threads=1)
