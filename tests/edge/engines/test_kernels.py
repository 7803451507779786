"""The kernels, run on the host one thread at a time: the same pictures and sums as the host's own, for every format."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engines import kernels
from edge.errors import AcceleratorError, EngineError, ImageError
from edge.manifest import Preprocessing
from edge.pixel_format import Colour, PixelFormat, Storage
from edge.preprocess import preprocess
from edge.quality import sum_up
from edge.verdict import tiles

FAKES = Path(__file__).parents[2] / "fakes" / "cuda"
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 17}
# Bytes around what a kernel may touch.
GUARD = 64


class HostKernels:
    """The kernels as functions of arrays."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def preprocess(self, image, pixel_format, out_hw, roi_xywh=None, row_stride_bytes=None, shift=0):
        """The image is laid out anew, its rows so far apart, the first so many bytes past an aligned address."""
        width_px, height_px = pixel_format.width_px(image.shape), image.shape[0]
        row_bytes = pixel_format.row_bytes(width_px)
        stride = row_bytes if row_stride_bytes is None else row_stride_bytes
        memory = np.full(stride * height_px + 8, 0xA5, np.uint8)
        first = -memory.ctypes.data % 4 + shift
        for y, row in enumerate(image.reshape(height_px, row_bytes)):
            memory[first + y * stride :][:row_bytes] = row
        out = np.full(3 * out_hw[0] * out_hw[1] + 2 * GUARD, 0x5A, np.uint8)
        arguments = kernels.preprocess_args(
            raw=memory.ctypes.data + first,
            row_stride_bytes=stride,
            size_wh=(width_px, height_px),
            pixel_format=pixel_format,
            roi_xywh=roi_xywh,
            out=out.ctypes.data + GUARD,
            out_hw=out_hw,
        )
        grid = kernels.preprocess_grid(width_px if roi_xywh is None else roi_xywh[2], out_hw)
        self._launch("preprocess", arguments, grid, kernels.PREPROCESS_BLOCK)
        assert (out[:GUARD] == 0x5A).all()
        assert (out[-GUARD:] == 0x5A).all()
        return out[GUARD:-GUARD].reshape(*out_hw, 3)

    def summarise(self, anomaly_map, image, pixel_threshold):
        mask = np.full(anomaly_map.shape, 0xCD, np.uint8)
        maxima = np.zeros(tiles(anomaly_map.shape), np.float32)
        quality = np.zeros(3, np.int64)
        arguments = kernels.summary_args(
            anomaly_map=anomaly_map.ctypes.data,
            image=image.ctypes.data,
            mask=mask.ctypes.data,
            tile_maxima=maxima.ctypes.data,
            quality=quality.ctypes.data,
            pixel_threshold=pixel_threshold,
            size_hw=anomaly_map.shape,
        )
        self._launch("summarise", arguments, kernels.summary_grid(anomaly_map.shape), kernels.SUMMARY_BLOCK)
        return mask, maxima, quality

    def _launch(self, name, arguments, grid, block):
        getattr(self.library, f"host_{name}")(arguments, (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block))


@pytest.fixture(scope="module")
def host(host_kernels_path):
    return HostKernels(ctypes.CDLL(str(host_kernels_path)))


@pytest.fixture(params=ORDERS)
def in_every_order(request, host):
    host.library.host_thread_order(ORDERS[request.param])
    yield host
    host.library.host_thread_order(0)


def on_the_host(image, pixel_format, out_hw, roi_xywh=None):
    out = np.empty((*out_hw, 3), np.uint8)
    preprocess(image, pixel_format, Preprocessing(input_size_px=out_hw, roi_xywh=roi_xywh), out)
    return out


def largest_difference(one, other):
    return int(np.abs(one.astype(int) - other).max())


def noise(pixel_format, width_px, height_px, seed=0):
    shape = pixel_format.shape(width_px, height_px)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def step_px(pixel_format):
    """Of whose multiples its widths are."""
    if pixel_format.storage is Storage.P_10:
        return 4
    even = (Storage.P_12, Storage.GVSP_10, Storage.GVSP_12)
    return 2 if pixel_format.storage in even or pixel_format.colour is Colour.YCBYCR else 1


@st.composite
def cases(draw):
    """A format, a raw image, a region in it, an output size, and how the image lies in memory."""
    pixel_format = draw(st.sampled_from(PixelFormat))
    step = step_px(pixel_format)
    width = draw(st.integers(-(-3 // step), draw(st.sampled_from((12, 60, 700))) // step)) * step
    height = draw(st.integers(3, 40))
    image = noise(pixel_format, width, height, draw(st.integers(0, 99)))
    if draw(st.booleans()):
        image = np.where(image < 128, 0, 255).astype(np.uint8)
    roi = None
    if draw(st.booleans()):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        roi = (x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    region_wh = (width, height) if roi is None else roi[2:]
    out_hw = draw(st.tuples(st.integers(1, 40), st.integers(1, 150)) | st.just((region_wh[1], region_wh[0])))
    stride = pixel_format.row_bytes(width) + draw(st.integers(0, 5))
    return pixel_format, image, out_hw, roi, stride, draw(st.integers(0, 3))


@settings(max_examples=400)
@given(case=cases())
def test_preprocess_is_within_a_grey_level_of_the_host(host, case):
    pixel_format, image, out_hw, roi, stride, shift = case
    expected = on_the_host(image, pixel_format, out_hw, roi)
    assert largest_difference(host.preprocess(image, pixel_format, out_hw, roi, stride, shift), expected) <= 1


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_an_image_that_keeps_its_size_is_the_hosts_exactly(host, pixel_format):
    image = noise(pixel_format, 640, 33)
    assert (
        largest_difference(host.preprocess(image, pixel_format, (33, 640)), on_the_host(image, pixel_format, (33, 640)))
        == 0
    )
    roi = (7, 1, 121, 32)
    cropped = host.preprocess(image, pixel_format, (32, 121), roi)
    assert largest_difference(cropped, on_the_host(image, pixel_format, (32, 121), roi)) == 0


@pytest.mark.parametrize("pixel_format", PixelFormat)
@pytest.mark.parametrize("out_hw", [(11, 37), (90, 200)])
@pytest.mark.parametrize("level", [0, 255])
def test_a_flat_image_stays_flat(host, pixel_format, out_hw, level):
    image = np.full(pixel_format.shape(160, 60), level, np.uint8)
    out = host.preprocess(image, pixel_format, out_hw)
    assert largest_difference(out, on_the_host(image, pixel_format, out_hw)) == 0
    assert out.min(axis=(0, 1)).tolist() == out.max(axis=(0, 1)).tolist()


def test_every_colour_of_ycbcr_is_the_hosts_exactly(host):
    # All pairs of Cb and Cr, each with a dark, a middling and a bright Y.
    cb, cr = np.meshgrid(np.arange(256), np.arange(256))
    for y in (0, 77, 128, 255):
        image = (
            np.stack((np.full_like(cb, y), cb, np.full_like(cb, 255 - y), cr), -1).astype(np.uint8).reshape(256, 1024)
        )
        out = host.preprocess(image, PixelFormat.YCBCR422_8, (256, 512))
        assert largest_difference(out, on_the_host(image, PixelFormat.YCBCR422_8, (256, 512))) == 0


@pytest.mark.parametrize(
    ("pixel_format", "size_wh", "roi_xywh", "out_hw"),
    [
        (PixelFormat.BAYER_RG8, (2448, 512), None, (64, 256)),  # several segments of a row
        (
            PixelFormat.BAYER_GB12P,
            (3000, 300),
            None,
            (2, 2),
        ),  # more columns and rows to a pixel than a block takes at once
        (PixelFormat.MONO10P, (2000, 300), (1, 3, 1998, 290), (3, 1)),
        (PixelFormat.YCBCR422_8, (1800, 150), None, (1, 3)),
        (PixelFormat.BAYER_BG8, (1501, 9), None, (64, 300)),  # fewer columns, more rows: not by areas
        (PixelFormat.BAYER_GR8, (3, 3), None, (20, 20)),
        (PixelFormat.RGBA8, (1, 1), None, (5, 300)),
    ],
)
def test_no_size_is_special(in_every_order, pixel_format, size_wh, roi_xywh, out_hw):
    image = noise(pixel_format, *size_wh)
    out = in_every_order.preprocess(image, pixel_format, out_hw, roi_xywh)
    assert largest_difference(out, on_the_host(image, pixel_format, out_hw, roi_xywh)) <= 1


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.BAYER_RG12_PACKED, PixelFormat.MONO10P])
def test_what_lies_between_rows_is_not_seen(host, pixel_format):
    image = np.zeros(pixel_format.shape(44, 12), np.uint8)
    for stride in range(image.shape[1], image.shape[1] + 6):
        assert not host.preprocess(image, pixel_format, (6, 40), row_stride_bytes=stride, shift=stride % 4).any()


@pytest.mark.parametrize(
    ("pixel_format", "size_wh", "roi_xywh", "stride", "problem"),
    [
        (PixelFormat.BAYER_RG8, (2, 8), None, 2, "2x8 pixels is too small for BayerRG8"),
        (PixelFormat.MONO8, (8, 0), None, 8, "8x0 pixels is too small for Mono8"),
        (PixelFormat.MONO12P, (7, 8), None, 12, "width of 7 pixels"),
        (PixelFormat.MONO16, (8, 8), None, 15, "rows 15 bytes apart"),
        (PixelFormat.MONO8, (8, 8), (4, 0, 5, 8), 8, r"\(4, 0, 5, 8\) does not lie inside the 8x8 image"),
        (PixelFormat.MONO8, (8, 8), (0, 0, 0, 8), 8, "does not lie inside"),
        (PixelFormat.MONO8, (2**15, 1), None, 2**15, "cannot resize 32768x1"),
        (PixelFormat.MONO16, (30000, 30000), None, 80000, "2400000000 bytes"),
    ],
)
def test_what_cannot_be_done_is_refused(pixel_format, size_wh, roi_xywh, stride, problem):
    with pytest.raises(ImageError, match=problem):
        kernels.preprocess_args(
            raw=0,
            row_stride_bytes=stride,
            size_wh=size_wh,
            pixel_format=pixel_format,
            roi_xywh=roi_xywh,
            out=0,
            out_hw=(16, 16),
        )


def test_arguments_lie_as_the_compiler_lays_them_out(host):
    address = 0x1122334455667788
    one = kernels.preprocess_args(
        raw=address,
        row_stride_bytes=200,
        size_wh=(100, 90),
        pixel_format=PixelFormat.BAYER_GB12,
        roi_xywh=(3, 4, 50, 60),
        out=address + 1,
        out_hw=(70, 80),
    )
    other = kernels.summary_args(
        anomaly_map=1, image=2, mask=3, tile_maxima=4, quality=5, pixel_threshold=0.5, size_hw=(7, 8)
    )
    types = {"Q": ctypes.c_uint64, "i": ctypes.c_int, "f": ctypes.c_float}
    for name, arguments, kinds, values in (
        ("preprocess", one, "QQ" + 11 * "i", [address, address + 1, 200, 100, 90, 3, 4, 50, 60, 80, 70, 2, 3]),
        ("summarise", other, "QQQQQfii", [1, 2, 3, 4, 5, 0.5, 8, 7]),
    ):
        assert len(arguments) == getattr(host.library, f"host_{name}_args_bytes")()
        offsets = (ctypes.c_uint * len(values)).in_dll(host.library, f"host_{name}_offsets")
        fields = zip(kinds, offsets, strict=True)
        assert [types[kind].from_buffer_copy(arguments, at).value for kind, at in fields] == values


def summary_of(anomaly_map, image, pixel_threshold):
    """Mask, maxima and sums by NumPy and OpenCV."""
    rows, columns = tiles(anomaly_map.shape)
    padded = np.full((16 * rows, 16 * columns), -np.inf, np.float32)
    padded[: anomaly_map.shape[0], : anomaly_map.shape[1]] = anomaly_map
    quality = np.zeros(3, np.int64)
    sum_up(image, quality)
    maxima = padded.reshape(rows, 16, columns, 16).max(axis=(1, 3))
    return (anomaly_map >= np.float32(pixel_threshold)).astype(np.uint8), maxima, quality


@settings(max_examples=150)
@given(
    size_hw=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 99),
    odd_ones=st.lists(st.sampled_from((np.nan, np.inf, -np.inf, 0.25)), max_size=8),
    extreme=st.booleans(),
)
def test_a_summary_is_that_of_numpy_and_opencv(host, size_hw, seed, odd_ones, extreme):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    if extreme:
        image = np.where(image < 128, 0, 255).astype(np.uint8)
    anomaly_map = random.normal(-1, 1, size_hw).astype(np.float32)
    anomaly_map.flat[random.integers(0, anomaly_map.size, len(odd_ones))] = odd_ones
    found, expected = host.summarise(anomaly_map, image, 0.25), summary_of(anomaly_map, image, 0.25)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_nan_anywhere_in_a_tile_is_kept(in_every_order):
    image = np.zeros((16, 16, 3), np.uint8)
    for at in (0, 1, 15, 16, 128, 255):
        anomaly_map = np.arange(256, dtype=np.float32).reshape(16, 16)
        anomaly_map.flat[at] = np.nan
        mask, maxima, _ = in_every_order.summarise(anomaly_map, image, 0.0)
        assert np.isnan(maxima).all()
        assert mask.flat[at] == 0


def test_a_summary_adds_to_the_sums_of_a_whole_picture(in_every_order):
    image = cv2.GaussianBlur(noise(PixelFormat.RGB8, 256, 256), (3, 3), 1)
    anomaly_map = image.mean(axis=2, dtype=np.float64).astype(np.float32)
    found, expected = in_every_order.summarise(anomaly_map, image, 128.0), summary_of(anomaly_map, image, 128.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


ROTATE = """
extern "C" __global__ void {name}(Args args) {{
    __shared__ unsigned values[64];
    values[threadIdx.x] = threadIdx.x;
    {barrier}
    args.out[threadIdx.x] = values[(threadIdx.x + 1) % 64];
}}
HOST_KERNEL({name}, Args)
"""


def test_a_missing_barrier_shows(tmp_path):
    """Of the shim itself: without the barrier a thread may read what its neighbour has not written yet."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    whole, lacking = ROTATE.format(name="whole", barrier="__syncthreads();"), ROTATE.format(name="lacking", barrier="")
    source = '#include "host_shim.h"\nstruct Args { unsigned *out; };\n' + whole + lacking
    made = tmp_path / "rotate.so"
    command = [compiler, "-x", "c++", "-std=c++17", "-shared", "-fPIC", "-I", FAKES, "-o", made, "-"]
    subprocess.run(command, input=source, text=True, check=True)
    library = ctypes.CDLL(str(made))
    for name in ("whole", "lacking"):
        for order in ORDERS.values():
            out = np.zeros(64, np.uint32)
            library.host_thread_order(order)
            arguments = ctypes.c_void_p(out.ctypes.data)
            launch = getattr(library, f"host_{name}")
            launch(ctypes.byref(arguments), (ctypes.c_uint * 3)(1, 1, 1), (ctypes.c_uint * 3)(64, 1, 1))
            assert np.array_equal(out, (np.arange(64) + 1) % 64) == (name == "whole")


def stub_nvcc(directory, known="sm_87 sm_90", failure=""):
    """A compiler that writes its arguments; each call leaves a line in `calls`."""
    path = directory / "nvcc"
    directory.mkdir(parents=True, exist_ok=True)
    fails = f"printf '{failure}' >&2; exit 2" if failure else ""
    path.write_text(
        f"""#!/bin/sh
        case "$1" in
            --version) cat '{directory}/version' ;;
            --list-gpu-code) printf '%s\\n' {known} ;;
            *) {fails}
               echo "$1 $2" >> '{directory}/calls'
               for last; do [ "$previous" = -o ] && out=$last; previous=$last; done
               printf '%s' "$1 $2" > "$out" ;;
        esac
        """
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (directory / "version").write_text("release 13.0")
    return directory


@pytest.fixture
def no_nvcc(monkeypatch):
    """Neither in PATH nor where toolkits lie."""
    found = shutil.which

    def which(name, mode=os.F_OK | os.X_OK, path=None):
        return None if name == "nvcc" and path in (None, Path("/usr/local/cuda/bin")) else found(name, mode, path)

    monkeypatch.setattr(kernels.shutil, "which", which)
    monkeypatch.delenv("CUDA_HOME", raising=False)


@pytest.fixture
def toolkit(tmp_path, monkeypatch, no_nvcc):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
    return tmp_path / "toolkit" / "bin"


def test_kernels_are_compiled_once_per_gpu_and_compiler(tmp_path, toolkit):
    stub_nvcc(toolkit)
    cache = tmp_path / "cache"
    for _ in range(2):
        assert kernels.compile_kernels((8, 7), cache) == b"-cubin -arch=sm_87"
    assert kernels.compile_kernels((9, 0), cache) == b"-cubin -arch=sm_90"
    (toolkit / "version").write_text("release 13.1")
    kernels.compile_kernels((8, 7), cache)
    assert (toolkit / "calls").read_text().splitlines() == [
        "-cubin -arch=sm_87",
        "-cubin -arch=sm_90",
        "-cubin -arch=sm_87",
    ]
    assert len(list(cache.iterdir())) == 3


def test_a_gpu_newer_than_the_compiler_gets_ptx(tmp_path, toolkit):
    stub_nvcc(toolkit, known="sm_90 sm_87 sm_121")
    assert kernels.compile_kernels((12, 0), tmp_path) == b"-ptx -arch=compute_90\0"


def test_a_gpu_that_the_compiler_has_given_up_is_named(tmp_path, toolkit):
    stub_nvcc(toolkit)
    with pytest.raises(AcceleratorError, match=r"nvcc no longer compiles for this GPU, sm_72"):
        kernels.compile_kernels((7, 2), tmp_path)


def test_a_missing_compiler_is_named(tmp_path, no_nvcc):
    with pytest.raises(AcceleratorError, match=r"nvcc is missing: install the CUDA toolkit"):
        kernels.compile_kernels((8, 7), tmp_path)


def test_the_compilers_first_error_is_told_and_nothing_is_kept(tmp_path, toolkit):
    stub_nvcc(toolkit, failure="warning: old\\nkernels.cu(3): error: no such thing\\n1 error detected\\n")
    with pytest.raises(EngineError, match=r"kernels\.cu\(3\): error: no such thing$"):
        kernels.compile_kernels((8, 7), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("target", ["-cubin -arch=sm_87", "-cubin -arch=sm_90", "-ptx -arch=compute_90"])
def test_nvcc_compiles_the_kernels_without_a_warning(tmp_path, target):
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        pytest.skip("needs nvcc")
    out = tmp_path / "kernels"
    command = [nvcc, *target.split(), "-std=c++17", "--Werror", "all-warnings", "-Xptxas", "-warn-spills", "-o", out]
    done = subprocess.run([*command, kernels.SOURCE], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert b"preprocess" in out.read_bytes()
