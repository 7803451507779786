"""The kernels of `edge/kernels.cu`: compiled where they run, and what each launch of one is given.

Addresses are the GPU's. Arguments are the C structures of that file; grids and blocks are (x, y, z).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from edge.engines.plan_cache import write_atomically
from edge.errors import AcceleratorError, EngineError, ImageError
from edge.pixel_format import PixelFormat
from edge.preprocess import check_size, region
from edge.verdict import TILE_PX, tiles

Dimensions = tuple[int, int, int]

SOURCE = Path(__file__).parents[1] / "kernels.cu"
PREPROCESS_BLOCK: Dimensions = (128, 1, 1)
SUMMARY_BLOCK: Dimensions = (TILE_PX, TILE_PX, 1)

# Columns of the raw image that a block takes at once.
_BLOCK_COLUMNS = 504
# The kernel reckons in 32-bit integers: with twice the product of a side before and after, and with bytes of an image.
_LONGEST_SIDE_PX = 2**15 - 1
_MOST_BYTES = 2**30
_PREPROCESS = struct.Struct("@PP11i0P")
_SUMMARY = struct.Struct("@PPPPPf2i0P")


def preprocess_args(
    *,
    raw: int,
    row_stride_bytes: int,
    size_wh: tuple[int, int],
    pixel_format: PixelFormat,
    roi_xywh: tuple[int, int, int, int] | None,
    out: int,
    out_hw: tuple[int, int],
) -> bytes:
    """Arguments of `preprocess`: within one grey level it writes what `edge.preprocess.preprocess` does.

    Args:
        raw: address of the first row, at any alignment.
        row_stride_bytes: from one row to the next, any number from a row's bytes on; the last row may end with its
            samples. With a multiple of 4 the kernel is quickest.
        size_wh: width and height of the raw image in pixels.
        pixel_format: of the raw image.
        roi_xywh: the part that is resized, in pixels; None for all.
        out: address of uint8 (h, w, 3), RGB.
        out_hw: height and width of the result in pixels.

    Raises:
        ImageError: see `check_frame`; or rows lie closer than they are long, or too far apart.
    """
    check_frame(size_wh, pixel_format, roi_xywh, out_hw)
    if row_stride_bytes < pixel_format.row_bytes(size_wh[0]):
        raise ImageError(
            f"rows {row_stride_bytes} bytes apart cannot hold {size_wh[0]} pixels in {pixel_format.value}",
            "give the distance from the beginning of one row to the beginning of the next",
        )
    if row_stride_bytes * size_wh[1] > _MOST_BYTES:
        raise ImageError(
            f"an image of {row_stride_bytes * size_wh[1]} bytes is too large for the GPU's kernel",
            f"keep it to {_MOST_BYTES} bytes",
        )
    roi = region(size_wh, roi_xywh)
    out_wh = (out_hw[1], out_hw[0])
    return _PREPROCESS.pack(
        raw, out, row_stride_bytes, *size_wh, *roi, *out_wh, pixel_format.storage, pixel_format.colour
    )


def check_frame(
    size_wh: tuple[int, int],
    pixel_format: PixelFormat,
    roi_xywh: tuple[int, int, int, int] | None,
    out_hw: tuple[int, int],
) -> None:
    """Whether `preprocess` can do it, as `edge.preprocess.preprocess` would be asked.

    Raises:
        ImageError: the image is impossible in its pixel format, the region of interest does not lie inside it, or
            sizes are beyond what the kernel can reckon with.
    """
    check_size(size_wh, pixel_format)
    region(size_wh, roi_xywh)
    if min(out_hw) < 1 or max(*size_wh, *out_hw) > _LONGEST_SIDE_PX:
        raise ImageError(
            f"the GPU cannot resize {size_wh[0]}x{size_wh[1]} to {out_hw[1]}x{out_hw[0]} pixels",
            f"keep every side between 1 and {_LONGEST_SIDE_PX} pixels",
        )


def preprocess_grid(roi_width_px: int, out_hw: tuple[int, int]) -> Dimensions:
    """Blocks of `preprocess`: segments of a row of the output that fit what a block takes at once, times rows."""
    height, width = out_hw
    columns_of_each = max(roi_width_px / width, 1.0)
    longest = max(1, min(PREPROCESS_BLOCK[0], int((_BLOCK_COLUMNS - 2) / columns_of_each)))
    return -(-width // longest), height, 1


def summary_args(
    *,
    anomaly_map: int,
    image: int,
    mask: int,
    tile_maxima: int,
    quality: int,
    pixel_threshold: float,
    size_hw: tuple[int, int],
) -> bytes:
    """Arguments of `summarise`; quality must be zero when it begins.

    Args:
        anomaly_map: address of float32 (H, W).
        image: address of uint8 (H, W, 3), RGB.
        mask: address of uint8 (H, W), written: 1 where the map reaches the threshold, else 0.
        tile_maxima: address of float32 `tiles(size_hw)`, written: the largest of each tile; NaN where a tile has one.
        quality: address of 3 64-bit integers, added to: what `edge.quality.sum_up` says of the image.
        pixel_threshold: compared as float32.
        size_hw: of map and image, in pixels.
    """
    height, width = size_hw
    return _SUMMARY.pack(anomaly_map, image, mask, tile_maxima, quality, pixel_threshold, width, height)


def summary_grid(size_hw: tuple[int, int]) -> Dimensions:
    """Blocks of `summarise`: one per tile."""
    rows, columns = tiles(size_hw)
    return columns, rows, 1


def compile_kernels(arch: tuple[int, int], cache: Path) -> bytes:
    """The kernels as a cubin for a GPU, or as PTX, which the driver translates, when nvcc does not know one so new.

    Compiling takes seconds; the result is kept for the next time, by source, GPU and version of nvcc.

    Args:
        arch: the GPU's compute capability.
        cache: directory to keep it in; made when missing.

    Raises:
        AcceleratorError: nvcc is missing, or no longer knows the GPU.
        ConfigError: the cache cannot be written.
        EngineError: nvcc failed.
    """
    nvcc = _find_nvcc()
    source = SOURCE.read_bytes()
    wanted = 10 * arch[0] + arch[1]
    key = b"\0".join((source, str(wanted).encode(), _run(nvcc, "--version").encode()))
    kept = cache / f"kernels-sm_{wanted}-{hashlib.sha256(key).hexdigest()[:32]}"
    if kept.exists():
        return kept.read_bytes()
    target, option = _target(nvcc, wanted)
    with tempfile.TemporaryDirectory() as directory:
        compiled = Path(directory) / "kernels"
        _run(nvcc, target, option, "-std=c++17", "-Wno-deprecated-gpu-targets", "-o", str(compiled), str(SOURCE))
        content = compiled.read_bytes()
    if target == "-ptx":
        content += b"\0"  # the driver reads PTX as a C string
    write_atomically(kept, content)
    return content


def _target(nvcc: str, wanted: int) -> tuple[str, str]:
    known = [int(number) for number in re.findall(r"sm_(\d+)$", _run(nvcc, "--list-gpu-code"), re.MULTILINE)]
    if wanted in known:
        return "-cubin", f"-arch=sm_{wanted}"
    older = [number for number in known if number < wanted]
    if not older:
        raise AcceleratorError(
            f"{nvcc} no longer compiles for this GPU, sm_{wanted}", "install the CUDA toolkit that its driver came with"
        )
    return "-ptx", f"-arch=compute_{max(older)}"


def _find_nvcc() -> str:
    roots = [Path(root) for root in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if root]
    found = shutil.which("nvcc") or next(
        filter(None, (shutil.which("nvcc", path=root / "bin") for root in roots)), None
    )
    if found is None:
        raise AcceleratorError(
            "nvcc is missing", "install the CUDA toolkit (on a Jetson: cuda-toolkit), or set CUDA_HOME to where it is"
        )
    return found


def _run(nvcc: str, *arguments: str) -> str:
    done = subprocess.run([nvcc, *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise EngineError(f"{nvcc} failed: {next((line for line in lines if 'error' in line), lines[0])}")
    return done.stdout
