"""Messages by the published rules: what the station's own models write is read, what the schema forbids is refused."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge import messages
from edge.consumer import Defect, MessageError, parse_verdict
from edge.masks import encode_rle

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=70)
    | st.sampled_from(["png", "coco_rle", "OK", "NG", "INVALID", "0" * 64, "1.2.3", "2.0.0", "mask/x", 1, 3, 4, 0.5])
)
values = scalars | st.lists(scalars, max_size=7) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)


def paths(node, path=()):
    """Of every value in a document."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from paths(value, (*path, key))


def changed(document, path, value):
    """A copy with another value there; without the field when `value` is Ellipsis."""
    copied = copy.deepcopy(document)
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    if value is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copied


@pytest.fixture(scope="module")
def document(make_verdict):
    evidence = messages.Evidence(image_uri="image/1", heatmap_uri=None, sha256="a" * 64)
    spot = np.zeros((256, 256), np.uint8)
    spot[4:6, 3:5] = 1
    mask = messages.Mask(encoding="coco_rle", size=(256, 256), to_image=(5, 0, 2, 0, 5, 2), counts=encode_rle(spot))
    return json.loads(make_verdict(7, ts_camera=2**62 + 1, evidence=evidence, mask=mask).encode())


def test_every_field_is_typed(document):
    verdict = parse_verdict(json.dumps(document).encode())
    assert verdict.ts == datetime(2025, 11, 22, 5, 1, 35, 123, timezone.utc)
    assert verdict.ts_camera == 2**62 + 1
    assert verdict.defects == (Defect(0, (3, 4, 2, 2), 4, 6.1e-05, 0.9, (3.5, 4.5)),)
    assert (verdict.verdict, verdict.seq, verdict.part.part_id, verdict.camera.exposure_us) == ("NG", 7, "A-17", 800.0)
    assert verdict.mask.in_image(3, 4) == (17, 22)
    assert verdict.mask.bitmap().area_px == 4
    assert verdict.evidence.sha256 == "a" * 64
    assert hash(verdict) == hash(parse_verdict(json.dumps(document).encode()))


@settings(max_examples=40)
@given(st.sampled_from(["OK", "NG", "INVALID", "TIMEOUT"]), st.data())
def test_what_a_station_writes_is_read(make_verdict, outcome, data):
    """Values as the station's models allow them, over the whole range."""
    text = st.text(st.characters(exclude_characters=[chr(code) for code in range(32)] + ["\x7f"], codec="utf-8"))
    written = make_verdict(
        data.draw(st.integers(0, 2**63 - 1)),
        outcome,
        camera=messages.CameraShot(serial=data.draw(text)[:64], frame_id=data.draw(st.none() | st.integers(0, 2**60))),
        recipe=messages.Recipe(id=data.draw(text)[:64], version=data.draw(text)[:32]),
        reason=data.draw(text.filter(str.strip)),
        result_id="7" + "Z" * 25,
        part=messages.Part(),
        quality=None,
        ts_camera=data.draw(st.integers(-(2**63), 2**63 - 1)),
        mask=data.draw(
            st.sampled_from(
                [
                    None,
                    messages.Mask(encoding="png", size=(2, 3), to_image=(1, 0, 0, 0, 1, 0), uri="mask/1"),
                    messages.Mask(encoding="coco_rle", size=(2, 3), to_image=(1, 0, 0, 0, 1, 0), uri="mask/1"),
                ]
            )
        ),
    )
    verdict = parse_verdict(written.encode())
    assert (verdict.verdict, verdict.seq, verdict.reason) == (outcome, written.seq, written.reason)
    assert (verdict.camera.serial, verdict.recipe.id) == (written.camera.serial, written.recipe.id)


@given(st.data())
def test_what_the_schema_forbids_is_refused(document, validators, data):
    path = data.draw(st.sampled_from([path for path in paths(document) if path and path != ("model", "precision")]))
    altered = changed(document, path, data.draw(values))
    try:
        parse_verdict(json.dumps(altered).encode())
    except MessageError:
        return
    validators["verdict"].validate(altered)
    messages.Verdict.model_validate(altered)


def test_no_field_may_be_left_out(document):
    for path in paths(document):
        if path and isinstance(path[-1], str):
            with pytest.raises(MessageError, match=path[-1]):
                parse_verdict(json.dumps(changed(document, path, ...)).encode())


def test_additions_of_a_minor_version_are_ignored(document):
    expected = parse_verdict(json.dumps(document).encode())
    newer = {**document, "schema_version": "1.7.0", "colour": {"deep": [1]}}
    newer["score"] = {**document["score"], "second_opinion": "fine"}
    verdict = parse_verdict(json.dumps(newer).encode())
    assert verdict.schema_version == "1.7.0"
    assert (verdict.score, verdict.defects) == (expected.score, expected.defects)


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema", "urn:tfanet-edge:verdict:2"), ("schema_version", "2.0.0"), ("schema", "urn:other:1")],
)
def test_another_major_version_is_refused(document, field, value):
    with pytest.raises(MessageError, match=r"version read here"):
        parse_verdict(json.dumps({**document, field: value}).encode())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"result_state": 3}, "NG has result_state 1, not 3"),
        ({"score": None}, "NG has no score"),
        ({"verdict": "INVALID", "result_state": 4}, "INVALID has no reason"),
        ({"defects_total": 0}, "defects_total is 0, but 1 are listed"),
        ({"seq": True}, "seq is True, not a whole number"),
        (
            {"score": {"image": 10**400, "threshold": 0.5, "warn_threshold": None, "calibrated_fpr": None}},
            "score.image",
        ),
        ({"mask": {"encoding": "png", "size": [1, 1], "to_image": [0] * 6, "counts": "1", "uri": None}}, "with a uri"),
        ({"seq": 1.0}, "seq is 1.0, not a whole number"),
        ({"ts": "2025-13-22T05:01:35.000123Z"}, "ts is '2025-13-22"),
        ({"reason": "\ud800"}, r"reason is '\ud800'"),
        ({"verdict": "MAYBE" * 999}, "not one of OK, NG"),
        ({"station": {"site": "../..", "area": "a", "line": "l", "station": "s"}}, "station.site is '../..'"),
    ],
)
def test_the_error_names_the_field(document, changes, problem):
    with pytest.raises(MessageError) as caught:
        parse_verdict(json.dumps({**document, **changes}).encode())
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 60_000)
@example(b'{"a":' * 10_000)
@example(b"1" * 60_000)
@example(b"NaN")
@example(b"\xff\xfe[\x00]\x00")
@example(b"\xef\xbb\xbf{}")
@example(b" " * 100_000)
def test_no_bytes_raise_anything_else(payload):
    with pytest.raises(MessageError):
        parse_verdict(payload)


@given(st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 5))
def test_a_damaged_message_is_read_or_refused(document, at, put, cut):
    """Bytes replaced, removed or added anywhere in a good message."""
    payload = json.dumps(document).encode()
    at %= len(payload)
    with suppress(MessageError):
        parse_verdict(payload[:at] + put + payload[at + cut :])
