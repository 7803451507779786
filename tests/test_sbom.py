"""The bill of materials says what is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_bill_names_what_a_station_installs_and_who_needs_it(tmp_path: Path) -> None:
    output = tmp_path / "sbom.json"
    subprocess.run([sys.executable, ROOT / "tools" / "sbom.py", "--output", output], check=True, capture_output=True)
    bill = json.loads(output.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    components = {component["name"]: component for component in bill["components"]}
    for name in ("numpy", "onnxruntime", "paho-mqtt", "pydantic", "pydantic-core", "starlette", "uvicorn"):
        assert components[name]["version"] == version(name)
        assert components[name]["purl"] == f"pkg:pypi/{name}@{version(name)}"
    assert not {"torch", "pytest", "onnx"} & components.keys()
    assert bill["metadata"]["component"]["name"] == "tfanet-edge"
    references = [component["bom-ref"] for component in bill["components"]]
    references.append(bill["metadata"]["component"]["bom-ref"])
    assert len(set(references)) == len(references)
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert needs.keys() == set(references)
    assert {need for listed in needs.values() for need in listed} <= set(references)
    assert components["pydantic-core"]["bom-ref"] in needs[components["pydantic"]["bom-ref"]]
