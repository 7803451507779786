"""Build and install PyCUDA, for the tests that run it on a stand-in for NVIDIA's driver, on a machine without a GPU.

It needs CUDA's headers and a C++ compiler. Where one is missing this says so, and the tests that need PyCUDA are left
out. It is linked against a library with the driver's name and functions, so that a driver is needed at no point; pip
keeps the wheel it has built.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
_DRIVER_FUNCTION = re.compile(r"\bCUresult (cu\w+)\(")


def cuda_roots() -> Iterator[Path]:
    """Where CUDA may be installed, the one asked for first."""
    if "CUDA_HOME" in os.environ:
        yield Path(os.environ["CUDA_HOME"])
    if nvcc := shutil.which("nvcc"):
        yield Path(nvcc).resolve().parents[1]
    yield Path("/usr/local/cuda")


def missing(cuda: Path | None) -> str | None:
    """What the build would need and does not have."""
    if cuda is None:
        return "CUDA's headers"
    if shutil.which("c++") is None:
        return "a C++ compiler"
    python_headers = Path(sysconfig.get_path("include"))
    return None if (python_headers / "Python.h").exists() else f"Python's headers in {python_headers}"


def make_driver(directory: Path, include: Path) -> None:
    """A `libcuda` to link against: every function of the driver that the headers declare; none does anything."""
    headers = "#include <cuda.h>\n#include <cudaProfiler.h>\n"
    declared = subprocess.run(
        ["cc", "-E", "-P", "-I", include, "-"], input=headers, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    source = directory / "driver.c"
    functions = sorted(set(_DRIVER_FUNCTION.findall(declared)))
    source.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in functions), encoding="utf-8")
    library = directory / "libcuda.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)


def install(cuda: Path, directory: Path) -> None:
    """Build and install it, `directory` being empty and for this alone."""
    make_driver(directory, cuda / "include")
    settings = {
        "CUDA_ROOT": str(cuda),
        "CUDA_ENABLE_CURAND": False,
        "CUDADRV_LIB_DIR": [str(directory)],
        # Most of the time would go into optimising code that only passes calls on.
        "CXXFLAGS": ["-O1", "-g0", "-w"],
    }
    # The only place where its build looks for settings, outside its own source, is the home directory.
    lines = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    (directory / ".aksetup-defaults.py").write_text(lines, encoding="utf-8")
    cache = subprocess.run([*PIP, "cache", "dir"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    pip = subprocess.run(
        [*PIP, "install", "--quiet", "-c", CONSTRAINTS, "pycuda"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(directory), "PIP_CACHE_DIR": cache},
    )
    if pip.returncode:
        print(f"{pip.stderr}PyCUDA is left out: its build failed")


def main() -> None:
    """Install PyCUDA where it is missing and can be built."""
    pinned = re.search(r"^pycuda==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    if any(found.version == pinned[1] for found in metadata.distributions(name="pycuda")):
        return
    cuda = next((root for root in cuda_roots() if (root / "include" / "cuda.h").exists()), None)
    if cuda is None or missing(cuda):
        print(f"PyCUDA is left out: it needs {missing(cuda)}")
        return
    with tempfile.TemporaryDirectory() as directory:
        install(cuda, Path(directory))


if __name__ == "__main__":
    main()
