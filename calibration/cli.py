"""The console script `calibrate-int8`: the verb of that name, without `tfanet-edge` before it."""

from __future__ import annotations

import sys

from edge import cli


def main() -> int:
    """Run the verb and return its exit status."""
    return cli.main(["calibrate-int8", *sys.argv[1:]])
