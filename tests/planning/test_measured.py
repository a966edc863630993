"""Plans beside what engines took of one H200, driver 580.159.04, after they had worked."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

import fastinfer
from fastinfer.models import outline_gguf
from fastinfer.planning import Need
from fastinfer.planning.device import device_for
from fastinfer.planning.llama_chat import LlamaChatPlanner

MIB = 2**20
SEED_OSS = "unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_M"
INTERNVL = "OpenGVLab/InternVL3-{}-hf"


class Taken(NamedTuple):
    """MiB of the GPU: the buffers that llama.cpp reports, and all that is in use."""

    preset: str
    changes: dict[str, Any]
    weights: float
    cache: float
    compute: float
    total: float


#: llama.cpp 0c1e57098, weights of Seed-OSS-36B's shape in Q5_K_M.
LLAMA = {
    "balanced": Taken("balanced", {}, 23881.91, 4896.00, 825.73, 30270.8),
    "low-latency": Taken("low-latency", {}, 23881.91, 2720.00, 412.50, 27660.8),
    "long-context": Taken("long-context", {}, 23881.91, 5236.00, 417.12, 30180.8),
    "half the micro-batch": Taken("balanced", {"n_ubatch": 1024}, 23881.91, 4896.00, 412.90, 29836.8),
    "half the context": Taken("balanced", {"n_ctx": 16384}, 23881.91, 2448.00, 817.71, 27808.8),
    "f16 cache": Taken("balanced", {"type_k": "f16", "type_v": "f16"}, 23881.91, 9216.00, 825.65, 34590.8),
    "one cache for all": Taken("balanced", {"kv_unified": True}, 23881.91, 4352.00, 937.03, 29828.8),
    "32 slots": Taken("balanced", {"parallel": 32, "n_ctx": 65536}, 23881.91, 8976.00, 828.47, 34348.8),
    "no flash attention": Taken(
        "balanced",
        {"flash_attn": False, "type_k": "f16", "type_v": "f16", "n_ctx": 16384, "n_ubatch": 512},
        *(23881.91, 4608.00, 388.76, 29714.8),
    ),
    "40 of 64 layers": Taken(
        "balanced", {"n_gpu_layers": 40, "n_ctx": 16384}, 14786.48, 1491.75, 950.59, 17946.8
    ),
}  # fmt: skip

#: LMDeploy 0.18.0, weights of InternVL3's shapes in bfloat16: size, preset, changes, MiB of the GPU in all.
TURBOMIND: list[tuple[str, str, dict[str, Any], float]] = [
    ("8B", "prod", {}, 44280.8),
    ("8B", "prod-exact", {}, 44208.8),
    ("8B", "prod", {"cache_max_entry_count": 0.5}, 82332.8),
    ("8B", "prod", {"max_batch_size": 8}, 43540.8),
    ("8B", "prod", {"max_batch_size": 64, "max_prefill_token_num": 16384}, 44772.8),
    ("1B", "prod", {}, 32022.8),
]


@pytest.fixture(scope="module")
def needs() -> dict[str, Need]:
    """What is planned for each row; llama.cpp tries them all in one process."""
    presets = [fastinfer.preset(row.preset, kind="chat").replace(**row.changes) for row in LLAMA.values()]
    with outline_gguf(SEED_OSS) as outline:
        planned = LlamaChatPlanner(outline).needs(presets, device_for("H200"))
    return dict(zip(LLAMA, planned, strict=True))


@pytest.mark.parametrize("name", LLAMA)
def test_each_part_of_a_chat_is_what_llama_cpp_reported(needs: dict[str, Need], name: str) -> None:
    taken = LLAMA[name]
    planned = {part.name: part.size / MIB for part in needs[name].parts if part.place == "gpu"}
    assert planned["weights"] == pytest.approx(taken.weights, rel=0.01)
    assert planned["KV cache"] == pytest.approx(taken.cache, rel=0.01)
    assert planned["compute buffers"] == pytest.approx(taken.compute, rel=0.05 if "layers" in name else 0.01)


@pytest.mark.parametrize("name", LLAMA)
def test_a_chat_took_in_all_what_is_planned(needs: dict[str, Need], name: str) -> None:
    assert needs[name].total("gpu") / MIB == pytest.approx(LLAMA[name].total, rel=0.05)


def test_seed_oss_at_balanced_fits_an_a100_with_40_gb(needs: dict[str, Need]) -> None:
    made = fastinfer.plan("balanced", kind="chat", gpu="A100-40GB")
    assert made.model == "unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL"
    assert (made.source, made.device.name) == ("known shape", "A100-40GB")
    assert made.fits
    assert made.need == needs["balanced"]  # whatever the card
    assert made.margin == made.device.available - made.size > 9 * 2**30
    assert made.steps == ()
    assert "Q5_K_XL differs by a few per cent" in made.remarks[0]


@pytest.mark.parametrize(("size", "preset", "changes", "total"), TURBOMIND)
def test_classification_took_in_all_what_is_planned(
    size: str, preset: str, changes: dict[str, Any], total: float
) -> None:
    made = fastinfer.plan(preset, kind="classify", model=INTERNVL.format(size), gpu="H200", **changes)
    assert made.fits
    assert made.size / MIB == pytest.approx(total, rel=0.02)
