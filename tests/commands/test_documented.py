"""The documented commands become the built-in presets, and are written back word for word."""

from __future__ import annotations

import json
import re
import shlex

import pytest

import fastinfer
from documented_commands import DOCUMENTED
from fastinfer.preset_library import Preset

every_command = pytest.mark.parametrize("which", DOCUMENTED)


def on_one_line(text: str) -> str:
    """A command as it is typed, without line ends and comments, each secret behind a variable's name."""
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    text = re.sub(r"(--api-key) \S+", r"\1 $API_KEY", text)
    text = re.sub(r"(--api-keys) sk-one sk-two", r"\1 $API_KEYS", text)
    text = re.sub(r"HF_TOKEN=\S+", "HF_TOKEN=$HF_TOKEN", text)
    return " ".join(text.split())


@every_command
def test_a_documented_command_is_the_built_in_preset(which: str) -> None:
    kind, name, text, other = DOCUMENTED[which]
    read = fastinfer.from_command(text)
    wanted = fastinfer.preset(name, kind=kind).replace(**other)
    assert read.parameters == wanted.parameters
    assert (read.kind, read.fingerprint, read.source) == (kind, wanted.fingerprint, "command")


@every_command
def test_it_is_written_back_word_for_word(which: str) -> None:
    text = DOCUMENTED[which][2]
    assert fastinfer.from_command(text).to_command() == on_one_line(text)


@every_command
def test_what_is_written_is_the_same_preset_again(which: str) -> None:
    read = fastinfer.from_command(DOCUMENTED[which][2])
    again = fastinfer.from_command(read.to_command())
    assert again == read
    assert again.to_command() == read.to_command()
    assert again.command is not None
    assert read.command is not None
    assert again.command.remarks == read.command.remarks


@every_command
def test_its_words_are_the_same_preset(which: str) -> None:
    read = fastinfer.from_command(DOCUMENTED[which][2])
    words = [word for word in shlex.split(read.to_command().replace("`nproc`", "$(nproc)")) if "=$" not in word]
    words = [word for word in words if word != "CUDA_VISIBLE_DEVICES=0"]
    assert fastinfer.from_command(words).parameters == read.parameters


@every_command
def test_each_flag_without_a_place_is_remarked_on_and_nothing_else(which: str) -> None:
    command = fastinfer.from_command(DOCUMENTED[which][2]).command
    assert command is not None
    remarked = {remark.flag for remark in command.remarks}
    for flag in ("--host", "--port", "--metrics", "--slots", "--no-webui", "--api-key", "--jinja", "--no-jinja"):
        assert (flag in remarked) == (flag in command.text.split())
    expected = {
        "--server-name",
        "--server-port",
        "--api-keys",
        "--disable-fastapi-docs",
        "--host",
        "--port",
        "--metrics",
    }
    expected |= {"--slots", "--no-webui", "--api-key", "--jinja", "--no-jinja", "HF_TOKEN", "CUDA_VISIBLE_DEVICES"}
    # With Jinja on, llama-server takes the template's name for the template itself.
    assert remarked <= expected | ({"--chat-template"} if "--jinja --chat-template" in command.text else set())
    assert all(remark.why.endswith(".") for remark in command.remarks)


@every_command
def test_no_secret_is_kept(which: str) -> None:
    read = fastinfer.from_command(DOCUMENTED[which][2])
    changed = read.replace(model="org/other")
    shown = [repr(read.command), json.dumps(read.to_dict()), read.to_command(), repr(changed.__dict__)]
    shown += [str(read.explain()), read.explain()._repr_html_(), changed.to_command()]
    for text in shown:
        assert not re.search(r"sk-|hf_secret", text)


def test_the_built_in_presets_are_written_with_the_documented_long_flags() -> None:
    assert fastinfer.preset("prod", kind="classify").to_command() == (
        "lmdeploy serve api_server OpenGVLab/InternVL3-8B-hf --backend turbomind --max-concurrent-requests 64 "
        "--log-level ERROR --session-len 512 --max-batch-size 32 --cache-max-entry-count 0.2 --cache-block-seq-len 64 "
        "--max-prefill-token-num 128 --quant-policy 4 --vision-max-batch-size 32 --dtype auto --tp 1"
    )
    assert fastinfer.preset("balanced").to_command(program="./llama-server") == (
        "./llama-server --hf-repo unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL --ctx-size 32768 --batch-size 4096 "
        "--ubatch-size 2048 --cache-type-k q8_0 --cache-type-v q8_0 --flash-attn on --gpu-layers 999 --parallel 8 "
        "--no-kv-unified --cache-reuse 1024 --device CUDA0 --temp 0.6 --top-p 0.95 --top-k 60 --min-p 0.05 "
        "--repeat-last-n 64 --repeat-penalty 1.05 --frequency-penalty 0.0 --presence-penalty 0.0 --predict -1 "
        "--threads $(nproc)"
    )


def test_changed_values_are_changed_in_place_and_new_flags_come_last() -> None:
    text = (
        'CUDA_VISIBLE_DEVICES=1 llama-server -hf a/b:Q4_0 -c 8192 --host ::1 --parallel 4 -fa -t "$(nproc)" --temp 0.5'
    )
    read = fastinfer.from_command(text)
    assert read.to_command() == text
    changed = read.replace(n_ctx=4096, parallel=2, n_threads=6, flash_attn=False, top_k=20, model="c.gguf")
    assert changed.to_command() == (
        "CUDA_VISIBLE_DEVICES=1 llama-server --model c.gguf -c 4096 --host ::1 --parallel 2 -fa off -t 6 --temp 0.5 "
        "--top-k 20"
    )
    assert changed.replace(**read.parameters.model_dump()).to_command() == text
    assert changed.to_command(program="llama serve").startswith("CUDA_VISIBLE_DEVICES=1 llama serve --model")
    assert changed.command is read.command


def test_a_flag_and_its_value_in_one_word_stay_one_word() -> None:
    read = fastinfer.from_command("lmdeploy serve api_server o/m --max_batch_size=16 --quant int8")
    assert (read.max_batch_size, read.quant_policy) == (16, 8)
    assert read.replace(max_batch_size=8, quant_policy=4).to_command() == (
        "lmdeploy serve api_server o/m --max_batch_size=8 --quant 4"
    )


def test_a_preset_keeps_its_command_through_json() -> None:
    read = fastinfer.from_command("llama-server -m x.gguf --port 80")
    again = Preset.from_dict(json.loads(json.dumps(read.to_dict())))
    assert again == read
    assert again.command == read.command
    assert "command" not in fastinfer.preset("balanced").to_dict()


def test_explain_shows_the_flags_without_a_place() -> None:
    explanation = fastinfer.from_command("llama-server -m x.gguf --port 80 -c 512 --seed 5").explain()
    assert explanation.remarks[0].flag == "--port"
    assert "--port 80: There is no HTTP server" in str(explanation)
    assert "--seed 5" in explanation._repr_html_()
    assert explanation.to_dict()["remarks"][0]["value"] == "80"
