"""All that is EfficientAD's own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training.networks.fcl import FclSettings

PdnSize = Literal["small", "medium"]


class EfficientAdSettings(FclSettings):
    """Defaults are the paper's, but for the teacher (`training.networks.efficientad_teacher`)."""

    preset: PdnSize = "small"
    hard_share: float = Field(default=0.999, ge=0, lt=1, description="of the differences that the loss leaves out")
    penalty_weight: float = Field(default=1.0, ge=0, description="of the student's squares on procedural images")
    penalty_images: int = Field(default=200, ge=1, description="procedural images that these are drawn from")
    augmentation: float = Field(default=0.2, ge=0, lt=1, description="largest change of brightness and the like")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in the autoencoder's decoder")
    teacher_procedural_share: float = Field(
        default=0.5, ge=0, le=1, description="of the images that the teacher learns from, the rest being good parts"
    )
    teacher_procedural_images: int = Field(default=1000, ge=1, description="procedural images these are drawn from")
    teacher_target_px: int = Field(default=512, ge=64, description="edge of the images that the backbone describes")
    teacher_lr: float = Field(default=1e-4, gt=0)
    teacher_weight_decay: float = Field(default=1e-5, ge=0)
    teacher_steps: int = Field(default=10_000, ge=1, description="the paper's is 60 000")
    teacher_batch: int = Field(default=16, ge=1)
