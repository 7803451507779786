"""The table of detectors: a name, and all there is to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from training.networks import efficientad, mfrnet, reverse_distillation, stfpm, tfanet_detector
from training.networks.trainable import Kind

DETECTORS: Final[Mapping[str, Kind[Any]]] = MappingProxyType(
    {
        "tfanet": tfanet_detector.KIND,
        "mfrnet": mfrnet.KIND,
        "stfpm": stfpm.KIND,
        "reverse_distillation": reverse_distillation.KIND,
        "efficientad": efficientad.KIND,
    }
)
