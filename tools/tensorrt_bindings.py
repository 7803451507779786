"""Install several versions of TensorRT's Python bindings side by side, importable without TensorRT and without a GPU.

Each goes into `tensorrt/<version>` of this virtual environment: the wheel, beside it empty libraries in place of those
it is linked against, and in `stubs` the types that mypy's stubgen reads from it. What is there is left alone.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PINNED = Path(__file__).with_name("tensorrt-bindings.txt")
PLACE = Path(sys.prefix) / "tensorrt"
_NVIDIA_LIBRARY = re.compile(r"\[(libnv\w+\.so\.\d+)\]")
_NVIDIA_SYMBOL = re.compile(r" U (create\w+|get(?:Nv|Plugin|Builder)\w+|initLib\w+|_ZN\d+nv\w+)$", re.MULTILINE)


def output(*command: str | Path) -> str:
    """What a program printed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def install(requirement: str, target: Path) -> bool:
    """Whether there is a wheel for this Python; if so its content is in `target`."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip = subprocess.run(
        [*command, "--only-binary=:all:", "--target", target, requirement], capture_output=True, text=True, check=False
    )
    if pip.returncode:
        print(f"{requirement} is left out: {pip.stderr.strip().splitlines()[-1]}")
    return pip.returncode == 0


def add_empty_libraries(bindings: Path) -> None:
    """Beside the bindings, a library for each one they need; every symbol is there, and does nothing."""
    symbols = _NVIDIA_SYMBOL.findall(output("nm", "-D", "--undefined-only", bindings))
    source = bindings.with_name("empty.c")
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in symbols), encoding="utf-8")
    for name in _NVIDIA_LIBRARY.findall(output("readelf", "-d", bindings)):
        output("cc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", bindings.with_name(name), source)


def add_stubs(target: Path) -> None:
    """`stubs/tensorrt/__init__.pyi`, made to parse: NVIDIA's own signatures do not all."""
    environment = os.environ | {"PYTHONPATH": str(target)}
    stubgen = Path(sys.executable).with_name("stubgen")
    command = [stubgen, "--quiet", "--inspect-mode", "-m", "tensorrt_bindings.tensorrt"]
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([*command, "-o", made], check=True, env=environment)
        text = (Path(made) / "tensorrt_bindings" / "tensorrt.pyi").read_text(encoding="utf-8")
    # The module's own `bool` hides Python's in every signature.
    text = re.sub(r"^bool: .*\n", "", text.replace("tensorrt_bindings.tensorrt.", ""), flags=re.MULTILINE)
    lines = [*text.splitlines(), "__version__: str"]
    while (bad := line_that_does_not_parse(lines)) is not None:
        if " = ..." not in lines[bad]:
            raise SystemExit(f"stubgen wrote what is no Python: {lines[bad]}")
        lines[bad] = lines[bad].replace(" = ...", "")
    stub = target / "stubs" / "tensorrt" / "__init__.pyi"
    stub.parent.mkdir(parents=True)
    stub.write_text("\n".join(lines) + "\n", encoding="utf-8")


def line_that_does_not_parse(lines: list[str]) -> int | None:
    """Its index; None when all do."""
    try:
        ast.parse("\n".join(lines))
    except SyntaxError as error:
        return (error.lineno or 1) - 1
    return None


def main() -> None:
    """Install what is pinned and missing."""
    pinned = [line for line in PINNED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for requirement in pinned:
        target = PLACE / requirement.partition("==")[2]
        if target.exists():
            continue
        PLACE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PLACE) as directory:
            unfinished = Path(directory) / "bindings"
            if install(requirement, unfinished):
                add_empty_libraries(unfinished / "tensorrt_bindings" / "tensorrt.so")
                add_stubs(unfinished)
                shutil.move(unfinished, target)


if __name__ == "__main__":
    main()
