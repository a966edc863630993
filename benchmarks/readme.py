"""Writes the generated sections of README.md: the presets' table, and the figures from ``results/``.

README.vi.md has the presets' table in Vietnamese and the same outputs of commands; for figures it links to README.md.

python benchmarks/readme.py          # rewrites README.md, README.vi.md and RELIABILITY.md
python benchmarks/readme.py --check  # exits with 1 if one of them would change
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import readme_daily
import readme_reliability
import readme_tuning

import fastinfer
from fastinfer.preset_library import field_docs
from fastinfer.preset_library.translation import Language

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
CLASSIFY = (
    "model", "session_len", "max_batch_size", "max_concurrent_requests", "cache_max_entry_count",
    "cache_block_seq_len", "max_prefill_token_num", "quant_policy", "n_ctx", "n_batch", "n_gpu_layers",
    "vision_max_batch_size",
)  # fmt: skip
CHAT = (
    "model", "n_ctx", "parallel", "n_batch", "n_ubatch", "type_k", "type_v", "flash_attn", "n_gpu_layers",
    "cache_reuse", "temperature", "top_p", "top_k", "min_p", "repeat_penalty",
)  # fmt: skip


def result(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return content


def shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`" if isinstance(value, str) else str(value)


def presets(lang: Language = "en") -> str:
    """One table for each kind: a row for each parameter, a column for each preset."""
    what = {"en": "what it does", "vi": "tác dụng"}[lang]
    parts = []
    for kind, fields in (("classify", CLASSIFY), ("chat", CHAT)):
        found = fastinfer.presets(kind)  # type: ignore[arg-type]
        head = " | ".join(p.name for p in found)
        lines = [f"| {kind} | {head} | {what} |", "|---" * (len(found) + 2) + "|"]
        for name in fields:
            values = [getattr(p.parameters, name, None) for p in found]
            docs = {n: d for p in found for n, d in field_docs(p.kind, p.parameters.backend, lang).items()}
            effect = docs[name].effect.split(". ")[0].rstrip(".")
            lines.append(f"| `{name}` | " + " | ".join(shown(v) for v in values) + f" | {effect} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def figures() -> str:
    """What was measured, with the command for each."""
    accuracy, exact = result("accuracy"), result("exactness")
    speed, foot = result("speed"), result("footprint")
    digits, everyday = accuracy["digits"], accuracy["everyday_unseen_style"]
    large, small = speed["png_256px"], speed["png_112px"]
    rows: list[tuple[str, str, str]] = [
        (
            "handwritten digits right, 10 labels",
            f"{digits['top1']:.3f} of {digits['pictures']}",
            "accuracy",
        ),
        (
            "everyday pictograms right in a style it never saw, 100 labels",
            f"{everyday['top1']:.2f} (top 5: {everyday['top5']:.2f}) of {everyday['pictures']}",
            "accuracy",
        ),
        (
            f"largest difference to brute force, {exact['images']} images x {exact['labels']} labels",
            f"{max(exact['largest_difference_to_brute_force'].values()):.0e}",
            "exactness",
        ),
    ]
    for size, data in (("256", large), ("112", small)):
        rates, times = data["images_per_second"], data["times_the_chat_handler"]
        rows.append(
            (
                f"images a second, {size} px PNG files, 100 labels",
                f"{rates['ours_100_labels']['median']:.0f}, "
                f"{times['ours_100_labels']['median']:.1f} times llama-cpp-python's chat handler "
                f"({times['ours_100_labels']['min']:.1f} to {times['ours_100_labels']['max']:.1f})",
                "speed",
            )
        )
    loops = [
        f"{data['images_per_second']['ours_classify_in_a_loop']['median']:.0f} at {size} px, "
        f"{data['times_the_chat_handler']['ours_classify_in_a_loop']['median']:.1f} times the chat handler"
        for size, data in (("256", large), ("112", small))
    ]
    rows += [
        ("images a second, one `classify` after another, 100 labels", "; ".join(loops), "speed"),
        (
            "time of 100 labels over that of 2",
            f"{large['cost_of_100_labels_over_2']['median']:.2f} times",
            "speed",
        ),
        ("`import fastinfer`", f"{foot['import_ms']['median']:.0f} ms", "footprint"),
        (
            f"memory growth over {foot['stream']['images']:,} images, after the first 1,000",
            f"{foot['stream']['peak_growth_mb_after_1000']:.0f} MB",
            "footprint",
        ),
    ]
    where = speed["environment"]
    lines = ["| what | figure | command |", "|---|---|---|"]
    lines += [f"| {what} | {figure} | `python benchmarks/{script}.py` |" for what, figure, script in rows]
    lines.append("")
    lines.append(
        f"{where['cpu']}, {where['cores']} cores, llama-cpp-python {where['versions']['llama-cpp-python']}, "
        f"Python {where['python']}; medians, with the lowest and highest round in brackets."
    )
    return "\n".join(lines)


SIDES = {
    "ours": "fastinfer",
    "llama_server": "llama-server",
    "llama": "`Llama`",
    "batched_bench": "llama-batched-bench",
}


Figures = dict[str, dict[str, dict[str, float]]]
Row = tuple[str, Figures, str, str]


def figures_of(name: str, scenario: str) -> Figures:
    found: Figures = result(name)[scenario]["figures"]
    return found


def chat_rows(settings: dict[str, Any], many: Figures, alone: Figures) -> list[Row]:
    """What is measured everywhere: (what, figures of each side, the figure's name, its format)."""
    size = f"{settings['prompt']}+{settings['reply']}"
    load = f"{settings['requests']} requests of {size} tokens, {settings['slots']} slots"
    return [
        (f"generated tokens a second, {load}", many, "tokens_per_second", "{:.0f}"),
        ("first token, p50, ms", many, "ttft_p50_ms", "{:.0f}"),
        ("between tokens, p50, ms", many, "gap_p50_ms", "{:.0f}"),
        ("between tokens, p95, ms", many, "gap_p95_ms", "{:.0f}"),
        ("tokens a second of one request alone", alone, "decode_per_reply", "{:.1f}"),
    ]


def h200_rows() -> list[Row]:
    """What is measured on the H200 only."""
    slots, prefix, interference = (figures_of(f"chat_h200_{s}", s) for s in ("slots", "prefix", "interference"))
    setting = "128 requests, 32 slots, f16 KV cache; llama-server as above"
    wide = {"ours": slots["ours_at_32"], "llama_server": slots["llama_server"]}
    settings = result("chat_h200_prefix")["settings"]
    system, intruder = f"{settings['system']:,}", f"{settings['intruder']:,}"
    return [
        (f"generated tokens a second, {setting}", wide, "tokens_per_second", "{:.0f}"),
        ("between tokens, p95, of these, ms", wide, "gap_p95_ms", "{:.0f}"),
        (
            f"first token of 8 with one new {system}-token system prompt, p50, ms",
            prefix,
            "shared_ttft_p50_ms",
            "{:.0f}",
        ),
        ("first token of 8 more with it, p50, ms", prefix, "again_ttft_p50_ms", "{:.0f}"),
        ("first token of 8 where each has its own, p50, ms", prefix, "distinct_ttft_p50_ms", "{:.0f}"),
        (
            f"longest pause of 7 replies while a {intruder}-token prompt joins them, ms",
            interference,
            "during_gap_max_ms",
            "{:.0f}",
        ),
        ("between tokens, p95, of these 7 replies, ms", interference, "all_gap_p95_ms", "{:.0f}"),
        ("first token of that prompt, ms", interference, "intruder_ttft_ms", "{:.0f}"),
    ]


def chat() -> str:
    """Chat beside the peers: one table for each machine."""
    parts = []
    for heading, name, more in (
        ("H200, shape of Seed-OSS-36B", "chat_h200_{}", h200_rows()),
        ("2 CPU cores, gemma-3-270m", "chat_cpu", []),
    ):
        files = {scenario: name.format(scenario) for scenario in ("throughput", "alone")}
        many, alone = (figures_of(file, scenario) for scenario, file in files.items())
        sides = [side for side in SIDES if side in many or side in alone]
        lines = [f"| {heading} | " + " | ".join(SIDES[side] for side in sides) + " |", "|---" * (len(sides) + 1) + "|"]
        for what, figures, figure, form in [*chat_rows(result(files["throughput"])["settings"], many, alone), *more]:
            cells = [
                form.format(figures[side][figure]["median"]) if figure in figures.get(side, {}) else ""
                for side in sides
            ]
            lines.append(f"| {what} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


CONTENDERS = {
    "ours": "`prod`",
    "ours_exact": "`prod-exact`",
    "engine": "`prod`'s engine alone, images prepared",
    "documented": "`lmdeploy.pipeline`, documented flags",
    "defaults": "`lmdeploy.pipeline`, defaults",
    "server": "`lmdeploy serve api_server`, 64 clients",
}
#: The figures on the GPU: what a row is called, the part of h200.sh that makes it, the figure and its format.
GPU_ROWS = (
    ("images a second, InternVL3-8B", "throughput-8b", "images_per_second", "{:.1f}"),
    ("images a second, InternVL3-1B", "throughput-1b", "images_per_second", "{:.1f}"),
    ("images a second, the embedded model", "throughput-tiny", "images_per_second", "{:.0f}"),
    ("one image at a time, InternVL3-8B, p50, ms", "latency", "p50_ms", "{:.1f}"),
    ("p95, ms", "latency", "p95_ms", "{:.1f}"),
    ("p99, ms", "latency", "p99_ms", "{:.1f}"),
)
GPU_AIMS = ("throughput-8b", "throughput-1b", "throughput-tiny", "latency", "labels", "gpus", "parity")


def gpu_file(part: str) -> str:
    return f"classify_gpu_{part.replace('-', '_')}"


def gpu_value(figures: Any, form: str) -> str:
    """A median with its spread, or a figure over all rounds."""
    if not isinstance(figures, dict):
        return form.format(figures)
    middle, low, high = (form.format(figures[name]) for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def gpu_bound() -> str:
    large = result(gpu_file("throughput-8b"))["bound"]
    return (
        f"The arithmetic bound of InternVL3-8B: {large['gflop_a_picture_in_all'] / 1e3:.2f} TFLOP an image "
        f"({large['prompt_tokens']:.0f} prompt tokens) at the {large['matrix_product_tflops']:.0f} TFLOP/s of a "
        f"bf16 matrix product in the same run, {large['images_per_second']:.0f} images a second."
    )


def gpu_power() -> str:
    found = result(gpu_file("throughput-1b"))["figures"]
    ours, engine = found["ours"], found["engine"]
    return (
        f"InternVL3-1B with `prod` draws {ours['gpu_watts']['median']:.0f} of the "
        f"{ours['gpu_watts_limit']['median']:.0f} W that the card may draw, and TurboMind alone with prepared images "
        f"{engine['gpu_watts']['median']:.0f} W (part `throughput-1b`)."
    )


def gpu_long_labels() -> str:
    found = result(gpu_file("labels"))
    return (
        f"A thousand labels of {found['tokens_of_a_long_label']:.1f} tokens each cost "
        f"{found['time_of_1000_long_over_10']['median']:.1f} times what ten labels of one token do: every beginning "
        "that is likely enough asks for a row of its own (part `labels`)."
    )


def gpu_cache() -> str:
    """What the KV cache in fewer bits costs, beside what two runs of the same settings differ by."""
    found = result(gpu_file("quant"))
    moved = {name: value["log_probability_p99"] for name, value in found["differences_from_16_bit"].items()}
    faster = {name: value["median"] - 1 for name, value in found["speed_over_16_bit"].items()}
    return (
        "Does the KV cache in int4 cost accuracy here? Yes, and it buys no speed: on InternVL3-8B's shape the 99th "
        f"percentile of what a label's log-probability moves by is {moved['ours_4_bit']:.2f} in int4, "
        f"{moved['ours_8_bit']:.2f} in int8 and {moved['ours_16_bit_again']:.2f} between two runs in 16 bits; int4 is "
        f"{faster['ours_4_bit']:+.1%} and int8 {faster['ours_8_bit']:+.1%} in images a second. `prod-exact` is the "
        "better choice wherever the memory is there (part `quant`)."
    )


def gpu_curve(part: str, model: str) -> str:
    """What one long stream of images costs beside a shorter one."""
    found = result(gpu_file(part))
    rates = {size: figures["images_per_second"]["median"] for size, figures in found["figures"].items()}
    longest, shorter = max(rates, key=int), "1024"
    return (
        f"A stream of {int(longest):,} images of {model}: {rates[longest]:.0f} images a second, {rates[shorter]:.0f} "
        f"in one of {int(shorter):,}; from one to the other the process grows by {found['growth_of_resident_mb']:.0f} "
        f"MB and its GPU memory by {found['growth_of_gpu_mb']:.0f} MB (part `{part}`)."
    )


def classify_gpu() -> str:
    """Classification on the GPU: every contender's figures, then every aim beside what was measured."""
    names = [*CONTENDERS.values(), "part"]
    lines = ["| H200 | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for what, part, figure, form in GPU_ROWS:
        found = result(gpu_file(part))
        # Percentiles are of all rounds together.
        figures = found.get("all_rounds", found["figures"])
        cells = [gpu_value(figures[side][figure], form) if side in figures else "" for side in CONTENDERS]
        lines.append(f"| {what} | " + " | ".join(cells) + f" | `{part}` |")
    lines += ["", "| what | aim | measured | part |", "|---|---|---|---|"]
    for part in GPU_AIMS:
        for aim in result(gpu_file(part))["aims"]:
            measured = "not measured" if aim["measured"] is None else f"{aim['measured']:.4g}"
            short = "" if aim.get("reached") else ", short of it"
            wanted = aim["aim"].replace(">=", "≥").replace("<=", "≤")
            lines.append(f"| {aim['what']} | {wanted} | {measured}{short} | `{part}` |")
    curves = [gpu_curve("curve-8b", "InternVL3-8B"), gpu_curve("curve-tiny", "the embedded model")]
    return "\n\n".join(["\n".join(lines), gpu_bound(), gpu_power(), gpu_long_labels(), gpu_cache(), *curves])


def filled(page: Path, sections: dict[str, str]) -> str:
    """A page with its generated sections as they are now."""
    text = page.read_text("utf-8")
    for name, section in sections.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda m, s=section: f"{m[1]}{s}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{page.name} has {count} sections named {name}; there must be one")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    english, vietnamese = ROOT / "README.md", ROOT / "README.vi.md"
    measured = {
        "CPU, llama.cpp": "memory_llama_cpu", "H200, llama.cpp": "memory_llama_h200",
        "H200, TurboMind": "memory_turbomind_h200",
    }  # fmt: skip
    sections = {
        "presets": presets(),
        "figures": figures(),
        "chat": chat(),
        "classify-gpu": classify_gpu(),
        "memory": readme_tuning.memory({name: result(file) for name, file in measured.items()}),
        "tune": readme_tuning.tune(result("tuning_h200")),
        "daily": readme_daily.daily(result),
    }
    new = {english: readme_tuning.with_outputs(filled(english, sections))}
    new[vietnamese] = readme_tuning.with_outputs_of(new[english], filled(vietnamese, {"presets": presets("vi")}))
    reliability = ROOT / "RELIABILITY.md"
    new[reliability] = filled(reliability, readme_reliability.sections(result))
    steady = readme_tuning.steady
    stale = [page for page, text in new.items() if steady(text) != steady(page.read_text("utf-8"))]
    if check:
        return int(bool(stale))
    for page, text in new.items():
        page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
