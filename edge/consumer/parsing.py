"""From the bytes of a message to a Verdict, by the published rules, without a schema library.

A newer minor version is read, its additions ignored; another major version is refused.
"""

from __future__ import annotations

import json
import re

from edge.consumer import fields
from edge.consumer.fields import Fields, array, flag, integer, line, number, text, wrong
from edge.consumer.verdict import (
    Camera,
    Defect,
    Evidence,
    Mask,
    Model,
    Outcome,
    Part,
    Quality,
    Recipe,
    Score,
    Station,
    Timing,
    Verdict,
)
from edge.errors import MessageError

# Stations keep to 4096; a later minor version may add.
MAX_BYTES = 1 << 16
_OUTCOMES: dict[str, tuple[Outcome, int]] = {
    "OK": ("OK", 1),
    "NG": ("NG", 1),
    "INVALID": ("INVALID", 4),
    "TIMEOUT": ("TIMEOUT", 3),
}

_segment = text(r"[A-Za-z0-9_.\-]{1,64}", "a level of a topic")
_printable = text(r"[ !#-\[\]-~]{1,64}", "printable ASCII without quote and backslash, 1 to 64 characters")
_uri = text(r"[!#-\[\]-~]{1,160}", "a URI of at most 160 characters")


def parse_verdict(payload: bytes) -> Verdict:
    """The verdict in one message.

    Raises:
        MessageError: it breaks the published rules, or is of another major version; no other error, whatever the bytes.
    """
    found = fields_of(payload, "verdict")
    verdict = _verdict(found)
    _check_sense(verdict)
    return verdict


def fields_of(payload: bytes, kind: str) -> Fields:
    """The fields of a message of one kind.

    Raises:
        MessageError: it is no JSON object, or of another kind or major version.
    """
    if len(payload) > MAX_BYTES:
        raise MessageError(f"the message has {len(payload)} bytes, more than {MAX_BYTES}")
    try:
        document = json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the message is not JSON ({ascii(str(error))[1:61]})") from error
    found = Fields(document, "")
    schema = f"urn:tfanet-edge:{kind}:1"
    if (said := found.take("schema", line(64))) != schema:
        raise wrong(said, "schema", f"'{schema}', the version read here")
    found.take("schema_version", _version)
    return found


def _verdict(found: Fields) -> Verdict:
    return Verdict(
        schema_version=found.take("schema_version", _version),
        result_id=found.take("result_id", fields.ulid),
        boot_id=found.take("boot_id", fields.ulid),
        seq=found.take("seq", integer()),
        ts=found.take("ts", fields.utc),
        ts_camera=found.maybe("ts_camera", integer(-(2**63))),
        station=found.take("station", _station),
        camera=found.take("camera", _camera),
        part=found.take("part", _part),
        recipe=found.take("recipe", _recipe),
        model=found.take("model", _model),
        result_state=found.take("result_state", integer(1, 4)),
        is_simulated=found.take("is_simulated", flag),
        historical=found.take("historical", flag),
        verdict=found.take("verdict", _outcome),
        reason=found.maybe("reason", line(160)),
        score=found.maybe("score", _score),
        defects=found.take("defects", array(_defect)),
        defects_total=found.take("defects_total", integer()),
        mask=found.maybe("mask", _mask),
        timing_ms=found.take("timing_ms", _timing),
        evidence=found.maybe("evidence", _evidence),
        quality=found.maybe("quality", _quality),
    )


def _check_sense(verdict: Verdict) -> None:
    outcome, state = _OUTCOMES[verdict.verdict]
    if verdict.result_state != state:
        raise MessageError(f"{outcome} has result_state {state}, not {verdict.result_state}")
    if outcome in ("OK", "NG") and verdict.score is None:
        raise MessageError(f"{outcome} has no score")
    if outcome in ("INVALID", "TIMEOUT") and not verdict.reason:
        raise MessageError(f"{outcome} has no reason")
    if verdict.defects_total < len(verdict.defects):
        raise MessageError(f"defects_total is {verdict.defects_total}, but {len(verdict.defects)} are listed")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _version(value: object, path: str) -> str:
    found = line(32)(value, path)
    if re.fullmatch(r"1\.[0-9]+\.[0-9]+", found) is None:
        raise wrong(value, path, "1.x.y, the version read here")
    return found


def _outcome(value: object, path: str) -> Outcome:
    if not isinstance(value, str) or value not in _OUTCOMES:
        raise wrong(value, path, "one of " + ", ".join(_OUTCOMES))
    return _OUTCOMES[value][0]


def _station(value: object, path: str) -> Station:
    found = Fields(value, path)
    return Station(*(found.take(level, _segment) for level in ("site", "area", "line", "station")))


def _camera(value: object, path: str) -> Camera:
    found = Fields(value, path)
    return Camera(
        found.take("serial", line(64)), found.maybe("frame_id", integer()), found.maybe("exposure_us", number(0))
    )


def _part(value: object, path: str) -> Part:
    found = Fields(value, path)
    return Part(
        found.maybe("part_id", _printable), found.maybe("lot", _printable), found.maybe("trigger_id", integer())
    )


def _recipe(value: object, path: str) -> Recipe:
    found = Fields(value, path)
    return Recipe(found.take("id", line(64)), found.take("version", line(32)))


def _model(value: object, path: str) -> Model:
    found = Fields(value, path)
    return Model(
        found.take("name", line(64)),
        found.take("version", line(32)),
        found.take("precision", line(32)),
        found.take("engine_sha256", fields.sha256),
    )


def _score(value: object, path: str) -> Score:
    found = Fields(value, path)
    return Score(
        found.take("image", number()),
        found.take("threshold", number()),
        found.maybe("warn_threshold", number()),
        found.maybe("calibrated_fpr", number(0, 1)),
    )


def _defect(value: object, path: str) -> Defect:
    found = Fields(value, path)
    x, y, width, height = found.take("bbox", array(integer(), 4))
    centroid_x, centroid_y = found.take("centroid", array(number(), 2))
    return Defect(
        id=found.take("id", integer()),
        bbox=(x, y, width, height),
        area_px=found.take("area_px", integer()),
        area_frac=found.take("area_frac", number(0, 1)),
        score_max=found.take("score_max", number()),
        centroid=(centroid_x, centroid_y),
    )


def _mask(value: object, path: str) -> Mask:
    found = Fields(value, path)
    height, width = found.take("size", array(integer(), 2))
    a, b, c, d, e, f = found.take("to_image", array(number(), 6))
    encoding = found.take("encoding", line(16))
    counts = found.maybe("counts", text("[0-o]*", "COCO compressed run lengths"))
    uri = found.maybe("uri", _uri)
    if (counts is None) == (uri is None):
        raise MessageError(f"{path} has either counts or uri")
    if encoding == "coco_rle":
        return Mask("coco_rle", (height, width), (a, b, c, d, e, f), counts, uri)
    if encoding != "png" or uri is None:
        raise wrong(encoding, f"{path}.encoding", "coco_rle, or png with a uri")
    return Mask("png", (height, width), (a, b, c, d, e, f), None, uri)


def _timing(value: object, path: str) -> Timing:
    found = Fields(value, path)
    steps = ("grab", "preprocess", "infer", "postprocess", "total")
    return Timing(*(found.maybe(step, number(0)) for step in steps))


def _evidence(value: object, path: str) -> Evidence:
    found = Fields(value, path)
    return Evidence(
        found.maybe("image_uri", _uri), found.maybe("heatmap_uri", _uri), found.maybe("sha256", fields.sha256)
    )


def _quality(value: object, path: str) -> Quality:
    found = Fields(value, path)
    return Quality(
        found.take("incomplete", flag), found.maybe("brightness", number()), found.maybe("sharpness", number())
    )
