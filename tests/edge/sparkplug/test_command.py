"""The verb as a shell runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# paho-mqtt takes `socks` where it happens to be installed.
NEEDED = {"annotated_types", "google", "paho", "pydantic", "pydantic_core", "socks", "tomli", "typing_extensions"}
NEEDED |= {"typing_inspection"}


def test_runs_until_it_is_told_to_end(plant: Any, tmp_path: Path) -> None:
    host = plant.host()
    config = tmp_path / "sparkplug.toml"
    config.write_text(
        f"[stations]\nport = {plant.shop_floor.port}\n"
        f'[sparkplug]\nport = {plant.infrastructure.port}\ngroup_id = "plant"\nedge_node_id = "line 1"\n'
    )
    process = subprocess.Popen([sys.executable, "-m", "edge.cli", "sparkplug", "--config", str(config)])
    try:
        plant.eventually(lambda: host.of("NBIRTH"), "NBIRTH")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    plant.eventually(lambda: host.of("NDEATH"), "NDEATH")
    assert (tmp_path / "sparkplug.bdseq").read_text() == "0\n"


def test_needs_no_more_than_its_extra() -> None:
    code = "import sys, edge.sparkplug.command, edge.sparkplug.decode; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names - {"edge"}
    installed = {name for name in foreign if not name.startswith(("_", "sitecustomize"))}
    assert installed <= NEEDED
