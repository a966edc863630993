from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consoles import on_console
from fastinfer.measuring import Receipt
from fastinfer.preset_library import Preset, preset
from fastinfer.verifying import confront

PRESET = preset("prod", kind="classify")
(RECEIPT,) = PRESET.receipts
LOW, HIGH = RECEIPT.spread["throughput"]


def here(
    environment: dict[str, Any] | None = None, model: str = "/models/InternVL3-8B-hf", **figures: float
) -> Receipt:
    """The receipt again, with these changes."""
    return replace(
        RECEIPT,
        model=model,
        figures=replace(RECEIPT.figures, **figures),
        environment=replace(RECEIPT.environment, **environment or {}),
    )


def check(found: Any, name: str = "throughput") -> Any:
    return next(check for check in found.checks if check.name == name)


@pytest.mark.parametrize(
    ("throughput", "verdict", "ok"),
    [
        (LOW, "within", True),
        (HIGH, "within", True),
        (HIGH * 1.5, "better", True),
        (LOW / 1.05, "slightly worse", True),
        (LOW / 1.2, "clearly worse", False),
    ],
)
def test_throughput_is_judged_by_the_receipts_worst_round(throughput: float, verdict: str, ok: bool) -> None:
    found = confront(PRESET, RECEIPT, here(throughput=throughput))
    assert check(found).verdict == verdict
    assert check(found).within == (verdict == "within")
    assert check(found).ratio == pytest.approx(throughput / RECEIPT.figures.throughput)
    assert found.judged
    assert found.ok == ok


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "better"), (1.05, "slightly worse"), (2.0, "clearly worse")])
def test_of_waiting_times_less_is_better(factor: float, verdict: str) -> None:
    high = RECEIPT.spread["latency_p50"][1]
    found = confront(PRESET, RECEIPT, here(latency_p50=high * factor))
    assert check(found, "latency_p50").verdict == verdict
    assert found.ok == (verdict != "clearly worse")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"environment": {"gpus": ("NVIDIA A100",)}}, "the GPU is another"),
        ({"model": "other/Model-1B"}, "the model was internvl3-8b (random weights) then and is other/Model-1B here"),
        ({"prompt_tokens": 10}, "an item had 302 tokens of prompt then and has 0 here"),
    ],
)
def test_another_machine_model_or_work_is_shown_and_not_judged(changed: dict[str, Any], why: str) -> None:
    found = confront(PRESET, RECEIPT, here(throughput=1.0, **changed))
    assert found.not_judged == why
    assert not found.judged
    assert found.ok
    assert {check.verdict for check in found.checks} == {"not judged"}
    assert why in " ".join(str(found).split())


def test_a_receipt_of_a_cpu_is_judged_on_the_same_processor_alone() -> None:
    (receipt,) = preset("embedded", kind="classify").receipts
    other = replace(receipt, environment=replace(receipt.environment, cores=64))
    assert confront(preset("embedded", kind="classify"), receipt, receipt).judged
    assert confront(preset("embedded", kind="classify"), receipt, other).not_judged == "the processor is another"
    on_gpu = replace(receipt, device="CUDA0")
    assert "CPU then and on CUDA0 here" in confront(preset("embedded", kind="classify"), receipt, on_gpu).not_judged


def test_what_differs_is_said_in_words() -> None:
    versions = {**RECEIPT.environment.versions, "torch": "2.12.0"}
    changed = here({"driver": "590.1", "commit": "0123456789abcdef+changes", "versions": versions})
    found = confront(PRESET.replace(quant_policy=0), RECEIPT, changed, load=40.0)
    assert set(found.surroundings) == {
        "driver: 580.159.04 then, 590.1 here",
        "commit: b806471f then, 01234567+changes here",
        "torch: 2.11.0 then, 2.12.0 here",
        "preset: quant_policy 4 then, 0 in this preset",
        "other programs: 40.0 wanted one of the 16 cores beforehand",
    }


def test_figures_that_one_of_the_two_lacks_are_left_out() -> None:
    balanced: Preset = preset("balanced")
    (receipt,) = balanced.receipts
    less = replace(receipt, figures=replace(receipt.figures, latency_p50=None, latency_p95=None))
    names = [check.name for check in confront(balanced, less, receipt).checks]
    assert names == ["throughput", "ttft_p50", "ttft_p95", "inter_token_p50", "inter_token_p95"]
    loaded = here()
    loaded = replace(loaded, figures=replace(loaded.figures, latency_load="8 at a time"))
    assert [check.name for check in confront(PRESET, RECEIPT, loaded).checks] == ["throughput"]


def test_text_html_rich_and_json_say_the_same() -> None:
    found = confront(PRESET, RECEIPT, here(throughput=50.0))
    for text in (str(found), on_console(found, 200), found._repr_html_()):
        for said in ("prod (classify): clearly slower", "50 images/s", "0.46", "clearly worse", "36.17 ms"):
            assert said in text
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["ok"] is False
    assert data["checks"][0]["name"] == "throughput"
    assert Receipt.from_dict(data["here"]) == found.here


def test_verifying_needs_no_file_of_the_users(bare_account: Path) -> None:
    assert str(confront(PRESET, RECEIPT, here())).startswith("prod (classify): as measured before")
