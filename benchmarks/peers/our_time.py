"""How long our trained detector takes for an image, in PyTorch at batch 1, timed as the peers are.

    python benchmarks/peers/our_time.py --run RUN --data DIR --out FILE.json [--threads 2]

A time is that of the whole forward pass from a decoded image: normalising, network, smoothed map, score.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from training.data.labelled import read_labelled
from training.run import load_run

WARM_UP = 5


def main() -> int:
    """Time every test image once, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    load_average_1min = os.getloadavg()[0]
    torch.set_num_threads(arguments.threads)
    run = load_run(arguments.run)
    detector = run.detector()
    images = [torch.from_numpy(part.image)[None] for part in read_labelled(arguments.data, run.record.settings.data)]
    times_ms = []
    with torch.inference_mode():
        for image in [images[0]] * WARM_UP + images:
            started_s = time.perf_counter()
            detector(image)
            times_ms.append((time.perf_counter() - started_s) * 1e3)
    del times_ms[:WARM_UP]
    result = {
        "inference_ms_median": statistics.median(times_ms),
        "inference_ms_min": min(times_ms),
        "inference_ms_p95": float(np.percentile(times_ms, 95)),
        "load_average_1min_at_start": load_average_1min,
        "torch_threads": torch.get_num_threads(),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
