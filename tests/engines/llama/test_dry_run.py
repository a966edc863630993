"""What llama.cpp says it would allocate is what it does, and whatever happens to it happens to another process."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import tiny_chat as tiny
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.dry_run import dry_run
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.shape import ContextShape
from fastinfer.errors import ModelLoadError
from header_only import write_header

MIB = 2**20
PLAIN = ContextShape(
    n_ctx=1024, n_batch=256, n_ubatch=128, n_outputs=4, flash_attn=False, type_k="f16", type_v="f16", n_sequences=4
)
SHAPES = [
    PLAIN,
    dataclasses.replace(PLAIN, flash_attn=True, type_k="q8_0", type_v="q8_0"),
    dataclasses.replace(PLAIN, unified=False, n_ctx=4096, n_ubatch=256),
    dataclasses.replace(PLAIN, n_outputs=64, n_batch=1024, n_ubatch=1024, type_k="f32"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_babbler(tmp_path_factory.mktemp("dry") / "babbler.gguf", None)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What llama.cpp says in this process, all of it."""
    log = logging.getLogger("fastinfer.llama")
    with caplog.at_level(logging.DEBUG, log.name):
        yield caplog


def refusal(model: Path, shape: ContextShape = PLAIN) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as caught:
        dry_run(model, [shape])
    assert caught.value.hint
    return caught.value


def test_it_says_what_the_engine_allocates(model: Path, told: pytest.LogCaptureFixture) -> None:
    with closing(LlamaModel(model)) as loaded:
        for shape, planned in zip(SHAPES, dry_run(model, SHAPES), strict=True):
            told.clear()
            LlamaContext(loaded, shape, n_threads=1).close()
            sizes = {
                kind: sum(float(size) for size in re.findall(rf"{kind} buffer size = +([\d.]+) MiB", told.text))
                for kind in ("KV", "compute", "output")
            }
            assert sizes["KV"] * MIB == pytest.approx(planned.cache, abs=MIB / 50)
            assert sizes["compute"] * MIB == pytest.approx(planned.compute, abs=MIB / 50)
            assert sizes["output"] * MIB == pytest.approx(planned.outputs, abs=MIB / 50)
            assert planned.cache > 0 < planned.compute


def test_weights_are_not_read(tmp_path: Path) -> None:
    model = write_header(tmp_path / "модель.gguf")
    token = 2 * 2 * 64 * 2  # keys and values of 2 layers with 2 heads of 32, in 16 bits
    (sizes,) = dry_run(model, [PLAIN])
    assert sizes.cache == 1024 * token


def test_what_lies_in_the_working_directory_is_not_imported(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "logging", "numpy", "llama_cpp"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    monkeypatch.chdir(tmp_path)
    assert dry_run(model, [PLAIN])


def test_why_llama_cpp_refuses_a_context_is_said(model: Path) -> None:
    error = refusal(model, dataclasses.replace(PLAIN, type_v="q8_0"))
    assert error.message == (
        "llama.cpp could not create a context of 1024 tokens: quantized V cache requires flash_attn to be enabled."
    )


def test_where_llama_cpp_ends_the_process_it_is_another_one(tmp_path: Path) -> None:
    message = refusal(write_header(tmp_path / "tall.gguf", changes={"block_count": 600})).message
    assert message.startswith("llama.cpp ended while it tried what tall.gguf takes: llama-model.cpp:")
    assert "GGML_ASSERT" in message
    assert "n_layer" in message


def test_more_cells_than_can_be_tried_are_refused_at_once(model: Path) -> None:
    error = refusal(model, dataclasses.replace(PLAIN, n_ctx=2**24 + 1))
    assert "16,777,217 tokens is too large to be tried" in error.message
