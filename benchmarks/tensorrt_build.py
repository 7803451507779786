"""What NVIDIA's parser and builder make of bundles, on a machine without a GPU.

    python benchmarks/tensorrt_build.py BUNDLE … [--compute-capability 8.6]
        [--out benchmarks/results/tensorrt_build.json]

Builds every variant with TensorRT for RTX, one process each. The kernels counted are convolutions and matrix products,
fused ones as one; TensorRT itself may choose others on a Jetson. Nothing is run, so nothing here is a speed on a GPU.
Prints a Markdown table; writes the JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measure import environment

from edge.bundle import Bundle, load_bundle
from edge.manifest import Precision
from export.acceptance import Acceptance, examine

RESULT = Path(__file__).parent / "results" / "tensorrt_build.json"
PACKAGES = ("tfanet-edge", "tensorrt-rtx-cu13-libs", "onnx", "torch")
HEADINGS = (
    "bundle",
    "variant",
    "accepted",
    "parse s",
    "build s",
    "plan MB",
    "Q",
    "DQ",
    "INT8",
    "FP16",
    "FP32",
    "fused attention",
)


def row(bundle: Bundle, precision: Precision, found: Acceptance) -> dict[str, Any]:
    """One variant's figures."""
    file = bundle.manifest.variants[precision].file
    return {
        "bundle": bundle.manifest.name,
        "preset": bundle.manifest.preset,
        "backbone": bundle.manifest.backbone,
        "variant": precision,
        "onnx_sha256": bundle.manifest.files[file],
        "onnx_bytes": (bundle.path / file).stat().st_size,
        "refusal": found.refusal,
        "warnings": found.warnings,
        "parse_s": round(found.parse_s, 3),
        "build_s": round(found.build_s, 2),
        "plan_bytes": found.plan_bytes,
        "quantize_layers": found.layers.get("QUANTIZE", 0),
        "dequantize_layers": found.layers.get("DEQUANTIZE", 0),
        "kernels": {name: found.computes_in[name] for name in ("int8", "fp16", "fp32")},
        "fused_attentions": found.fused_attentions,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    for figures in rows:
        cells = (
            f"{figures['bundle']} ({figures['preset']})",
            figures["variant"],
            figures["refusal"] or "yes",
            f"{figures['parse_s']:.2f}",
            f"{figures['build_s']:.1f}",
            f"{figures['plan_bytes'] / 1e6:.1f}",
            figures["quantize_layers"],
            figures["dequantize_layers"],
            *figures["kernels"].values(),
            figures["fused_attentions"],
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--compute-capability", default="8.6", metavar="M.N", help="of the GPU to build for (8.6)")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    major, minor = map(int, arguments.compute_capability.split("."))
    rows, tensorrt = [], ""
    for bundle in map(load_bundle, arguments.bundles):
        for precision, variant in bundle.manifest.variants.items():
            found = examine(bundle.path / variant.file, (major, minor))
            rows.append(row(bundle, precision, found))
            tensorrt = found.tensorrt
    print(table(rows))
    result = {
        "environment": environment(PACKAGES),
        "tensorrt_rtx": tensorrt,
        "compute_capability": [major, minor],
        "variants": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
