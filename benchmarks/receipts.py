"""Writes the built-in presets' receipts, ``src/fastinfer/preset_library/receipts.json``, from ``results/``.

    python -m benchmarks.receipts                                  # rewrites the file
    python -m benchmarks.receipts --check                          # exits with 1 if it would change
    python -m benchmarks.receipts --measure chat/low-latency --model MODEL.gguf   # measures a preset here first

A preset that was measured with ``--measure`` has its receipt in ``results/receipt_KIND_NAME.json``; those of the others
are made of what other benchmarks found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastinfer
from fastinfer.preset_library import Preset

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
TARGET = ROOT / "src/fastinfer/preset_library/receipts.json"

Json = dict[str, Any]
#: The version of fastinfer at the commits of the results below, which do not name it themselves.
VERSION = "0.1.0"


def result(name: str) -> Json:
    content: Json = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return content


def taken(preset: Preset) -> Path:
    """Where ``--measure`` puts a preset's receipt."""
    return RESULTS / f"receipt_{preset.kind}_{preset.name}.json"


def receipts() -> list[Json]:
    """Every receipt there is, in the presets' order; one alone for presets of the same values."""
    found: list[Json] = []
    for preset in built_in():
        maker = MAKERS.get(f"{preset.kind}/{preset.name}")
        if taken(preset).exists():
            found.append(json.loads(taken(preset).read_text("utf-8")))
        elif maker is not None:
            found.append(maker(preset))
    return found


def built_in() -> list[Preset]:
    return [preset for preset in fastinfer.presets() if preset.source == "built-in"]


def prod(preset: Preset) -> Json:
    many, alone = result("classify_gpu_throughput_8b"), result("classify_gpu_latency")
    return receipt(
        preset,
        many,
        model="internvl3-8b (random weights)",
        workload={"name": "generated JPEG files of 448 px", "items": many["settings"]["images_a_round"], "labels": 10},
        ran=many["contenders"]["ours"],
        figures=images(many["figures"]["ours"], alone["figures"]["ours"]),
        command=f"{many['command']}; {alone['command']}",
        fingerprint="0c1c67d0ca0884ac",
    )


def prod_exact(preset: Preset) -> Json:
    found = result("classify_gpu_quant")
    return receipt(
        preset,
        found,
        model="internvl3-8b (random weights)",
        workload={"name": "generated JPEG files of 448 px", "items": found["settings"]["images_a_round"], "labels": 10},
        ran=found["contenders"]["ours_16_bit"],
        figures=images(found["figures"]["ours_16_bit"], None),
        fingerprint="b672a7d0673fdc95",
    )


def embedded_classify(preset: Preset) -> Json:
    found = result("speed")
    rates = found["png_256px"]["images_per_second"]["ours_100_labels"]
    items = found["images_a_round"]
    figures = {
        "images_per_second": rates,
        "seconds": {name: items / rates[other] for name, other in REVERSED.items()},
        "images": {"median": items},
        "failed": {"median": 0},
    }
    return receipt(
        preset,
        found,
        model="embedded",
        workload={"name": "PNG files of 256 px, pictograms", "items": items, "labels": 100},
        ran={"engine": engine(found), "device": "CPU"},
        figures=images(figures, None),
        fingerprint="5b2fee0b08fc9ce0",
        lacking=("decode_in",),  # the preset had none yet
    )


def balanced(preset: Preset) -> Json:
    return chat(preset, result("chat_h200_throughput"), "seed-oss-36b-random.gguf (random weights)", 1, "CUDA0")


def embedded_chat(preset: Preset) -> Json:
    found = result("chat_cpu")
    template = found["sides"]["ours"]["changes"]["chat_template"]
    return chat(preset.replace(chat_template=template), found, "embedded-chat (gemma-3-270m-q4_k_m.gguf)", 5, "CPU")


MAKERS = {
    "classify/prod": prod,
    "classify/prod-exact": prod_exact,
    "classify/embedded": embedded_classify,
    "chat/balanced": balanced,
    "chat/embedded": embedded_chat,
}
REVERSED = {"median": "median", "min": "max", "max": "min"}


def chat(preset: Preset, found: Json, model: str, rounds: int, device: str) -> Json:
    settings, measured = found["settings"], found["throughput"]["figures"]["ours"]
    requests = settings["requests"]
    values = {
        "seconds": scaled(measured["seconds"]),
        "throughput": scaled(measured["tokens_per_second"]),
        "ttft_p50": scaled(measured["ttft_p50_ms"], 1e-3),
        "ttft_p95": scaled(measured["ttft_p95_ms"], 1e-3),
        "inter_token_p50": scaled(measured["gap_p50_ms"], 1e-3),
        "inter_token_p95": scaled(measured["gap_p95_ms"], 1e-3),
    }
    whole = {
        "kind": "chat",
        "items": requests,
        "errors": int(measured["failed"]["median"]),
        "concurrency": settings["slots"],
        "latency_load": f"{settings['slots']} at a time",
        "tokens": int(measured["completion_tokens"]["median"]),
        "prompt_tokens": round(measured["prompt_tokens"]["median"] * requests),
        "cached_tokens": int(measured["cached_tokens"]["median"]),
    }
    assert rounds == found["throughput"]["rounds"]
    return receipt(
        preset,
        found,
        model=model,
        workload={
            "name": f"prompts of {settings['prompt']} tokens, random words",
            "items": requests,
            "max_tokens": settings["reply"],
        },
        ran={"engine": engine(found), "device": device},
        figures=(whole, values),
        rounds=rounds,
        fingerprint=found["sides"]["ours"]["provenance"].split("fingerprint='")[1][:16],
    )


def images(many: Json, alone: Json | None) -> tuple[Json, Json]:
    count = int(many["images"]["median"])
    whole = {
        "kind": "classify",
        "items": count,
        "errors": int(many["failed"]["median"]),
        "concurrency": None,
        "latency_load": "one at a time",
    }
    if "prompt_tokens" in many:
        whole["prompt_tokens"] = round(many["prompt_tokens"]["median"] * count)
    values = {"seconds": scaled(many["seconds"]), "throughput": scaled(many["images_per_second"])}
    if alone is not None:
        values |= {f"latency_{name}": scaled(alone[f"{name}_ms"], 1e-3) for name in ("p50", "p95", "p99")}
    return whole, values


def scaled(figure: Mapping[str, float], factor: float = 1.0) -> Json:
    """Median, lowest and highest, in the unit of :class:`fastinfer.measuring.Figures`."""
    return {name: round(value * factor, 6) for name, value in figure.items()}


def engine(found: Json) -> str:
    versions = packages(found)
    return f"llama.cpp (llama-cpp-python {versions['llama-cpp-python']})"


def packages(found: Json) -> dict[str, str]:
    return {name.replace("_", "-"): version for name, version in found["environment"]["versions"].items()}


def receipt(
    preset: Preset,
    found: Json,
    *,
    model: str,
    workload: Json,
    ran: Mapping[str, str],
    figures: tuple[Json, Json],
    rounds: int | None = None,
    command: str | None = None,
    fingerprint: str,
    lacking: tuple[str, ...] = (),
) -> Json:
    """A receipt in the form of :class:`fastinfer.measuring.Receipt`; what a result does not hold is None or empty.

    Args:
        preset: what was measured, as far as it is the same today.
        found: the result.
        model, workload, ran, figures, rounds, command: parts of the receipt.
        fingerprint: of the preset when it was measured.
        lacking: parameters that it has today and had not then.
    """
    parameters = {name: value for name, value in preset.parameters if name not in lacking}
    if not preset.replaced and digest(preset.kind, parameters) != fingerprint:
        raise SystemExit(f"{preset.kind}/{preset.name} has other values than when it was measured: use --measure.")
    whole, values = figures
    where = found["environment"]
    cards = [card.split(", ") for card in where.get("gpus", ())]
    absent = dict.fromkeys(("latency_p50", "latency_p95", "latency_p99"))
    return {
        "preset": preset.name,
        "kind": preset.kind,
        "fingerprint": fingerprint,
        "parameters": parameters,
        "model": model,
        "engine": ran["engine"],
        "device": ran["device"],
        "workload": workload,
        "rounds": rounds or found["rounds"],
        "figures": {**absent, **whole, **{name: value["median"] for name, value in values.items()}},
        "environment": {
            "when": where["when"],
            "system": "Linux x86_64",
            "cpu": where["cpu"],
            "cores": where["cores"],
            "memory": None,
            "gpus": [card[0] for card in cards],
            "gpu_memory": [int(card[2].split()[0]) * 2**20 for card in cards],
            "driver": cards[0][1] if cards else None,
            "python": where["python"],
            "fastinfer": VERSION,
            "commit": where["commit"],
            "versions": packages(found),
        },
        "command": command or found["command"],
        "spread": {name: [value["min"], value["max"]] for name, value in values.items()},
    }


def digest(kind: str, parameters: Json) -> str:
    """What :attr:`fastinfer.Preset.fingerprint` would be for these parameters."""
    text = json.dumps({"kind": kind, "parameters": parameters}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def measure(name: str, model: str | None, seconds: float) -> None:
    if name.startswith("chat/"):
        # Before anything that imports numpy: a build with a C++ library of its own crashes while it loads a model
        # where another one was there first.
        import llama_cpp  # noqa: F401
    from fastinfer.verifying import measure as measure_preset
    from fastinfer.verifying import standard_workload

    kind, _, preset_name = name.partition("/")
    preset = fastinfer.preset(preset_name, kind=kind)  # type: ignore[arg-type]  it says what kinds there are
    command = f"python -m benchmarks.receipts --measure {name}" + (f" --model {Path(model).name}" if model else "")
    found = measure_preset(preset, standard_workload(preset), model=model, seconds=seconds, command=command).to_dict()
    from .common import environment  # after the engine, for the same reason

    # Only the model's name, and where a copy without its history ran, the commit that it is a copy of.
    found["model"] = Path(found["model"]).name
    found["environment"]["commit"] = environment()["commit"]
    taken(preset).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(f"{taken(preset).relative_to(ROOT)}: {found['figures']['throughput']:.4g} a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--measure", metavar="KIND/NAME")
    parser.add_argument("--model")
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.model, arguments.seconds)
    text = json.dumps(receipts(), indent=1, ensure_ascii=False) + "\n"
    if arguments.check:
        if TARGET.read_text("utf-8") != text:
            sys.exit("receipts.json is not what the results say: run python -m benchmarks.receipts")
        return
    TARGET.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
