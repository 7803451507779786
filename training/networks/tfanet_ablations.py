"""The tables of what each part of TFA-Net's recipe is worth."""

from __future__ import annotations

from training.networks.trainable import Change

_MASKS = {"0": (0, 0), "0.25": (0.25,) * 2, "0.5": (0.5,) * 2, "0.75": (0.75,) * 2, "U(0, 0.75)": (0, 0.75)}
_UNMASKED = {"mask_range": (0, 0)}
_RELEASED = {**_UNMASKED, "normalise_template": False, "snapshots": True}
_RELEASE = "the authors' release"

ABLATIONS = (
    *(Change("masking ratio", name, {"mask_range": mask}) for name, mask in (_MASKS | {"U(0, 1)": (0, 1)}).items()),
    Change("template", "with, unmasked", _UNMASKED),
    Change("template", "without: direct reconstruction", {**_UNMASKED, "templates": 0}),
    *(Change("number of templates", str(count), {"templates": count}) for count in (1, 2, 4)),
    *(Change("feature scale", name, {"feature_scale": name}) for name in ("deviation", "none")),
    *(Change("head bias", name, {"head_bias": name}) for name in ("mean", "zero")),
    *(Change("preset", name, {"preset": name}) for name in ("tiny", "small")),
    Change(_RELEASE, "ours, unmasked", _UNMASKED),
    Change(_RELEASE, "template not normalised", _RELEASED),
    Change(_RELEASE, "and the epoch picked on test images (not a fair figure)", _RELEASED, picks_on_test=True),
)
