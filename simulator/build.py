"""Builds the replaying camera's GenTL producer, `replay.cti`, from simulator/native with the C compiler at hand."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from edge.errors import ProducerError

NATIVE = Path(__file__).parent / "native"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wshadow", "-Wconversion", "-Wstrict-prototypes")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


def build(sanitize: bool = False) -> Path:
    """Builds the producer unless the one there was made from the same sources in the same way.

    Args:
        sanitize: with AddressSanitizer and UndefinedBehaviorSanitizer, for a host program built with them too.

    Returns:
        The absolute path of `replay.cti`.

    Raises:
        ProducerError: there is no C compiler, or it refused the sources.
    """
    command = [
        compiler(),
        *("-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"),
        *WARNINGS,
        *(SANITIZERS if sanitize else ()),
        f'-DNATIVE_DIRECTORY="{NATIVE}"',
        *map(str, sorted(NATIVE.glob("*.c"))),
        "-lm",
        "-ldl",
    ]
    directory = NATIVE / "build" / ("sanitized" if sanitize else "release")
    target, stamp = directory / "replay.cti", directory / "replay.sha256"
    fingerprint = _fingerprint(command)
    if target.exists() and stamp.exists() and stamp.read_text() == fingerprint:
        return target
    unfinished = directory / f"replay.{os.getpid()}.cti"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ProducerError(f"the C compiler refused the simulated camera:\n{done.stderr}", "use GCC 9 or newer")
        stamp.unlink(missing_ok=True)
        unfinished.replace(target)
        stamp.write_text(fingerprint)
    except OSError as error:
        raise ProducerError(f"the simulated camera cannot be built: {error}", f"make '{directory}' writable") from error
    return target


def compiler() -> str:
    """The C compiler's path: $CC, or cc from the PATH.

    Raises:
        ProducerError: there is none.
    """
    name = os.environ.get("CC", "cc")
    path = shutil.which(name)
    if path is None:
        raise ProducerError(
            f"no C compiler '{name}' for the simulated camera", "install one: apt install gcc libc6-dev"
        )
    return path


def _fingerprint(command: list[str]) -> str:
    digest = hashlib.sha256("\0".join(command).encode())
    for source in sorted(path for path in NATIVE.iterdir() if path.is_file()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """Prints the producer's path; 2 when it cannot be built."""
    try:
        print(build())
    except ProducerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
