"""A chat template tells how replies are marked up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastinfer.replies.formats import ReplyFormat, detect_format

THINK = ("<think>", "</think>")
SEED = "{%- set think_begin_token = '<seed:think>' -%}{{ '<seed:tool_call>\\n<function=a>' }}"
QWEN25 = r"""{{ "<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>" }}"""
QWEN3 = QWEN25 + "{%- set content = content.split('</think>')[-1] %}"
CODER = "{{ '<tool_call>\n<function=' + name + '>\n<parameter=' + key + '>' }}"
LLAMA = """{{- "Environment: ipython" }}{{ '{"name": "' + name + '", "parameters": ' }}"""
GLM = "{{ '<tool_call>' + name }}<arg_key>{{ key }}</arg_key>{{ '<think></think>' }}"
#: The folder models/templates of llama.cpp's sources, where somebody has them.
TEMPLATES = Path(os.environ.get("LLAMA_CPP_TEMPLATES", "no such folder"))


@pytest.mark.parametrize(
    ("source", "reasoning", "tools"),
    [
        (SEED, ("<seed:think>", "</seed:think>"), "seed_oss"),
        (QWEN25, None, "hermes"),
        (QWEN3, THINK, "hermes"),
        (CODER, None, "qwen_xml"),
        (LLAMA, None, "llama3"),
        ("{%- set content = content.split('</think>') %}", THINK, None),
        (GLM, THINK, None),
        ("{{ '[THINK]' }}", None, None),
        ("{{ messages }}", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_the_format_is_what_the_template_mentions(source: str | None, reasoning: object, tools: str | None) -> None:
    found = detect_format(source)
    assert (found.reasoning, found.tools) == (reasoning, tools)


def test_every_mark_the_parser_needs_is_visible() -> None:
    assert detect_format(QWEN3).visible == ("<think>", "</think>", "<tool_call>", "</tool_call>")
    assert detect_format(LLAMA).visible == ("<|python_tag|>",)
    assert set(detect_format(SEED).visible) == {
        "<seed:think>", "</seed:think>", "<seed:tool_call>", "</seed:tool_call>",
        "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>",
    }  # fmt: skip


def test_a_model_without_marks_has_none_to_show() -> None:
    assert detect_format("{{ messages }}") == ReplyFormat()


@pytest.mark.skipif(not TEMPLATES.is_dir(), reason="LLAMA_CPP_TEMPLATES names no folder")
@pytest.mark.parametrize(
    ("name", "reasoning", "tools"),
    [
        ("ByteDance-Seed-OSS", ("<seed:think>", "</seed:think>"), "seed_oss"),
        ("Qwen-Qwen3-0.6B", THINK, "hermes"),
        ("Qwen-QwQ-32B", THINK, "hermes"),
        ("Qwen-Qwen2.5-7B-Instruct", None, "hermes"),
        ("Qwen3-Coder", None, "qwen_xml"),
        ("Qwen3.5-4B", THINK, "qwen_xml"),
        ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", None, "hermes"),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", None, "hermes"),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", THINK, None),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", THINK, None),
        ("meta-llama-Llama-3.1-8B-Instruct", None, "llama3"),
        ("meta-llama-Llama-3.2-3B-Instruct", None, "llama3"),
        ("meta-llama-Llama-3.3-70B-Instruct", None, "llama3"),
        ("HuggingFaceTB-SmolLM3-3B", THINK, None),
        ("GLM-4.6", THINK, None),
        ("MiniMax-M3", None, None),
        ("unsloth-Apriel-1.5", None, None),
        ("google-gemma-2-2b-it", None, None),
        ("mistralai-Ministral-3-14B-Reasoning-2512", None, None),
    ],
)
def test_published_templates(name: str, reasoning: object, tools: str | None) -> None:
    found = detect_format((TEMPLATES / f"{name}.jinja").read_text())
    assert (found.reasoning, found.tools) == (reasoning, tools)
