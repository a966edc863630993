"""What the library costs to import, and what a long stream costs in memory.

python benchmarks/footprint.py
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time

import psutil
from common import EVERYDAY, as_png, everyday_pictures, save, spread

import fastinfer

IMPORT = "import time; t = time.perf_counter(); import fastinfer; print(time.perf_counter() - t)"
LOADED = "import sys, fastinfer; print(*sorted(m for m in sys.modules if '.' not in m))"
HEAVY = {"llama_cpp", "torch", "lmdeploy", "PIL", "numpy", "pydantic", "huggingface_hub", "typer", "tqdm"}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    count = parser.parse_args().images
    seconds = [float(python(IMPORT)) for _ in range(15)]
    loaded = sorted(set(python(LOADED).split()) & HEAVY)

    files = [as_png(p) for p in everyday_pictures(256)]
    process = psutil.Process()
    with fastinfer.classifier(labels=EVERYDAY) as classifier:
        started, after_first, peak = time.perf_counter(), 0, 0
        stream = itertools.islice(itertools.cycle(files), count)
        for done, _ in enumerate(classifier.classify_many(stream), 1):
            if done % 100 == 0:
                resident = process.memory_info().rss
                after_first = resident if done == 1000 else after_first
                peak = max(peak, resident) if done >= 1000 else peak
        rate = count / (time.perf_counter() - started)
    figures = {
        "import_ms": spread([s * 1e3 for s in seconds]),
        "heavy_modules_loaded_by_import": loaded,
        "stream": {
            "images": count,
            "images_per_second": round(rate, 1),
            "resident_mb_after_1000": round(after_first / 2**20, 1),
            "peak_growth_mb_after_1000": round((peak - after_first) / 2**20, 1),
        },
    }
    save("footprint", "python benchmarks/footprint.py", figures)


if __name__ == "__main__":
    main()
