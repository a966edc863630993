"""Laws: a preset's command is the preset, and no text whatever makes anything but a preset or a PresetError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fastinfer
from examples import examples
from fastinfer.commands.flags import server_of
from fastinfer.errors import PresetError
from fastinfer.preset_library import Preset

FEW = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=examples(120))
INT_MAX = 2**31 - 1

counts = st.integers(1, INT_MAX)
shares = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
cache_types = st.sampled_from(["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
models = st.sampled_from(
    [
        "org/repo",
        "org/repo:Q4_K_M",
        "org/repo:UD-Q5_K_XL@main",
        "./a b.gguf",
        "it's.gguf",
        "$x#;.gguf",
        "embedded",
        "ü.gguf",
    ]
)
templates = st.sampled_from(
    [
        "auto",
        "seed_oss",
        "chatml",
        "transcript",
        "my template.jinja",
        "{{ messages }}\n'\"$x",
        "{% if true %}x{% endif %}",
    ]
)

llama = {
    "model": models,
    "n_ctx": st.integers(1024, INT_MAX),
    "n_batch": st.integers(512, 1024),
    "n_ubatch": st.integers(1, 512),
    "n_threads": st.integers(0, 512),
    "n_gpu_layers": st.integers(-1, INT_MAX),
    "flash_attn": st.booleans(),
    "type_k": cache_types,
    "type_v": cache_types,
}
chat = llama | {
    "parallel": st.integers(1, 254),
    "kv_unified": st.booleans(),
    "cache_reuse": st.integers(0, INT_MAX),
    "chat_template": templates,
    "device": st.sampled_from(["CPU", "CUDA0", "CUDA13", "Vulkan1", "Metal"]),
    "temperature": st.floats(0, 1e30),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(0, INT_MAX),
    "min_p": st.floats(0, 1),
    "repeat_last_n": st.integers(0, INT_MAX),
    "repeat_penalty": st.floats(1e-30, 1e30),
    "frequency_penalty": st.floats(-2, 2),
    "presence_penalty": st.floats(-2, 2),
    "max_tokens": st.integers(0, INT_MAX),
    "prefill_budget": st.integers(0, INT_MAX),
    "max_queue": st.integers(0, INT_MAX),
}
turbomind = {
    "model": st.sampled_from(["org/repo", "org/repo@main", "org/repo@v1.0/x", "./a folder", "it's", "a#b;$c"]),
    "max_concurrent_requests": counts,
    "log_level": st.sampled_from(["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"]),
    "session_len": counts,
    "max_batch_size": counts,
    "cache_max_entry_count": shares.filter(bool),
    "cache_block_seq_len": st.integers(1, 1000).map(lambda blocks: blocks * 64),
    "max_prefill_token_num": counts,
    "quant_policy": st.sampled_from([0, 4, 8]),
    "vision_max_batch_size": counts,
    "dtype": st.sampled_from(["auto", "float16", "bfloat16"]),
    "model_format": st.sampled_from(["auto", "hf", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4"]),
    "trust_remote_code": st.booleans(),
    "tp": st.integers(1, 1024),
    "max_tiles": counts,
}


def presets_of(start: Preset, fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Preset]:
    def legal(values: dict[str, Any]) -> Preset:
        # The two rules between fields: a quantised type_v needs flash attention; a batch is within the context.
        if str(values.get("type_v", "f16"))[0] == "q":
            values = values | {"flash_attn": True}
        return start.replace(**values)

    return st.fixed_dictionaries({}, optional=fields).map(legal)


@pytest.fixture(params=["chat", "classify on llama.cpp", "classify on turbomind"])
def family(request: pytest.FixtureRequest) -> st.SearchStrategy[Preset]:
    if request.param == "chat":
        return presets_of(fastinfer.preset("balanced").replace(n_batch=1024, n_ubatch=512, type_v="f16"), chat)
    if request.param == "classify on llama.cpp":
        return presets_of(fastinfer.preset("embedded", kind="classify").replace(n_batch=1024, n_ubatch=512), llama)
    return presets_of(fastinfer.preset("prod", kind="classify"), turbomind)


def fields_with_a_flag(preset: Preset) -> dict[str, object]:
    fields = server_of(preset.backend).fields
    values = {name: value for name, value in preset.parameters if name in fields}
    if values.get("n_gpu_layers") == 999:
        values["n_gpu_layers"] = -1  # the documents' way to say every layer
    return values


def assert_same(read: Preset, preset: Preset) -> None:
    wanted = fields_with_a_flag(preset)
    assert {name: getattr(read, name) for name in wanted} == wanted


@FEW
@given(data=st.data())
def test_a_preset_s_command_is_the_preset(family: st.SearchStrategy[Preset], data: st.DataObject) -> None:
    preset = data.draw(family)
    assert_same(fastinfer.from_command(preset.to_command()), preset)


@FEW
@given(data=st.data())
def test_a_command_is_changed_to_any_other_preset(family: st.SearchStrategy[Preset], data: st.DataObject) -> None:
    read = fastinfer.from_command(data.draw(family).to_command())
    other = data.draw(family)
    fields = [name for name in fields_with_a_flag(other) if name in type(read.parameters).model_fields]
    changed = read.replace(**{name: getattr(other, name) for name in fields})
    again = fastinfer.from_command(changed.to_command())
    assert_same(again, changed)
    assert changed.replace(**read.parameters.model_dump()).to_command() == read.to_command()


def test_the_whole_context_is_written_as_a_number() -> None:
    preset = fastinfer.preset("balanced").replace(repeat_last_n=-1)
    assert fastinfer.from_command(preset.to_command()).repeat_last_n == preset.n_ctx


@pytest.mark.parametrize("name", ["CPU", "cpu"])
def test_a_server_knows_the_cpu_as_no_device(name: str) -> None:
    command = fastinfer.preset("balanced").replace(device=name).to_command()
    assert "--device none" in command
    assert fastinfer.from_command(command).device == "CPU"


pieces = st.one_of(
    st.sampled_from(sorted({*server_of("llama.cpp").flags, *server_of("turbomind").flags})),
    st.sampled_from(
        ["$(nproc)", "`nproc`", "$X", "'", '"', "\\", "\n", "#", " ", "=", "999", "-1", "0", "on", "a/b", "|"]
    ),
    st.text(max_size=6),
)


def is_read_or_refused(command: str | list[str]) -> None:
    try:
        preset = fastinfer.from_command(command)
    except PresetError:
        return
    again = fastinfer.from_command(preset.to_command())
    assert again == preset
    assert again.command is not None
    assert again.command.text == preset.to_command()


@MANY
@given(
    start=st.sampled_from(["llama-server ", "lmdeploy serve api_server o/m ", ""]), rest=st.lists(pieces, max_size=8)
)
@example(start="llama-server ", rest=["-fa", "\x00"])
@example(start="llama-server ", rest=["--model", "''"])
def test_any_text_is_a_preset_or_a_preset_error(start: str, rest: list[str]) -> None:
    is_read_or_refused(start + " ".join(rest))
    is_read_or_refused(start + "".join(rest))
    is_read_or_refused([*start.split(), *rest])


@MANY
@given(st.text())
def test_any_characters_are_a_preset_error(text: str) -> None:
    with pytest.raises(PresetError):
        fastinfer.from_command(text)
