"""A software bill of materials (CycloneDX 1.5, JSON) of what is installed for one kind of machine.

python tools/sbom.py [--extra NAME …] [--output FILE]

Names, versions, licences and who needs whom are read from the installed packages; nothing is looked up elsewhere.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = "tfanet-edge"
Json = dict[str, Any]


def closure(extras: frozenset[str]) -> dict[str, tuple[Distribution, set[str]]]:
    """Every package that ROOT with `extras` needs here, by normalised name, and which packages each needs itself."""
    found: dict[str, tuple[Distribution, set[str]]] = {}
    seen_extras: dict[str, frozenset[str]] = {}
    waiting = [(ROOT, extras)]
    while waiting:
        name, wanted = waiting.pop()
        known = seen_extras.get(name)
        if known is not None and wanted <= known:
            continue
        seen_extras[name] = wanted = wanted | (known or frozenset())
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # for another kind of machine
        needs = [*_needs(package, wanted)]
        found[name] = package, {need for need, _ in needs}
        waiting += needs
    return {name: (package, needs & found.keys()) for name, (package, needs) in found.items()}


def bill(extras: frozenset[str]) -> Json:
    """The document."""
    packages = closure(extras)
    references = {name: f"pkg:pypi/{name}@{package.version}" for name, (package, _) in packages.items()}
    own, _ = packages[ROOT]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "component": {"type": "application", **_component(ROOT, own, references)},
            "properties": [
                {"name": "python", "value": platform.python_version()},
                {"name": "machine", "value": f"{platform.system()} {platform.machine()}"},
                {"name": "extras", "value": " ".join(sorted(extras))},
            ],
        },
        "components": [
            {"type": "library", **_component(name, package, references)}
            for name, (package, _) in sorted(packages.items())
            if name != ROOT
        ],
        "dependencies": [
            {"ref": references[name], "dependsOn": sorted(references[need] for need in needs)}
            for name, (_, needs) in sorted(packages.items())
        ],
    }


def _needs(package: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in package.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield _normalised(requirement.name), frozenset(requirement.extras)


def _component(name: str, package: Distribution, references: dict[str, str]) -> Json:
    metadata = package.metadata
    licence = metadata.get("License-Expression") or metadata.get("License") or ""
    if not licence or "\n" in licence:  # the whole text stands there
        classifiers = [text for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
        licence = classifiers[0].rsplit(" :: ", 1)[-1] if classifiers else ""
    component: Json = {"name": name, "version": package.version, "purl": references[name], "bom-ref": references[name]}
    return component | ({"licenses": [{"license": {"name": licence}}]} if licence else {})


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str]) -> int:
    """Write the document. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", nargs="+", default=["edge", "dashboard"], help="what the machine installs")
    parser.add_argument("--output", type=Path, default=Path("sbom.cdx.json"))
    options = parser.parse_args(arguments)
    document = bill(frozenset(options.extra))
    options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{options.output}: {len(document['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
