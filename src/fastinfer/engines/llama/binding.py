"""The one place that touches llama-cpp-python's low-level API (``llama_cpp`` and ``llama_cpp.mtmd_cpp``).

Written against 0.3.36. Importing this module checks the version and every name that is used, and sends the
library's log lines to the logger ``fastinfer.llama`` instead of the terminal.
"""

from __future__ import annotations

import ctypes
import logging
from types import SimpleNamespace
from typing import Any

from fastinfer.errors import EngineUnavailableError

try:
    import llama_cpp
    from llama_cpp import Llama, mtmd_cpp
    from llama_cpp.llama_chat_format import (
        ChatFormatterResponse,
        MTMDChatHandler,
        chat_formatter_to_chat_completion_handler,
    )
except (ImportError, OSError, RuntimeError) as error:  # llama_cpp raises each of them for a library that cannot load
    raise EngineUnavailableError(
        f"llama-cpp-python cannot be imported: {error}",
        hint="Reinstall it: pip install --force-reinstall 'llama-cpp-python>=0.3.36,<0.4' (a C++ compiler is needed).",
    ) from error

__all__ = [
    "QUICK_FUNCTIONS",
    "REQUIRED_CONTEXT",
    "REQUIRED_FUNCTIONS",
    "REQUIRED_MODEL",
    "VERSION",
    "ChatFormatterResponse",
    "Llama",
    "MTMDChatHandler",
    "chat_formatter_to_chat_completion_handler",
    "ggml",
    "llama",
    "mtmd",
    "quick",
]

#: The two modules, untyped: their ctypes signatures are checked by name below, not by the type checker.
llama: Any = llama_cpp
mtmd: Any = mtmd_cpp

#: The library itself with ggml's functions, untyped and for use with signatures of one's own.
ggml: Any = ctypes.CDLL(llama_cpp.llama_cpp._lib._name, handle=llama_cpp.llama_cpp._lib._handle)

VERSION: str = llama_cpp.__version__

REQUIRED_FUNCTIONS = {
    llama: (
        "llama_backend_init", "llama_batch", "llama_context_default_params", "llama_decode", "llama_free",
        "llama_get_logits", "llama_get_memory", "llama_init_from_model", "llama_log_set", "llama_logit_bias",
        "llama_memory_can_shift", "llama_memory_clear", "llama_memory_seq_pos_max", "llama_memory_seq_pos_min",
        "llama_model_chat_template", "llama_model_default_params", "llama_model_free", "llama_model_get_vocab",
        "llama_model_is_hybrid", "llama_model_is_recurrent", "llama_model_load_from_file", "llama_model_meta_val_str",
        "llama_model_n_ctx_train", "llama_model_n_embd_inp", "llama_model_n_swa", "llama_n_ctx_seq",
        "llama_perf_context", "llama_print_system_info", "llama_sampler_chain_add",
        "llama_sampler_chain_default_params",
        "llama_sampler_chain_init", "llama_sampler_clone", "llama_sampler_free", "llama_sampler_init_dist",
        "llama_sampler_init_grammar", "llama_sampler_init_logit_bias", "llama_sampler_init_min_p",
        "llama_sampler_init_penalties", "llama_sampler_init_temp", "llama_sampler_init_top_k",
        "llama_sampler_init_top_p", "llama_sampler_sample", "llama_sampler_seq_config", "llama_set_causal_attn",
        "llama_set_sampler", "llama_supports_gpu_offload", "llama_synchronize", "llama_token_data",
        "llama_token_data_array", "llama_token_to_piece", "llama_tokenize", "llama_vocab_bos", "llama_vocab_eos",
        "llama_vocab_get_add_bos", "llama_vocab_get_attr", "llama_vocab_get_text", "llama_vocab_is_eog",
        "llama_vocab_n_tokens",
    ),
    mtmd: (
        "mtmd_batch_add_chunk", "mtmd_batch_encode", "mtmd_batch_free", "mtmd_batch_get_output_embd",
        "mtmd_batch_init", "mtmd_bitmap_free", "mtmd_bitmap_init", "mtmd_context_params_default",
        "mtmd_decode_use_mrope", "mtmd_decode_use_non_causal", "mtmd_decoder_pos", "mtmd_encode_chunk", "mtmd_free",
        "mtmd_get_output_embd", "mtmd_helper_decode_image_chunk", "mtmd_helper_image_get_decoder_pos",
        "mtmd_helper_log_set", "mtmd_init_from_file", "mtmd_input_chunk_get_tokens_image",
        "mtmd_input_chunk_get_n_pos", "mtmd_input_chunk_get_n_tokens", "mtmd_input_chunk_get_tokens_text",
        "mtmd_input_chunk_get_type", "mtmd_input_chunks_free", "mtmd_input_chunks_get", "mtmd_input_chunks_init",
        "mtmd_input_chunks_size", "mtmd_input_part", "mtmd_input_text", "mtmd_log_set", "mtmd_support_vision",
        "mtmd_tokenize_from_parts",
    ),
}  # fmt: skip
REQUIRED_MODEL = ("load_mode", "main_gpu", "n_gpu_layers", "no_alloc", "split_mode")
REQUIRED_CONTEXT = (
    "flash_attn_type", "kv_unified", "n_outputs_max", "n_samplers", "n_seq_max", "samplers", "type_k", "type_v",
)  # fmt: skip
#: Short calls of the chat engine's step, made without giving up Python's lock: taking it back can cost 5 ms while
#: another thread is busy, and these take microseconds.
QUICK_FUNCTIONS = (
    "llama_get_logits_ith", "llama_memory_seq_add", "llama_memory_seq_cp", "llama_memory_seq_rm",
    "llama_sampler_accept", "llama_sampler_apply", "llama_sampler_sample",
)  # fmt: skip

_log = logging.getLogger("fastinfer.llama")
_log.addHandler(logging.NullHandler())
# ggml's levels: debug, information, warning, error, and 5 continues the line before. What ggml calls information is
# detail to our users, and its warnings are about settings that are meant, such as one context for many sequences.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, 4: logging.ERROR, 5: logging.DEBUG}


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _forward(level: int, text: bytes, _: object) -> None:
    wanted = _LEVELS.get(level, logging.DEBUG)
    if _log.isEnabledFor(wanted):
        _log.log(wanted, "%s", text.decode("utf-8", "replace").rstrip())


def _check() -> None:
    release = tuple(int(part) for part in VERSION.split(".")[:3] if part.isdigit())
    missing = [name for module, names in REQUIRED_FUNCTIONS.items() for name in names if not hasattr(module, name)]
    missing += [name for name in QUICK_FUNCTIONS if not hasattr(llama, name)]
    for parameters, names in (("llama_context_params", REQUIRED_CONTEXT), ("llama_model_params", REQUIRED_MODEL)):
        fields = {name for name, *_ in getattr(llama, parameters)._fields_}
        missing += [f"{parameters}.{name}" for name in names if name not in fields]
    if not (0, 3, 36) <= release < (0, 4) or missing:
        what = f" It lacks {', '.join(missing)}." if missing else ""
        raise EngineUnavailableError(
            f"llama-cpp-python {VERSION} is not supported.{what}",
            hint="Install a supported version: pip install 'llama-cpp-python>=0.3.36,<0.4'.",
        )


def _keeping_the_lock(names: tuple[str, ...]) -> Any:
    library = ctypes.PyDLL(llama_cpp.llama_cpp._lib._name, handle=llama_cpp.llama_cpp._lib._handle)
    functions = SimpleNamespace()
    for name in names:
        function, known = getattr(library, name), getattr(llama_cpp.llama_cpp._lib, name)
        function.argtypes, function.restype = known.argtypes, known.restype
        setattr(functions, name, function)
    return functions


_check()
#: The functions of :data:`QUICK_FUNCTIONS`.
quick: Any = _keeping_the_lock(QUICK_FUNCTIONS)
llama.llama_log_set(_forward, ctypes.c_void_p(0))
mtmd.mtmd_log_set(_forward, ctypes.c_void_p(0))
mtmd.mtmd_helper_log_set(_forward, ctypes.c_void_p(0))
llama.llama_backend_init()
