"""How a command is read: words, spellings, defaults, repetitions, contradictions and faults."""

from __future__ import annotations

from typing import Any

import pytest

import fastinfer
from fastinfer.errors import PresetError

LLAMA = "llama-server -m m.gguf"
API_SERVER = "lmdeploy serve api_server o/m"


def read(more: str = "", start: str = LLAMA) -> Any:
    return fastinfer.from_command(f"{start} {more}")


def remarks(preset: Any) -> dict[str, str]:
    return {f"{remark.flag} {remark.value}".strip(): remark.why for remark in preset.command.remarks}


@pytest.mark.parametrize(
    "program",
    [
        "llama-server",
        "./build/bin/llama-server",
        '"/opt/llama cpp/llama-server"',
        "llama-server.exe",
        r".\llama-server.exe",
        "llama serve",
        "/usr/bin/llama server",
    ],
)
def test_llama_server_has_many_names(program: str) -> None:
    preset = fastinfer.from_command(f"{program} -m m.gguf")
    assert (preset.kind, preset.name, preset.backend) == ("chat", "llama-server", "llama.cpp")
    assert preset.command.program == program
    assert preset.to_command() == f"{program} -m m.gguf"


@pytest.mark.parametrize("program", ["lmdeploy", "/venv/bin/lmdeploy", "python -m lmdeploy", "python3.11 -m lmdeploy"])
def test_so_has_api_server(program: str) -> None:
    preset = fastinfer.from_command(f"{program} serve api_server o/m", name="photos")
    assert (preset.kind, preset.name, preset.backend, preset.model) == ("classify", "photos", "turbomind", "o/m")
    assert fastinfer.from_command(f"{program} serve api_server o/m").name == "api_server"


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("llama-server -m 'my model.gguf'", "my model.gguf"),
        ('llama-server -m "my \\"model\\".gguf"', 'my "model".gguf'),
        ("llama-server -m my\\ model.gguf", "my model.gguf"),
        ("llama-server -m mo'de'l.gguf # the model", "model.gguf"),
        ("\n# first\n\nllama-server \\\n\t-m \\\n model.gguf\n# last\n", "model.gguf"),
        ("llama-server -m model.gguf \\\r\n  -c 512\r\n", "model.gguf"),
        ("llama-server -m mo\\\ndel.gguf", "model.gguf"),
        ("llama-server -m '$HOME/#1.gguf'", "$HOME/#1.gguf"),
        ("llama-server -m a#1.gguf", "a#1.gguf"),
        ("llama-server -m ~/models/x.gguf", "~/models/x.gguf"),
        ("llama-server --model=m.gguf", "m.gguf"),
        ("llama-server -hf org/repo", "org/repo"),
        ("llama-server -hfr org/repo:Q8_0 -m there.gguf", "org/repo:Q8_0"),
        ("llama-server -hf org/repo:Q8_0 -hff sub/repo-Q4_K_M.gguf", "org/repo:Q4_K_M"),
        (["llama-server", "-m", "my model.gguf"], "my model.gguf"),
        (["llama-server", "-m", "$HOME/x"], "$HOME/x"),
        ("lmdeploy serve api_server o/m --revision main", "o/m@main"),
        ("lmdeploy serve api_server --tp 2 --api-keys a b --ssl ./folder --revision main", "./folder"),
    ],
)
def test_words_are_divided_as_a_shell_does(text: Any, model: str) -> None:
    preset = fastinfer.from_command(text)
    assert preset.model == model
    assert fastinfer.from_command(preset.to_command()) == preset


@pytest.mark.parametrize("cores", ["$(nproc)", '"$(nproc)"', "`nproc`", '"`nproc`"', "$( nproc --all )", "0", "-1"])
def test_every_core_has_many_spellings(cores: str) -> None:
    assert read(f"-t {cores}").n_threads == 0


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ("-ngl 999", "n_gpu_layers", -1),
        ("-ngl all", "n_gpu_layers", -1),
        ("--n-gpu-layers auto", "n_gpu_layers", -1),
        ("--gpu-layers -2", "n_gpu_layers", -1),
        ("--gpu_layers 12", "n_gpu_layers", 12),
        ("-fa on", "flash_attn", True),
        ("-fa", "flash_attn", True),
        ("-fa --metrics", "flash_attn", True),
        ("--flash-attn 1", "flash_attn", True),
        ("-fa auto", "flash_attn", True),
        ("-fa -1", "flash_attn", True),
        ("-fa off", "flash_attn", False),
        ("-fa 0", "flash_attn", False),
        ("-fa disabled", "flash_attn", False),
        ("-c 0", "n_ctx", 32768),
        ("-np 3 --kv-unified-per-slot 1000", "n_ctx", 3000),
        ("-np 3", "kv_unified", False),
        ("-np 3 -kvu", "kv_unified", True),
        ("-np 3 -kvu -no-kvu", "kv_unified", False),
        ("-np -1", "parallel", 4),
        ("-no-kvu", "kv_unified", True),
        ("-dev none", "device", "CPU"),
        ("-dev none", "n_gpu_layers", 0),
        ("-dev none -ngl 5", "n_gpu_layers", 5),
        ("-ngl 0", "device", "CPU"),
        ("-ngl 0 -dev CUDA1", "device", "CUDA1"),
        ("--device Vulkan0,Vulkan1", "device", "Vulkan0"),
        ("--device CUDA0,CUDA2 -sm none -mg 1", "device", "CUDA2"),
        ("-sm none --main-gpu 1", "device", "CUDA1"),
        ("-n -1", "max_tokens", 0),
        ("--n-predict 64", "max_tokens", 64),
        ("--temp -1", "temperature", 0.0),
        ("--top-k -1", "top_k", 0),
        ("--frequency-penalty -0.5", "frequency_penalty", -0.5),
        ("--temp 1e-1", "temperature", 0.1),
        ("-ub 0 -b 300", "n_ubatch", 300),
        ("-b 512 -ub 4096", "n_ubatch", 512),
        ("-c 256", "n_batch", 256),
        ("-c 256", "n_ubatch", 256),
        ("--no-jinja --chat-template chatml", "chat_template", "chatml"),
        ("--chat-template-file t.jinja --chat-template seed_oss", "chat_template", "seed_oss"),
        ("--chat-template seed_oss --chat-template-file t.jinja", "chat_template", "t.jinja"),
        ("--chat-template '{{ messages }}'", "chat_template", "{{ messages }}"),
        ("--top-k 5 --top_k 7", "top_k", 7),
    ],
)
def test_flags_of_llama_server_become_fields(more: str, field: str, value: object) -> None:
    preset = read(more)
    assert getattr(preset, field) == value
    assert fastinfer.from_command(preset.to_command()) == preset


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ("--quant-policy int4", "quant_policy", 4),
        ("--quant_policy 8", "quant_policy", 8),
        ("--quant-policy NONE", "quant_policy", 0),
        ("--log-level WARN", "log_level", "WARNING"),
        ("--trust-remote-code", "trust_remote_code", True),
        ("--cache-max-entry-count=.5", "cache_max_entry_count", 0.5),
        ("--max-prefill-t 64", "max_prefill_token_num", 64),
        ("--model-format awq", "model_format", "awq"),
        ("--allow-origins a b c --tp 2", "tp", 2),
        ("--tp 2 --tp 4", "tp", 4),
    ],
)
def test_flags_of_api_server_become_fields(more: str, field: str, value: object) -> None:
    preset = read(more, API_SERVER)
    assert getattr(preset, field) == value
    assert fastinfer.from_command(preset.to_command()) == preset


def test_what_is_not_given_is_as_llama_server_has_it() -> None:
    preset = fastinfer.from_command("llama-server")
    values = preset.parameters.model_dump()
    assert values == fastinfer.preset("balanced").parameters.model_dump() | {
        "n_batch": 2048,
        "n_ubatch": 512,
        "type_k": "f16",
        "type_v": "f16",
        "parallel": 4,
        "kv_unified": True,
        "cache_reuse": 0,
        "temperature": 0.8,
        "top_k": 40,
        "repeat_penalty": 1.0,
    }
    # What a preset cannot leave open is said.
    assert set(remarks(preset)) == {
        *("--model", "--ctx-size", "--threads", "--gpu-layers", "--flash-attn", "--parallel", "--device"),
    }
    assert preset.to_command() == "llama-server"


def test_what_is_not_given_is_as_api_server_has_it() -> None:
    preset = fastinfer.from_command(API_SERVER)
    prod = fastinfer.preset("prod", kind="classify").parameters.model_dump()
    assert preset.parameters.model_dump() == prod | {
        "model": "o/m",
        "max_concurrent_requests": 256,
        "log_level": "WARNING",
        "session_len": 8192,
        "max_batch_size": 128,
        "cache_max_entry_count": 0.8,
        "max_prefill_token_num": 8192,
        "quant_policy": 0,
        "vision_max_batch_size": 1,
    }
    assert set(remarks(preset)) == {"--max-concurrent-requests", "--session-len", "--max-batch-size"}


@pytest.mark.parametrize(
    ("more", "remarked"),
    [
        ("--top-k 5 --top-k 7", "--top-k 5"),
        ("-np 2 -kvu --no-kv-unified", "-kvu"),
        ("-no-kvu", "-no-kvu"),
        ("-b 512 -ub 4096", "-ub 4096"),
        ("-c 512 -b 4096", "-b 4096"),
        ("-fa", "-fa"),
        ("--mlock", "--mlock"),
        ("--no-mmap", "--no-mmap"),
        ("--port=80", "--port 80"),
        ("--jinja --chat-template seed_oss", "--chat-template seed_oss"),
        ("--mirostat 0", "--mirostat 0"),
        ("--control-vector-layer-range 1 2", "--control-vector-layer-range 1 2"),
        ("-dev CUDA0,CUDA1", "-dev CUDA0,CUDA1"),
        ("-hf o/m", "-m m.gguf"),
    ],
)
def test_deviations_are_remarked_on(more: str, remarked: str) -> None:
    assert remarked in remarks(read(more))


def test_what_is_cut_by_default_is_no_remark() -> None:
    assert not {"--batch-size", "--ubatch-size"} & set(remarks(read("-c 256")))
    assert "--top-k 5" not in remarks(read("--top-k 5 --top-k 5"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The command is empty"),
        ("   # nothing", "The command is empty"),
        ("HF_TOKEN=x", "The command is empty"),
        ("sudo llama-server", "which is no server that is known. Begin with llama-server"),
        ("llama-cli -m x", "which is no server"),
        ("lmdeploy lite auto_awq", "which is no server"),
        ("python -m llama_cpp.server", "which is no server"),
        ("llama-server | tee log", "| begins something else"),
        ("llama-server > log 2>&1 &", "> begins something else"),
        ("llama-server; rm -rf x", "; begins something else"),
        ("llama-server\n-c 512", "Line 2 of the command: -c begins something else"),
        ("llama-server \\ \n -c 512", "begins something else"),
        ("llama-server -m 'x", "is not closed"),
        ('llama-server -m "x', "is not closed"),
        ("llama-server -t $(nproc", "is not closed"),
        ("llama-server -m $MODEL", "-m: only a shell knows what $MODEL is. Put the value itself in its place."),
        ('llama-server -m "${DIR}/x"', "only a shell knows what ${DIR} is"),
        ("llama-server -m $(ls *.gguf)", "only a shell knows what $(ls *.gguf) is"),
        ("MODEL=$X llama-server", "MODEL: only a shell knows"),
        ("LLAMA_ARG_CTX_SIZE=5 llama-server", "LLAMA_ARG_CTX_SIZE sets a flag of llama-server by the environment."),
        ("llama-server --ctx-sise 5", "llama-server has no flag --ctx-sise. Did you mean --ctx-size?"),
        ("llama-server --max-batch-size 5", "has no flag --max-batch-size"),
        ("llama-server model.gguf", "a word that belongs to no flag"),
        ("llama-server --api-key one two", "after --api-key there is a word that belongs to no flag"),
        ("llama-server -c", "-c lacks its value"),
        ("llama-server --control-vector-layer-range 1", "--control-vector-layer-range lacks its value"),
        ("llama-server --metrics=1", "--metrics takes no value"),
        ("llama-server -c 32k", "-c: '32k' is no whole number"),
        ("llama-server -c -b 5", "-c lacks its value"),
        ("llama-server -c -5", "-c: '-5' is not legal for n_ctx. Legal: whole number from 1"),
        ("llama-server -c 99999999999", "-c: '99999999999' is not legal"),
        (f"llama-server -c {'9' * 5000}", "is no whole number"),
        ("llama-server -b 0", "-b: '0' is not legal for n_batch"),
        ("llama-server --temp warm", "--temp: 'warm' is no number"),
        ("llama-server --temp nan", "--temp: 'nan' is no number"),
        ("llama-server --temp 1e999", "--temp: '1e999' is not legal"),
        ("llama-server --top-p 1.5", "--top-p: '1.5' is not legal for top_p"),
        ("llama-server -ctk iq4_nl", "-ctk: 'iq4_nl' is not legal for type_k. Legal: 'f32'"),
        ("llama-server -fa maybe", "-fa: 'maybe' is none of on, off and auto"),
        ("llama-server -np 0", "-np: '0' is not legal for parallel"),
        ("llama-server -np 257", "-np: '257' is not legal for parallel"),
        ("llama-server -t 513", "-t: '513' is not legal for n_threads"),
        ("llama-server -n 0", "-n: 0 leaves no reply"),
        ("llama-server -n -2", "-n: -2 leaves no reply"),
        ("llama-server --repeat-last-n -1", "--repeat-last-n: llama-server takes no number below 0"),
        ("llama-server -dev CPU", "-dev: 'CPU' is no device to llama-server. For the CPU give none."),
        ("llama-server -dev CUDA0 -sm none -mg 2", "--main-gpu 2: -dev names 1 devices"),
        ("llama-server -mg -1", "there is no GPU -1"),
        ("llama-server -ctv q8_0 -fa off", "-ctv q8_0 contradicts -fa off"),
        ("llama-server -hf model.gguf", "-hf: 'model.gguf' is no org/repo or org/repo:QUANT"),
        ("llama-server -hff x-Q4_0.gguf", "-hff names a file of no repository"),
        ("llama-server -hf o/r -hff x.gguf", "does not end with the name of a quantisation"),
        ("llama-server --chat-template llama3", "there is no chat template 'llama3' here"),
        ("llama-server --chat-template-file t.txt", "does not end with .jinja"),
        ("llama-server --lora x", "--lora cannot be taken over: adapters and control vectors change the model"),
        ("llama-server --rope-scaling yarn", "--rope-scaling cannot be taken over"),
        ("llama-server --override-kv a=int:1", "--override-kv cannot be taken over"),
        ("llama-server --grammar-file g", "Leave the flag out, and pass schema= to chat()."),
        ("llama-server -md draft.gguf", "-md cannot be taken over: there is no speculative decoding"),
        ("llama-server -ot exps=CPU", "-ot cannot be taken over"),
        ("llama-server --mirostat 2", "--mirostat cannot be taken over"),
        ("llama-server --context-shift", "--context-shift cannot be taken over"),
        ("llama-server --draft 5", "the flag has been removed"),
        ("llama-server --help", "--help cannot be taken over: with it llama-server prints something and ends"),
        ("lmdeploy serve api_server", "The command names no model"),
        ("lmdeploy serve api_server a b", "a word that belongs to no flag"),
        ("lmdeploy serve api_server a --api-keys b --model-formt awq", "Did you mean --model-format?"),
        ("lmdeploy serve api_server a --max 5", "has no flag --max. Did you mean --max-concurrent-requests or "),
        ("lmdeploy serve api_server a --tp --dp 1", "--tp lacks its value"),
        ("lmdeploy serve api_server a --backend pytorch", "--backend: 'pytorch' is not legal for backend"),
        ("lmdeploy serve api_server a --quant-policy fp8", "--quant-policy: 'fp8' is not legal for quant_policy"),
        ("lmdeploy serve api_server a --cache-block-seq-len 32", "is not legal for cache_block_seq_len"),
        ("lmdeploy serve api_server a --log-level error", "--log-level: 'error' is not legal for log_level"),
        ("lmdeploy serve api_server a --dp 2", "--dp cannot be taken over"),
        ("lmdeploy serve api_server a --chat-template b", "Prompts are made with the checkpoint's own template."),
        ("x" * 200_000, "The command has 200000 characters"),
        (5, "neither text nor a list of words"),
        (["llama-server", 5], "neither text nor a list of words"),
        ([], "The command is empty"),
    ],
)
def test_faults_are_one_error_that_says_what_to_do(text: Any, said: str) -> None:
    with pytest.raises(PresetError) as caught:
        fastinfer.from_command(text)
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_secret_is_in_no_error() -> None:
    for more in ("--api-key sk-1 sk-2", "--hf-token", "-hft sk-1 --nonsense", "--api-key sk-1 -c x"):
        with pytest.raises(PresetError) as caught:
            read(more)
        assert "sk-" not in str(caught.value)


def test_a_secret_may_be_a_variable() -> None:
    text = "HF_TOKEN=$HF_TOKEN llama-server -m m.gguf --api-key $KEY"
    assert fastinfer.from_command(text).to_command() == text.replace("$KEY", "$API_KEY")


def test_a_name_cannot_be_empty() -> None:
    with pytest.raises(PresetError, match="name is empty"):
        fastinfer.from_command(LLAMA, name="")


@pytest.mark.parametrize("program", ["lmdeploy serve api_server", "llama-server -c 5", "'", ""])
def test_another_program_must_start_the_same_server(program: str) -> None:
    with pytest.raises(PresetError):
        fastinfer.preset("balanced").to_command(program=program)


def test_what_cannot_be_said_to_a_server_is_an_error() -> None:
    with pytest.raises(PresetError, match=r"\.jinja"):
        fastinfer.preset("balanced").replace(chat_template="mine").to_command()
