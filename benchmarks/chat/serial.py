"""llama-cpp-python's ``Llama``, which answers one conversation at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .workload import SAMPLING, Request, Run, drive


def open_serial(options: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Run], Callable[[], None]]:
    """Load the model with ``Llama`` and the context of one slot; its replies do not end early."""
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    started = time.perf_counter()
    kv = {"f16": 1, "q8_0": 8}[options["kv"]]
    llama = llama_cpp.Llama(
        options["model"],
        n_ctx=options["context"],
        n_batch=options["batch"],
        n_ubatch=options["micro_batch"],
        n_gpu_layers=-1 if options["gpu"] else 0,
        n_threads=options["threads"] or None,
        n_threads_batch=options["threads"] or None,
        type_k=kv,
        type_v=kv,
        flash_attn=True,
        last_n_tokens_size=int(SAMPLING["repeat_last_n"]),
        verbose=False,
    )
    sampling = {name: value for name, value in SAMPLING.items() if name != "repeat_last_n"}
    vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
    ends = [t for t in range(llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, t)]
    never = {str(t): -1000.0 for t in ends}
    handler = None
    if options["template"]:
        special = [llama.detokenize([t], special=True).decode() for t in (llama.token_eos(), llama.token_bos())]
        handler = Jinja2ChatFormatter(options["template"], *special).to_chat_handler()
        llama.chat_handler = handler

    def stream(request: Request) -> Iterator[Any]:
        found, reason = 0, None
        chunks = llama.create_chat_completion(
            request.messages, max_tokens=request.max_tokens, stream=True, logit_bias=never, **sampling
        )
        for chunk in chunks:
            choice = chunk["choices"][0]
            reason = choice["finish_reason"] or reason
            if content := choice["delta"].get("content"):
                found += 1
                yield content
        completion = request.max_tokens if reason == "length" else found
        # The last token that was drawn has not been evaluated.
        yield {"completion_tokens": completion, "prompt_tokens": llama.n_tokens + 1 - completion, "cached_tokens": 0}

    info = {
        "library": llama_cpp.llama_cpp._lib._name,
        "context": llama.n_ctx(),
        "start_seconds": round(time.perf_counter() - started, 1),
    }
    return info, lambda workload: drive(stream, replace(workload, clients=1)), llama.close
