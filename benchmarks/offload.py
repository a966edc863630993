"""The embedded model with llama.cpp on a GPU beside the same on the CPU: same answers, images a second.

python benchmarks/offload.py OUT.json     # needs a llama-cpp-python that was built for the GPU
"""

import json
import sys
import time
from pathlib import Path

# Before numpy: the build that this was run with has a C++ library of its own, and crashes loading a model otherwise.
import llama_cpp  # noqa: F401  isort: skip

import fastinfer

SAMPLES = Path(fastinfer.__file__).parent / "samples"


def main() -> None:
    images = [str(p) for p in sorted(SAMPLES.iterdir()) if p.suffix in (".png", ".jpg")]
    labels = [label for label in (SAMPLES / "labels.txt").read_text("utf-8").split("\n") if label]
    figures: dict[str, object] = {"images": len(images)}
    results = {}
    for name, layers in (("cpu", 0), ("gpu", -1)):
        with fastinfer.classifier(labels=labels, n_gpu_layers=layers) as classifier:
            results[name] = list(classifier.classify_many(images))
            started = time.perf_counter()
            done = len(list(classifier.classify_many(images * 50)))
            figures[name] = {
                "images_per_second": round(done / (time.perf_counter() - started), 1),
                "provenance": repr(classifier.provenance),
                "right": sum(
                    str(r.label).replace(" ", "-") == Path(i).stem for r, i in zip(results[name], images, strict=True)
                ),
            }
    figures["largest_difference"] = max(
        abs(a.probabilities[label] - b.probabilities[label])
        for a, b in zip(results["cpu"], results["gpu"], strict=True)
        for label in labels
    )
    text = json.dumps(figures, indent=1)
    Path(sys.argv[1]).write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
