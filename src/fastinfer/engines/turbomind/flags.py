"""Where every documented option of ``lmdeploy serve api_server`` goes when TurboMind runs in this process.

Two tables: :data:`FLAGS` has each option, with the field of LMDeploy's configuration that it fills or the reason why it
has no place here, and :data:`FURTHER_FIELDS` the fields that are set without an option. Together they name every field
that :mod:`fastinfer.engines.turbomind.configs` sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FLAGS", "FURTHER_FIELDS", "Destination", "Flag", "FurtherField"]

#: ``"engine"`` is TurbomindEngineConfig, ``"vision"`` VisionConfig, ``"fastinfer"`` this library, ``"none"`` nowhere.
Destination = Literal["engine", "vision", "fastinfer", "none"]


@dataclass(frozen=True, slots=True)
class Flag:
    """What becomes of one server option.

    Attributes:
        flag: the option, for example ``"--session-len"``; ``"model_path"`` is the positional argument.
        field: the preset's field for it; empty where there is none.
        goes_to: what takes it.
        target: the field of LMDeploy's class, or what this library does with it; empty where it goes nowhere.
        why: how its value becomes the target's, or why it has no place.
    """

    flag: str
    field: str
    goes_to: Destination
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class FurtherField:
    """A field of TurbomindEngineConfig that is set without a documented option.

    Attributes:
        target: the field.
        value: what it is set to, in words.
        why: the reason.
    """

    target: str
    value: str
    why: str


_NO_HTTP: Final = "There is no HTTP server: the engine runs in the calling process."

FLAGS: Final[tuple[Flag, ...]] = (
    Flag("model_path", "model", "fastinfer", "the checkpoint that is loaded", "It is found and checked first."),
    Flag("--backend", "backend", "fastinfer", "the engine that is built", "Only TurboMind, never LMDeploy's fallback."),
    Flag(
        "--max-concurrent-requests",
        "max_concurrent_requests",
        "fastinfer",
        "the admission limit",
        "LMDeploy checks it in its HTTP server alone. Here further callers wait, or get QueueFullError if they ask to.",
    ),
    Flag(
        "--log-level",
        "log_level",
        "fastinfer",
        "the level of the logger lmdeploy and TM_LOG_LEVEL",
        "The compiled library reads the variable once in a process.",
    ),
    Flag(
        "--session-len",
        "session_len",
        "engine",
        "session_len",
        "The preset's value is the limit of a request and is checked here. TurboMind bounds all prompts of a pass with "
        "the same number, so it gets room for many of them.",
    ),
    Flag(
        "--max-batch-size",
        "max_batch_size",
        "engine",
        "max_batch_size",
        "Raised so that as many images are computed together: TurboMind counts a request for two passes after its own, "
        "and every further row of a label of several tokens is a request.",
    ),
    Flag("--cache-max-entry-count", "cache_max_entry_count", "engine", "cache_max_entry_count", "As it is."),
    Flag("--cache-block-seq-len", "cache_block_seq_len", "engine", "cache_block_seq_len", "As it is."),
    Flag(
        "--max-prefill-token-num",
        "max_prefill_token_num",
        "engine",
        "max_prefill_token_num",
        "Raised to a batch of prompts: TurboMind encodes an image again for every piece of its prompt.",
    ),
    Flag(
        "--quant-policy",
        "quant_policy",
        "engine",
        "quant_policy",
        "4 becomes 8 for attention heads that are not 128 wide, on which TurboMind's int4 cache ends the process.",
    ),
    Flag(
        "--vision-max-batch-size",
        "vision_max_batch_size",
        "vision",
        "max_batch_size",
        "Handed on, but TurboMind of LMDeploy 0.18 does not read it: it encodes the images of the prompts in a pass.",
    ),
    Flag("--dtype", "dtype", "engine", "dtype", "auto becomes what the checkpoint was saved in."),
    Flag("--tp", "tp", "engine", "tp", "As it is, for each replica."),
    Flag("--model-format", "model_format", "engine", "model_format", "auto becomes None: read from the checkpoint."),
    Flag(
        "--trust-remote-code",
        "trust_remote_code",
        "fastinfer",
        "loading the configuration and the tokenizer",
        "It is an argument of LMDeploy's loader and no field of its configuration.",
    ),
    Flag(
        "--revision",
        "model",
        "fastinfer",
        "@revision in the model's name",
        "Files are fetched by this library, and the engine gets a folder.",
    ),
    Flag("--download-dir", "", "none", "", "Files are fetched into Hugging Face's cache; HF_HOME moves it."),
    Flag(
        "--enable-prefix-caching",
        "",
        "engine",
        "enable_prefix_caching",
        "Always on: labels of several tokens read the prompt again.",
    ),
    Flag("--disable-metrics", "", "engine", "enable_metrics", "Always off: the server's counters, and their package."),
    Flag("--chat-template", "", "none", "", "Prompts are made with the checkpoint's own template."),
    Flag("--disable-fastapi-docs", "", "none", "", _NO_HTTP),
    Flag("--server-name", "", "none", "", _NO_HTTP),
    Flag("--server-port", "", "none", "", _NO_HTTP),
    Flag("--api-keys", "", "none", "", _NO_HTTP),
    Flag("--ssl", "", "none", "", _NO_HTTP),
    Flag("--allow-origins", "", "none", "", _NO_HTTP),
    Flag("--model-name", "", "none", "", "The name that a server's clients call the model by. " + _NO_HTTP),
)

FURTHER_FIELDS: Final[tuple[FurtherField, ...]] = (
    FurtherField(
        "devices",
        "tp GPUs of the preset's devices",
        "The server takes its GPUs from CUDA_VISIBLE_DEVICES; here each replica is told its own.",
    ),
    FurtherField(
        "enable_prefix_caching",
        "True",
        "Labels of several tokens read the same prompt, image included, several times; only its end is computed again.",
    ),
    FurtherField(
        "cache_prompt",
        "'all'",
        "Otherwise only whole blocks of 64 tokens are found again, and blocks that end inside an image.",
    ),
    FurtherField(
        "enable_metrics",
        "False",
        "The server's counters take time in each step and need a package that is not installed with it.",
    ),
)
