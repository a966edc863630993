from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from fastinfer.errors import PresetError
from fastinfer.preset_library import preset, presets

PROD = {
    "backend": "turbomind",
    "model": "OpenGVLab/InternVL3-8B-hf",
    "max_concurrent_requests": 64,
    "log_level": "ERROR",
    "session_len": 512,
    "max_batch_size": 32,
    "cache_max_entry_count": 0.2,
    "cache_block_seq_len": 64,
    "max_prefill_token_num": 128,
    "quant_policy": 4,
    "vision_max_batch_size": 32,
    "dtype": "auto",
    "model_format": "auto",
    "trust_remote_code": False,
    "tp": 1,
    "devices": (),
    "decode_workers": 0,
    "decode_in": "processes",
    "label_tolerance": 0.0001,
    "max_tiles": 1,
    "min_image_pixels": 0,
    "max_image_pixels": 0,
}
EMBEDDED_CLASSIFY = {
    "backend": "llama.cpp",
    "model": "embedded",
    "n_ctx": 8192,
    "n_batch": 2048,
    "n_ubatch": 2048,
    "n_threads": 0,
    "n_gpu_layers": 0,
    "flash_attn": False,
    "type_k": "f32",
    "type_v": "f32",
    "vision_max_batch_size": 8,
    "prompt": "What is this?",
    "open_prompt": "What is this?",
    "max_label_tokens": 12,
    "max_pixels": 64_000_000,
}
EVERY_CHAT = {
    "backend": "llama.cpp",
    "chat_template": "auto",
    "max_queue": 1024,
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 60,
    "min_p": 0.05,
    "repeat_last_n": 64,
    "repeat_penalty": 1.05,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "max_tokens": 0,
    "n_threads": 0,
    "prefill_delay": 0,
}
SERVED_CHAT = {
    **EVERY_CHAT,
    "kv_unified": False,
    "prefill_budget": 0,
    "model": "unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL",
    "device": "CUDA0",
    "type_k": "q8_0",
    "type_v": "q8_0",
    "flash_attn": True,
    "n_gpu_layers": -1,
    "n_batch": 4096,
}
BALANCED = {**SERVED_CHAT, "n_ctx": 32768, "n_ubatch": 2048, "parallel": 8, "cache_reuse": 1024}
EMBEDDED_CHAT = {
    **EVERY_CHAT,
    "kv_unified": True,
    "prefill_budget": 512,
    "model": "embedded-chat",
    "device": "CPU",
    "type_k": "f16",
    "type_v": "f16",
    "n_gpu_layers": 0,
    "n_ctx": 8192,
    "n_batch": 2048,
    "n_ubatch": 512,
    "parallel": 4,
}


@pytest.mark.parametrize(
    ("kind", "name", "documented"),
    [
        ("classify", "prod", PROD),
        ("classify", "prod-exact", {**PROD, "quant_policy": 0}),
        ("classify", "embedded", EMBEDDED_CLASSIFY),
        ("chat", "low-latency", {**SERVED_CHAT, "n_ctx": 16384, "n_ubatch": 1024, "parallel": 4}),
        ("chat", "balanced", BALANCED),
        ("chat", "prod", BALANCED),
        ("chat", "long-context", {**SERVED_CHAT, "n_ctx": 32768, "n_ubatch": 1024, "parallel": 6}),
        ("chat", "embedded", EMBEDDED_CHAT),
    ],
)
def test_a_built_in_preset_has_the_documented_values(kind: Any, name: str, documented: dict[str, object]) -> None:
    found = preset(name, kind=kind)
    assert {field: getattr(found, field) for field in documented} == documented
    assert found.source == "built-in"
    assert len(found.summary.split()) > 10


def test_presets_lists_every_built_in_preset_of_both_kinds() -> None:
    assert [(p.kind, p.name) for p in presets()] == [
        ("classify", "prod"),
        ("classify", "prod-exact"),
        ("classify", "embedded"),
        ("chat", "low-latency"),
        ("chat", "balanced"),
        ("chat", "long-context"),
        ("chat", "prod"),
        ("chat", "embedded"),
    ]
    assert [p.name for p in presets("classify")] == ["prod", "prod-exact", "embedded"]


def test_chat_prod_is_balanced_under_another_name() -> None:
    balanced, prod = preset("balanced"), preset("prod", kind="chat")
    assert prod.parameters == balanced.parameters
    assert prod.fingerprint == balanced.fingerprint
    assert prod != balanced


def test_a_name_that_one_kind_has_needs_no_kind() -> None:
    assert preset("balanced").kind == "chat"
    assert preset("prod-exact").kind == "classify"


@pytest.mark.parametrize("name", ["prod", "embedded"])
def test_a_name_that_both_kinds_have_needs_a_kind(name: str) -> None:
    with pytest.raises(PresetError, match=r"Pass kind='classify' or kind='chat'"):
        preset(name)
    assert preset(name, kind="chat").kind == "chat"


def test_an_unknown_name_is_answered_with_the_nearest_and_how_to_list() -> None:
    with pytest.raises(PresetError, match=r"no preset 'ballanced'.*'balanced'.*fastinfer\.presets\(\)"):
        preset("ballanced")


def test_a_name_like_no_other_is_answered_with_all_names_of_the_kind() -> None:
    with pytest.raises(PresetError, match=r"of kind 'classify'.*There are prod, prod-exact, embedded"):
        preset("qqqq", kind="classify")


def test_a_preset_of_the_other_kind_is_not_found() -> None:
    with pytest.raises(PresetError, match="no preset 'balanced' of kind 'classify'"):
        preset("balanced", kind="classify")


@pytest.mark.parametrize("look_up", [presets, lambda kind: preset("prod", kind=kind)])
def test_an_unknown_kind_is_refused(look_up: Any) -> None:
    with pytest.raises(PresetError, match=r"no kind of preset 'vision'.*'classify' and 'chat'"):
        look_up("vision")


def test_importing_the_package_loads_no_engine_and_no_terminal_library() -> None:
    code = (
        "import sys, fastinfer.preset_library\n"
        "heavy = {'llama_cpp', 'lmdeploy', 'torch', 'numpy', 'PIL', 'rich', 'typer', 'huggingface_hub'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
