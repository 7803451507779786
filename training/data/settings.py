"""How image files become the network's input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.manifest import Preprocessing

INPUT_SIZE_PX = (256, 256)

_Offset = Annotated[int, Field(ge=0)]
_Length = Annotated[int, Field(ge=1)]


class DataSettings(BaseModel):
    """How image files are read; where they are is said apart."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    roi_xywh: tuple[_Offset, _Offset, _Length, _Length] | None = Field(
        default=None,
        description="region of interest: x, y, width, height in the image's pixels; if unset, all of it",
    )
    ignore_mask: Path | None = Field(
        default=None,
        description="image of the whole image's size, before the region of interest; where it is not 0 is never judged",
    )
    white_level: float | None = Field(
        default=None,
        gt=0,
        description="sample value that becomes 255, brighter ones too: 1023 for 10 bits, 4095 for 12 bits in a 16-bit "
        "file; if unset 255 for 8 bits, 65535 for 16 bits, 1.0 for floating point",
    )
    held_out_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of the good training images kept back to fit thresholds; unused where the data has "
        "validation images of its own",
    )
    broken: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="what to do about a good image that cannot be used; test images are always refused",
    )

    @property
    def preprocessing(self) -> Preprocessing:
        """The same for the bundle."""
        return Preprocessing(input_size_px=INPUT_SIZE_PX, roi_xywh=self.roi_xywh, white_level=self.white_level)
