"""What the audit trail keeps of a start: the bundle, thresholds that differ from the boot before, the golden test."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pydantic import ValidationError

from edge.audit import AuditTrail
from edge.bundle import Bundle
from edge.engines.engine import Engine
from edge.engines.golden import check_golden
from edge.errors import EngineError, OutboxError
from edge.events import BundleLoaded, GoldenTest, ThresholdChanged, Thresholds
from edge.manifest import Precision
from edge.messages import Model, Recipe
from edge.slots import SlotRing

_log = logging.getLogger(__name__)


def audit_bundle(audit: AuditTrail, bundle: Bundle, model: Model, min_defect_area_px: int, memory: Path) -> None:
    """Record what the station judges by, and whether it judged otherwise before.

    Args:
        audit: of this boot.
        bundle: as it was loaded.
        model: as verdicts name it.
        min_defect_area_px: what the configuration adds to the bundle's thresholds.
        memory: file that holds the thresholds of the boot before; written once the events are durable.

    Raises:
        OutboxError: the outbox or `memory` cannot be written.
    """
    manifest = bundle.manifest
    now = Thresholds(
        image=manifest.image_threshold.value,
        pixel=manifest.pixel_threshold.value,
        min_defect_area_px=min_defect_area_px,
    )
    recipe = Recipe(id=manifest.name, version=manifest.version)
    audit.record(BundleLoaded(bundle_sha256=bundle.manifest_sha256, recipe=recipe, model=model, thresholds=now))
    before = _remembered(memory)
    if before is not None and before != now:
        audit.record(ThresholdChanged(before=before, now=now))
    audit.flush()
    if before != now:
        _remember(memory, now)


def audited_golden_test(
    audit: AuditTrail, engine: Engine, bundle: Bundle, precision: Precision, ring: SlotRing
) -> None:
    """Check that the engine reproduces the golden vectors, and record how it went.

    Raises:
        EngineError: it does not (`check_golden`).
    """
    try:
        golden = check_golden(engine, bundle, precision, ring)
    except EngineError as error:
        audit.record(GoldenTest(passed=False, problem=error.problem))
        raise
    audit.record(
        GoldenTest(passed=True, vectors=golden.vectors, map_error=golden.map_error, score_error=golden.score_error)
    )
    _log.info("%d golden vectors reproduced within %.1e", golden.vectors, golden.map_error)


def _remembered(memory: Path) -> Thresholds | None:
    try:
        return Thresholds.model_validate_json(memory.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _log.warning("'%s' does not tell the thresholds of the boot before (%s)", memory, type(error).__name__)
        return None


def _remember(memory: Path, now: Thresholds) -> None:
    partial = memory.with_name(f"{memory.name}.part")
    try:
        partial.write_bytes(now.encode())
        os.replace(partial, memory)
    except OSError as error:
        raise OutboxError(
            f"'{memory}' cannot be written ({error.strerror})", "check that its directory is writable and has room"
        ) from error
