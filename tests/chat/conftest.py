"""Tiny chat models, one loaded of each kind for all tests that leave it as it is, and fresh ones for the others."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny_chat as tiny

VARIABLES = ("FASTINFER_PRESETS", "FASTINFER_CLASSIFY_MODEL", "FASTINFER_CHAT_MODEL")
#: Exact whatever shares a batch: no rounding in the cache, no flash attention, one thread.
EXACT = {"n_ctx": 4096, "n_batch": 512, "n_ubatch": 512, "type_k": "f32", "type_v": "f32", "flash_attn": False,
         "n_threads": 1}  # fmt: skip


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the model that says what it is told to, without a template."""
    return tiny.write_scripted(tmp_path_factory.mktemp("scripted") / "scripted.gguf", None)


def open_llm(model: Path, **changes: Any) -> Any:
    """A model that no file or variable of this machine has a say in."""
    import fastinfer

    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        sizes = {name: min(512, changes["n_ctx"]) for name in ("n_batch", "n_ubatch") if "n_ctx" in changes}
        return fastinfer.llm(model=model, **{**EXACT, **sizes, **changes})


@pytest.fixture(scope="session")
def llm(babbler: Path) -> Iterator[Any]:
    """Four slots of the babbling model, for every test that does not close it."""
    with open_llm(babbler) as loaded:
        yield loaded


@pytest.fixture
def fresh(babbler: Path, scripted: Path) -> Iterator[Callable[..., Any]]:
    """``fresh(**changes)``: models of one's own, closed after the test; ``script=True`` for the scripted one."""
    made: list[Any] = []

    def make(*, script: bool = False, **changes: Any) -> Any:
        made.append(open_llm(scripted if script else babbler, **changes))
        return made[-1]

    yield make
    for loaded in made:
        loaded.close()


@pytest.fixture(scope="session")
def start() -> Callable[..., dict[str, Any]]:
    """``**start("hermes")``: options that make the scripted model say that script."""
    numbers = tiny.piece_tokens()

    def options(script: str, **more: Any) -> dict[str, Any]:
        bias = {numbers[tiny.SCRIPTS[script][0]]: tiny.PUSH}
        return {"temperature": 0.0, "repeat_penalty": 1.0, "logit_bias": bias, "max_tokens": 60, **more}

    return options


@pytest.fixture(scope="session")
def token() -> Callable[[str], int]:
    """The number of a special token or of a piece of a script."""
    numbers = tiny.piece_tokens()
    return lambda text: numbers[text.encode()]


@pytest.fixture(scope="session")
def idle() -> Callable[..., None]:
    """``idle(llm)``: wait until all slots are free and nothing waits; fails after some seconds."""

    def wait(llm: Any, seconds: float = 10.0) -> None:
        gc.collect()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            metrics = llm.metrics()
            if not metrics["llamacpp:requests_processing"] and not metrics["llamacpp:requests_deferred"]:
                return
            time.sleep(0.005)
        raise AssertionError(f"still at work after {seconds} s: {llm.metrics()}")

    return wait


@pytest.fixture(scope="session")
def generated() -> Callable[[Any], float]:
    """``generated(llm)``: tokens of all replies so far, to see whether one was stopped early."""
    return lambda llm: llm.metrics()["llamacpp:tokens_predicted_total"]


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], None]:
    """Check that two replies are the same one."""

    def check(one: Any, other: Any) -> None:
        for name in ("text", "reasoning", "finish_reason", "tool_calls", "parsed", "seed", "error"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.usage.prompt_tokens == other.usage.prompt_tokens
        assert one.usage.completion_tokens == other.usage.completion_tokens
        assert (one.logprobs is None) == (other.logprobs is None)
        for left, right in zip(one.logprobs or (), other.logprobs or (), strict=True):
            assert (left.token, left.bytes, len(left.top)) == (right.token, right.bytes, len(right.top))
            assert left.logprob == pytest.approx(right.logprob, abs=1e-3)

    return check


#: Until the context is full: most of a second.
LONG = {"max_tokens": 0, "ignore_eos": True}


@pytest.fixture(scope="session")
def long() -> dict[str, Any]:
    """``**long``: a reply that goes on until the context is full."""
    return LONG


@pytest.fixture(scope="session")
def speakers(scripted: Path) -> Iterator[dict[str, Any]]:
    """The scripted model, loaded with each kind of template."""
    folder = Path(__file__).with_name("templates")
    templates = {name: str(folder / f"{name}.jinja") for name in ("hermes", "llama3")}
    templates |= {"chatml": "chatml", "seed_oss": "seed_oss"}
    loaded = {name: open_llm(scripted, chat_template=template, n_ctx=2048) for name, template in templates.items()}
    yield loaded
    for llm in loaded.values():
        llm.close()


@pytest.fixture
def busy(llm: Any, idle: Callable[..., None]) -> Iterator[None]:
    """All slots of the shared model are taken during the test."""
    streams = [llm.stream(f"busy {i}", seed=i, **LONG) for i in range(4)]
    for stream in streams:
        next(stream)
    yield
    for stream in streams:
        stream.close()
    idle(llm)


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: the one.
        b: the other.
    """
    return a + b


@pytest.fixture(scope="session")
def tool() -> Callable[[int, int], int]:
    """A function to offer as a tool."""
    return add


@pytest.fixture(scope="session")
def collect() -> Callable[..., Any]:
    """``await collect(replies)``: all of an asynchronous iterator."""

    async def all_of(results: Any) -> list[Any]:
        return [result async for result in results]

    return all_of
