"""What a type checker and an editor see."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from fastinfer import LLM, ChatOptions

SOURCES = Path(__file__).resolve().parents[2] / "src"

USE = """
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from typing_extensions import assert_type

import fastinfer
from fastinfer import ChatOptions, LLM, Piece, Reply, ToolCall, Usage


class City(BaseModel):
    name: str


def add(a: int, b: int) -> int:
    return a + b


def use(llm: LLM) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
    reply = llm.chat(messages, max_tokens=5, temperature=0.5, stop=["a"], seed=1, timeout=3, tools=[add], logprobs=2)
    assert_type(reply, Reply)
    assert_type(reply.usage, Usage)
    assert_type(reply.tool_calls, tuple[ToolCall, ...])
    messages.append(reply.message)
    reply = llm.chat("hello", schema=City, top_k=None, logit_bias={1: -5.0}, chat_template_kwargs={"a": True})
    options: ChatOptions = {"max_tokens": 5, "stop": "a"}
    for piece in llm.stream("hello", **options):
        assert_type(piece, Piece)
    with llm.stream("hello") as stream:
        assert_type(next(stream), Piece)
    assert_type(stream.reply, Reply)
    for one in llm.chat_many([messages, "hello"], errors="return", progress=True, **options):
        assert_type(one, Reply)
    return reply.text


async def ause(llm: LLM) -> None:
    assert_type(await llm.achat("hello", seed=None), Reply)
    async for piece in llm.astream("hello"):
        assert_type(piece, Piece)
    async with llm.astream("hello") as stream:
        pass
    assert_type(stream.reply, Reply)
    async for one in llm.achat_many(["hello"]):
        assert_type(one, Reply)


with fastinfer.llm("balanced", model="model.gguf", n_ctx=512) as model:
    assert_type(model, LLM)
    use(model)
    asyncio.run(ause(model))
"""

WRONG = {
    "a misspelt option": ('llm.chat("hello", max_token=5)', "max_token"),
    "an option of the wrong type": ('llm.chat("hello", max_tokens="5")', "max_tokens"),
    "a misspelt option of many": ('llm.chat_many(["hello"], temprature=1.0)', "temprature"),
}


def check(code, folder):
    """Run mypy as a user would, with the package's types from its sources."""
    pytest.importorskip("mypy")
    path = folder / "use.py"
    path.write_text(code)
    environment = {**os.environ, "MYPYPATH": str(SOURCES)}
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports=silent",
               "--ignore-missing-imports", "--cache-dir", str(folder.parent / "mypy"), str(path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=250)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_program_that_uses_everything_passes_the_type_checker(tmp_path):
    assert check(USE, tmp_path) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("line", "word"), WRONG.values(), ids=WRONG)
def test_a_wrong_option_does_not(tmp_path, line, word):
    code = f"from fastinfer import LLM\n\n\ndef use(llm: LLM) -> None:\n    {line}\n"
    said = check(code, tmp_path)
    assert "use.py:5" in said
    assert word in said


def test_the_annotations_can_be_read_while_the_program_runs():
    for name, method in inspect.getmembers(LLM, inspect.isfunction):
        if not name.startswith("_"):
            assert typing.get_type_hints(method)["return"]
    assert typing.get_type_hints(ChatOptions)["max_tokens"] == int | None


def test_every_public_method_says_what_it_does():
    for name, method in inspect.getmembers(LLM, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.getdoc(method), name


def test_the_errors_that_chat_raises_are_those_it_names():
    from fastinfer import errors

    named = re.findall(r"\w+Error", LLM.chat.__doc__.split("Raises:")[1])
    for name in ("MessageError", "PromptTooLongError", "PresetError", "SchemaError", "QueueFullError",
                 "RequestTimeoutError", "EngineDeadError", "TypeError"):  # fmt: skip
        assert name in named
        assert name == "TypeError" or hasattr(errors, name)
