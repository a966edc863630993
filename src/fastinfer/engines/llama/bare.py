"""The bare engine: llama-cpp-python's own ``Llama``, set up and handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastinfer.engines.llama.binding import (
    ChatFormatterResponse,
    Llama,
    MTMDChatHandler,
    chat_formatter_to_chat_completion_handler,
)
from fastinfer.engines.llama.context import CACHE_TYPES
from fastinfer.errors import EngineOutOfMemoryError, ModelLoadError

__all__ = ["ModelTexts", "bare_llama", "set_template"]


def bare_llama(
    model: Path,
    *,
    projector: Path | None = None,
    on: dict[str, int],
    n_ctx: int,
    n_batch: int,
    n_ubatch: int,
    n_threads: int,
    flash_attn: bool,
    type_k: str,
    type_v: str,
) -> Llama:
    """A ready ``llama_cpp.Llama``, whose log goes to the logger ``fastinfer.llama``.

    Args:
        model: the GGUF file.
        projector: its mmproj file; messages may then hold images.
        on: what :func:`~fastinfer.engines.llama.devices.placement` returned.
        n_ctx, n_batch, n_ubatch: tokens.
        n_threads: CPU threads, for prompts and for generation.
        flash_attn: use flash attention.
        type_k, type_v: types of the cache, a key of ``CACHE_TYPES``.

    Raises:
        ModelLoadError: llama.cpp cannot load the file.
        EngineOutOfMemoryError: the cache or the buffers cannot be allocated.
    """
    # Llama takes any keyword and ignores those it does not know; a test holds these against its signature.
    keywords: dict[str, Any] = {
        **on,
        "n_ctx": n_ctx,
        "n_batch": n_batch,
        "n_ubatch": n_ubatch,
        "n_threads": n_threads,
        "n_threads_batch": n_threads,
        "flash_attn": flash_attn,
        "type_k": CACHE_TYPES[type_k],
        "type_v": CACHE_TYPES[type_v],
        "verbose": False,
    }
    if projector is not None:
        keywords["chat_handler"] = MTMDChatHandler(str(projector), verbose=False, use_gpu=on["n_gpu_layers"] != 0)
    try:
        return Llama(str(model), **keywords)
    except MemoryError as error:
        raise _out_of_memory(n_ctx) from error
    except ValueError as error:
        if "llama_context" in str(error):
            raise _out_of_memory(n_ctx) from error
        raise ModelLoadError(
            f"llama.cpp cannot load {model.name}.",
            hint="The logger 'fastinfer.llama' says why; the architecture may be newer than the installed "
            "llama-cpp-python, or the device's memory too small.",
        ) from error


def _out_of_memory(n_ctx: int) -> EngineOutOfMemoryError:
    return EngineOutOfMemoryError(
        f"llama.cpp could not create a context of {n_ctx} tokens.", hint="Lower n_ubatch, n_batch or n_ctx."
    )


class ModelTexts:
    """What a chat template needs to know of a model, read from a ``Llama``; "" and None where it has no such thing.

    Attributes:
        architecture: as the GGUF file names it.
        bos, eos: texts of the tokens that begin and end a text.
    """

    def __init__(self, engine: Llama | None = None) -> None:
        self._metadata: dict[str, str] = engine.metadata if engine else {}
        self.architecture = self._metadata.get("general.architecture", "")
        self.bos, self.eos = (
            (_special(engine, engine.token_bos()), _special(engine, engine.token_eos())) if engine else ("", "")
        )

    def chat_template(self, name: str | None = None) -> str | None:
        """The chat template in the GGUF file: the main one, or one with a name."""
        return self._metadata.get("tokenizer.chat_template" + (f".{name}" if name else ""))


def set_template(engine: Llama, render: Callable[..., str], stop: Sequence[str]) -> None:
    """Have ``create_chat_completion`` make prompts in another way than by the model's own template.

    Args:
        engine: the engine.
        render: gives a prompt for messages (with texts as contents) and ``tools=``.
        stop: strings that end a reply.
    """

    def format_chat(*, messages: Any, tools: Any = None, **_: Any) -> ChatFormatterResponse:
        prompt = render([{**message, "content": _text(message)} for message in messages], tools=tools)
        return ChatFormatterResponse(prompt=prompt, stop=list(stop), added_special=bool(bos) and prompt.startswith(bos))

    bos = _special(engine, engine.token_bos())
    engine.chat_handler = chat_formatter_to_chat_completion_handler(format_chat)


def _special(engine: Llama, token: int) -> str:
    return "" if token < 0 else engine.detokenize([token], special=True).decode("utf-8", "replace")


def _text(message: Any) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
