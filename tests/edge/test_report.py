import numpy as np
import pytest

from edge.bundle import load_bundle
from edge.manifest import Preprocessing
from edge.masks import decode_png, decode_rle
from edge.messages import VERDICT_MAX_BYTES, Model, Station, Verdict
from edge.outcome import FrameFacts, Outcome, Timing
from edge.quality import Quality
from edge.report import Reporter, mask_to_image
from edge.triggers import Trigger
from edge.verdict import Judgement, find_defects

TRIGGER = Trigger(3, fired_monotonic_ns=1_000_000_000, fired_utc_ns=1_760_000_000_000_000_000, deadline_monotonic_ns=0)
FRAME = FrameFacts(frame_id=9, size_wh=(512, 256), timestamp_camera_ns=77, exposure_us=500.0, is_complete=True)


@pytest.fixture
def reporter(bundle_dir):
    bundle = load_bundle(bundle_dir)
    return Reporter(
        boot_id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
        version="0",
        station=Station(site="s", area="a", line="l", station="t"),
        model=Model(name="tfanet-tiny", version="1", precision="fp32", engine_sha256="0" * 64),
        manifest=bundle.manifest,
        is_simulated=True,
    )


def judged(mask):
    anomaly_map = np.where(mask, 0.9, 0.0).astype(np.float32)
    defects, mask = find_defects(anomaly_map, mask.astype(np.uint8), 1)
    return Outcome(
        TRIGGER,
        "NG",
        "",
        decided_monotonic_ns=1_040_000_000,
        timing_ms=Timing(5.0, 1.0, 30.0, 2.0),
        frame=FRAME,
        quality=Quality(100.0, 50.0),
        judgement=Judgement("NG", 0.95, defects, mask),
    )


def test_a_defect_is_told_with_its_mask_inline(reporter):
    mask = np.zeros((256, 256), np.uint8)
    mask[10:20, 30:50] = 1
    fitted = reporter.compose(judged(mask), seq=5, camera_serial="R001")
    verdict = fitted.verdict
    assert Verdict.model_validate_json(fitted.payload) == verdict
    assert (verdict.seq, verdict.verdict, verdict.part.trigger_id, verdict.camera.frame_id) == (5, "NG", 3, 9)
    assert verdict.ts == "2025-10-09T08:53:20.040000Z"
    assert verdict.timing_ms.total == 40.0
    assert verdict.score.threshold == 0.9
    assert verdict.defects[0].bbox == (30, 10, 20, 10)
    assert np.array_equal(decode_rle(verdict.mask.counts, verdict.mask.size), mask)
    assert fitted.mask_payload is None


def test_a_ragged_mask_goes_out_as_png_on_its_own_topic(reporter):
    mask = (np.random.default_rng(0).random((256, 256)) > 0.5).astype(np.uint8)
    fitted = reporter.compose(judged(mask), seq=0, camera_serial="R001")
    assert fitted.verdict.mask.encoding == "png"
    assert fitted.verdict.mask.uri == f"mask/{fitted.verdict.result_id}"
    assert np.array_equal(decode_png(fitted.mask_payload), mask)
    assert len(fitted.payload) <= VERDICT_MAX_BYTES


def test_a_timeout_says_why_and_claims_nothing(reporter):
    outcome = Outcome(TRIGGER, "TIMEOUT", "deadline_passed", decided_monotonic_ns=1_100_000_000)
    verdict = reporter.compose(outcome, seq=0, camera_serial="").verdict
    assert (verdict.reason, verdict.score, verdict.mask, verdict.defects) == ("deadline_passed", None, None, ())
    assert verdict.timing_ms.infer is None


def test_mask_corners_land_on_the_corners_of_the_region():
    a, _, c, _, e, f = mask_to_image(
        Preprocessing(input_size_px=(256, 256), roi_xywh=(100, 50, 512, 768)), (2000, 1000)
    )
    assert a * -0.5 + c == pytest.approx(100 - 0.5)
    assert a * 255.5 + c == pytest.approx(100 + 512 - 0.5)
    assert e * -0.5 + f == pytest.approx(50 - 0.5)
    assert e * 255.5 + f == pytest.approx(50 + 768 - 0.5)
