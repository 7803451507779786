"""What a TensorRT plan depends on besides its network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_L4T_RELEASE = Path("/etc/nv_tegra_release")


class DeviceFacts(BaseModel):
    """A GPU and the versions of what drives it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str = Field(min_length=1, description="as the driver names it")
    compute_capability: tuple[int, int]
    driver: str = Field(description="the CUDA version that the driver brings")
    l4t: str | None = Field(description="release of Jetson Linux; None elsewhere")
    tensorrt: str


def read_device_facts(device: Any) -> DeviceFacts:
    """The facts of a `pycuda.driver.Device`."""
    import tensorrt as trt

    from edge.cuda import driver_version

    return DeviceFacts(
        gpu=device.name(),
        compute_capability=device.compute_capability(),
        driver=driver_version(),
        l4t=l4t_release(_L4T_RELEASE.read_text(encoding="utf-8")) if _L4T_RELEASE.exists() else None,
        tensorrt=trt.__version__,
    )


def l4t_release(text: str) -> str:
    """`36.4.3` from the first line of Jetson Linux' release file: `# R36 (release), REVISION: 4.3, GCID: …`.

    Where the line is of another form, the line itself.
    """
    first = text.partition("\n")[0]
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", first)
    return f"{found[1]}.{found[2]}" if found else first
