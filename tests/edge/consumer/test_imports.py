"""The package works on a machine that has nothing of the project's but paho-mqtt."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib.abc, sys

before = set(sys.modules)

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"edge", "paho"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Nothing())
import edge.consumer
assert edge.consumer.decode_rle("04", (2, 2)).rows == (bytes([1, 1]),) * 2
loaded = set(sys.modules) - before
print(*sorted(name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names))
"""


def test_nothing_but_the_standard_library_and_paho():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert {"edge", "edge.consumer", "edge.errors", "paho"} <= set(loaded)
    others = [name for name in loaded if not name.startswith(("paho", "edge.consumer"))]
    assert others == ["edge", "edge.errors"]
