"""Measures the built-in presets and gathers their receipts in ``src/fastinfer/preset_library/receipts.json``.

    python -m benchmarks.receipts                                                  # gathers those in results/
    python -m benchmarks.receipts --check                                          # exits with 1 if it would change
    python -m benchmarks.receipts --measure chat/low-latency --model MODEL.gguf    # measures a preset here first

The receipt of a preset is in ``results/receipt_KIND_NAME.json``; of presets with the same values one has it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import fastinfer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
TARGET = ROOT / "src/fastinfer/preset_library/receipts.json"


def gathered() -> list[Any]:
    """Every receipt there is, in the presets' order."""
    files = [taken(preset.kind, preset.name) for preset in fastinfer.presets() if preset.source == "built-in"]
    return [json.loads(file.read_text("utf-8")) for file in files if file.exists()]


def taken(kind: str, name: str) -> Path:
    """Where a preset's receipt is."""
    return RESULTS / f"receipt_{kind}_{name}.json"


def measure(kind: str, name: str, model: Path | None, remark: str, seconds: float) -> None:
    """Measure a preset with its standard work and write its receipt."""
    if kind == "chat":
        # Before anything that imports numpy: a build with a C++ library of its own crashes while it loads a model
        # where another one was there first.
        import llama_cpp  # noqa: F401
    from fastinfer.verifying import measure as measure_preset
    from fastinfer.verifying import standard_workload

    preset = fastinfer.preset(name, kind=kind)  # type: ignore[arg-type]  it says what kinds there are
    command = f"python -m benchmarks.receipts --measure {kind}/{name} --seconds {seconds:g}"
    if model is not None:
        command += f" --model {shlex.quote(model.name)}"
    found = measure_preset(preset, standard_workload(preset), model=model, seconds=seconds, command=command).to_dict()
    # Without the folder that it was in here.
    found["model"] = Path(found["model"]).name + (f" ({remark})" if remark else "")
    taken(kind, name).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(f"{taken(kind, name).relative_to(ROOT)}: {found['figures']['throughput']:.4g} a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--measure", metavar="KIND/NAME")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--remark", default="", help='on the model, "random weights" for example')
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, _, name = arguments.measure.partition("/")
        measure(kind, name, arguments.model, arguments.remark, arguments.seconds)
    text = json.dumps(gathered(), indent=1, ensure_ascii=False) + "\n"
    if arguments.check:
        if TARGET.read_text("utf-8") != text:
            sys.exit("receipts.json is not what the results say: run python -m benchmarks.receipts")
        return
    TARGET.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
