"""What code made a file."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_version() -> str:
    """The installed version and, in a git checkout of this project, the commit, marked when changed since."""
    directory = Path(__file__).parent
    installed = version("tfanet-edge")
    described = _git(directory, "describe", "--always", "--dirty=-changed", "--abbrev=12", "--exclude=*")
    tracked = _git(directory, "ls-files", "--error-unmatch", Path(__file__).name)
    return f"{installed} {described}" if described and tracked else installed


def _git(directory: Path, *arguments: str) -> str:
    """What git prints; empty where there is no git or no checkout."""
    try:
        result = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
