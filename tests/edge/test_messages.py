from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ulid import ULID

from edge.config import Identity
from edge.delivery import verdict_messages
from edge.masks import encode_rle
from edge.messages import (
    VERDICT_MAX_BYTES,
    CameraShot,
    Defect,
    Evidence,
    Mask,
    Model,
    Part,
    Quality,
    Recipe,
    Score,
    Station,
    Timing,
    Verdict,
    fit_verdict,
)
from edge.notices import PLC_MAX_BYTES, plc_record
from edge.wire import Topics, utc_text

LONGEST_INT = 2**63 - 1
LONGEST_FLOAT = -1.2345678901234567e-300

ids = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=64)
floats = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, LONGEST_INT)
defects = st.builds(
    Defect,
    id=counts,
    bbox=st.tuples(counts, counts, counts, counts),
    area_px=counts,
    area_frac=st.floats(0, 1),
    score_max=floats,
    centroid=st.tuples(floats, floats),
)
masks = st.none() | st.builds(
    Mask,
    encoding=st.just("coco_rle"),
    size=st.tuples(counts, counts),
    to_image=st.tuples(*[floats] * 6),
    counts=st.tuples(st.text("0Po\\_", min_size=1, max_size=20), st.integers(0, 400)).map(lambda t: t[0] * t[1]),
)


def largest_verdict() -> Verdict:
    """Every field as long as it may be, in characters of four bytes where they are allowed."""
    wide = "\U0001f600"
    return Verdict(
        result_id="7" + "Z" * 25,
        boot_id="7" + "Z" * 25,
        seq=LONGEST_INT,
        ts="2025-11-22T05:01:35.000123Z",
        ts_camera=-(2**63),
        station=Station(site="s" * 64, area="a" * 64, line="l" * 64, station="s" * 64),
        camera=CameraShot(serial=wide * 64, frame_id=LONGEST_INT, exposure_us=-LONGEST_FLOAT),
        part=Part(part_id="p" * 64, lot="l" * 64, trigger_id=LONGEST_INT),
        recipe=Recipe(id=wide * 64, version=wide * 32),
        model=Model(name=wide * 64, version=wide * 32, precision="fp32", engine_sha256="0" * 64),
        result_state=4,
        is_simulated=False,
        verdict="INVALID",
        reason=wide * 1000,
        score=Score(
            image=LONGEST_FLOAT,
            threshold=LONGEST_FLOAT,
            warn_threshold=LONGEST_FLOAT,
            calibrated_fpr=-LONGEST_FLOAT,
        ),
        defects_total=LONGEST_INT,
        mask=Mask(encoding="coco_rle", size=(LONGEST_INT, LONGEST_INT), to_image=(LONGEST_FLOAT,) * 6, uri="u" * 160),
        timing_ms=Timing(grab=1e300, preprocess=1e300, infer=1e300, postprocess=1e300, total=1e300),
        evidence=Evidence(image_uri="u" * 160, heatmap_uri="u" * 160, sha256="0" * 64),
        quality=Quality(incomplete=False, brightness=LONGEST_FLOAT, sharpness=LONGEST_FLOAT),
    )


def test_the_largest_verdict_without_defects_fits() -> None:
    assert len(largest_verdict().encode()) <= VERDICT_MAX_BYTES


@given(listed=st.lists(defects, max_size=60), mask=masks, largest=st.booleans())
def test_an_encoded_verdict_never_exceeds_its_size(
    make_verdict: Any, listed: list[Defect], mask: Mask | None, largest: bool
) -> None:
    verdict = largest_verdict() if largest else make_verdict()
    verdict = verdict.model_copy(update={"defects": tuple(listed), "defects_total": len(listed), "mask": mask})

    fitted = fit_verdict(verdict)

    assert len(fitted.payload) <= VERDICT_MAX_BYTES
    assert Verdict.model_validate_json(fitted.payload) == fitted.verdict
    if len(verdict.encode()) <= VERDICT_MAX_BYTES:
        assert fitted.verdict == verdict
        assert fitted.mask_payload is None
    kept = fitted.verdict.defects
    assert set(kept) <= set(listed)
    left_out = [defect.area_px for defect in listed if defect not in kept]
    assert max(left_out, default=0) <= min((defect.area_px for defect in kept), default=LONGEST_INT)


def test_the_mask_leaves_first_and_defects_only_when_that_is_not_enough(make_verdict: Any) -> None:
    noise = encode_rle((np.random.default_rng(0).random((256, 256)) < 0.5).astype(np.uint8))
    mask = make_verdict().mask.model_copy(update={"counts": noise})
    few = fit_verdict(make_verdict(mask=mask))
    assert few.mask_payload == noise.encode()
    assert few.verdict.mask is not None
    assert (few.verdict.mask.counts, few.verdict.mask.uri) == (None, f"mask/{few.verdict.result_id}")
    assert len(few.verdict.defects) == 1

    spots = tuple(
        Defect(id=n, bbox=(n, 0, 1, 1), area_px=n, area_frac=0.1, score_max=0.5, centroid=(n, 0)) for n in range(200)
    )
    many = fit_verdict(make_verdict(mask=mask, defects=spots, defects_total=200))
    assert many.verdict.mask == few.verdict.mask
    assert many.verdict.defects_total == 200
    assert [spot.id for spot in many.verdict.defects] == list(range(199, 199 - len(many.verdict.defects), -1))
    assert 20 < len(many.verdict.defects) < 200


def test_the_messages_of_a_verdict(make_verdict: Any, topics: Topics) -> None:
    verdict = make_verdict(seq=3)
    alone = verdict_messages(topics, fit_verdict(verdict), with_plc=False)
    assert [(m.topic, m.kind, m.qos, m.retain, m.seq) for m in alone] == [(topics.verdict, "verdict", 1, False, 3)]
    full = verdict_messages(topics, replace(fit_verdict(verdict), mask_payload=b"\x89PNG"), with_plc=True)
    assert [m.topic for m in full] == [topics.verdict, topics.plc, topics.mask(verdict.result_id)]
    assert full[2].payload == b"\x89PNG"


@given(score=st.none() | floats, part=st.none() | st.text("Aa|#~ ", min_size=1, max_size=64), seq=counts)
def test_a_plc_record_is_flat_and_small(make_verdict: Any, score: float | None, part: str | None, seq: int) -> None:
    verdict = largest_verdict().model_copy(update={"part": Part(part_id=part), "seq": seq})
    if score is not None:
        verdict = verdict.model_copy(update={"score": Score(image=score, threshold=1)})
    payload = plc_record(verdict).encode()
    assert len(payload) <= PLC_MAX_BYTES
    assert not any(isinstance(value, (dict, list)) for value in json.loads(payload).values())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"verdict": "OK", "score": None}, "OK needs a score"),
        ({"verdict": "INVALID", "reason": None}, "INVALID needs a reason"),
        ({"verdict": "TIMEOUT", "reason": ""}, "TIMEOUT needs a reason"),
        ({"result_state": 4}, "NG has result_state 1"),
        ({"defects_total": 0}, "less than the defects listed"),
        ({"seq": -1}, "greater than or equal to 0"),
        ({"ts": "2025-11-22T05:01:35Z"}, "pattern"),
        ({"result_id": "8" + "0" * 25}, "pattern"),
        ({"part": {"part_id": 'say "A"'}}, "pattern"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_verdict_that_contradicts_itself_is_refused(
    make_verdict: Any, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        make_verdict(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Score(image=value, threshold=1)


@pytest.mark.parametrize(
    "where", [{}, {"counts": "0", "uri": "mask/1"}, {"encoding": "png", "counts": "0"}, {"counts": "~"}]
)
def test_a_mask_is_inline_or_elsewhere(where: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mask(**{"encoding": "coco_rle", "size": (4, 4), "to_image": (1, 0, 0, 0, 1, 0), **where})


@given(st.text())
def test_any_text_serves_as_a_reason_on_one_line(make_verdict: Any, text: str) -> None:
    verdict = make_verdict(verdict="INVALID", reason="x" + text)
    assert verdict.reason is not None
    assert len(verdict.reason) <= 160
    assert not set("\0\n\r\x1b") & set(verdict.reason)
    assert Verdict.model_validate_json(verdict.encode()) == verdict


@given(st.integers(0, 4_102_444_800_000_000_000))
def test_times_are_utc_with_microseconds_and_sort_as_text(utc_ns: int) -> None:
    text = utc_text(utc_ns)
    assert len(text) == 27
    assert text.endswith("Z")
    assert utc_text(utc_ns + 1000) > text


@given(st.binary(min_size=16, max_size=16))
def test_every_ulid_is_a_result_id(make_verdict: Any, data: bytes) -> None:
    identifier = str(ULID.from_bytes(data))
    assert make_verdict(result_id=identifier).result_id == identifier


segment = st.from_regex(r"[A-Za-z0-9_.\-]{1,64}", fullmatch=True)


@given(st.builds(Identity, prefix=segment, site=segment, area=segment, line=segment, station=segment))
def test_topics_have_no_wildcard_and_the_levels_of_isa_95(identity: Identity) -> None:
    topics = Topics(identity)
    levels = [identity.prefix, "v1", identity.site, identity.area, identity.line, identity.station]
    for topic in (topics.verdict_last, topics.mask("01"), topics.alarm("code")):
        assert topic.split("/")[:6] == levels
        assert len(topic.split("/")) == 8
        assert not set("+#\0") & set(topic)
