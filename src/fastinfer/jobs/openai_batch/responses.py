"""The lines of a batch's output: responses and errors in one file, under OpenAI's field names.

OpenAI writes two files of the same form, one for what succeeded and one for what failed; here both are in the order of
the requests. A request that was read and could not be answered has a ``response`` with a ``status_code`` from 400 on.
A line that is no request, and a reply that ended before it was complete, have an ``error`` and no response.

Every value follows from the request, the reply and the configuration, so that a job writes the same bytes whenever and
in however many pieces it is computed: ids are hashes; ``created`` is 0, as the time would differ; ``usage`` does not
say how many tokens of the prompt were cached, because that depends on what came before. ``system_fingerprint`` is the
configuration.

What is written can be sent again: a ``message`` may stand among the messages of a conversation as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastinfer.chat.results import Reply
from fastinfer.engines.chat import TokenLogprob
from fastinfer.errors import EngineError, FastInferError, PromptTooLongError
from fastinfer.replies import ToolCall
from fastinfer.tables.rows import readable

from .requests import digest

__all__ = ["answer", "output_line", "refusal", "unanswered"]

#: Written in place of a log-probability that is lower, as OpenAI does.
_LEAST = -9999.0


def answer(reply: Reply, *, model: str, request: str, configuration: str) -> dict[str, Any]:
    """What became of a request that was answered.

    Log-probabilities are those of all tokens, of the reasoning, of tool calls and of the one that ends the reply, too.

    Args:
        reply: without an error.
        model: what answered.
        request: what stands for the request, for the id.
        configuration: what stands for everything else that decided the reply.
    """
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["content"] = reply.text or None
        message["tool_calls"] = [_tool_call(call) for call in reply.tool_calls]
    logprobs = None
    if reply.logprobs is not None:
        logprobs = {"content": [_logprob(token) for token in reply.logprobs], "refusal": None}
    usage = reply.usage
    body = {
        "id": f"chatcmpl-{digest(request, configuration)}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "system_fingerprint": f"fp_{configuration}",
        "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": reply.finish_reason}],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        },
    }
    return {"response": {"status_code": 200, "body": body}, "error": None}


def refusal(error: FastInferError) -> dict[str, Any]:
    """What became of a request that was read and not answered: a response with the status that a server would send."""
    if isinstance(error, EngineError):
        status, kind, code = 500, "server_error", None
    else:
        status, kind = 400, "invalid_request_error"
        code = "context_length_exceeded" if isinstance(error, PromptTooLongError) else None
    told = {"message": readable(str(error)), "type": kind, "param": None, "code": code}
    return {"response": {"status_code": status, "body": {"error": told}}, "error": None}


def unanswered(code: str, message: str) -> dict[str, Any]:
    """What became of a line for which there is no response, with OpenAI's code for why."""
    return {"response": None, "error": {"code": code, "message": readable(message)}}


def output_line(number: int, custom_id: str | None, result: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the output.

    Args:
        number: the request's line in the input, from 1.
        custom_id: the request's, or None where it could not be read.
        result: what became of it, as the functions above have it.
    """
    line = digest(str(number), custom_id or "", json.dumps(result))
    response = result["response"]
    if response is not None:
        response = {"status_code": response["status_code"], "request_id": digest("request", line), **response}
    return {"id": f"batch_req_{line}", "custom_id": custom_id, "response": response, "error": result["error"]}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    # Half a surrogate pair, which a model can write and UTF-8 cannot hold, becomes what is JSON's escape for it, too.
    arguments = readable(json.dumps(call.arguments, ensure_ascii=False))
    return {"id": call.id, "type": "function", "function": {"name": readable(call.name), "arguments": arguments}}


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token,
        "bytes": list(token.bytes),
        "logprob": max(token.logprob, _LEAST),
        # An alternative of incomplete characters is known by what it is shown as alone.
        "top_logprobs": [
            {
                "token": text,
                "bytes": None if "\ufffd" in text else list(text.encode()),
                "logprob": max(logprob, _LEAST),
            }
            for text, logprob in token.top
        ],
    }
