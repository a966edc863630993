"""OpenAI's batch format: lines to requests, replies to lines. No engine."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.chat.results import Reply, Usage
from fastinfer.engines.chat import TokenLogprob
from fastinfer.errors import EngineError, MessageError, PromptTooLongError, SchemaError
from fastinfer.jobs.openai_batch import (
    ENDPOINT,
    BatchLine,
    answer,
    canonical,
    output_line,
    read_lines,
    read_request,
    refusal,
    unanswered,
)
from fastinfer.prompts.messages import normalise
from fastinfer.replies import CompiledSchema, ToolCall

MESSAGES = [{"role": "user", "content": "Xin chào"}]
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def written(**changes: Any) -> bytes:
    """A line as OpenAI's documentation has it; a change to ``...`` leaves a key out."""
    line = {"custom_id": "one", "method": "POST", "url": ENDPOINT, "body": {"messages": MESSAGES}, **changes}
    return json.dumps({key: value for key, value in line.items() if value is not ...}).encode()


def read(*lines: bytes) -> list[BatchLine]:
    return list(read_lines(io.BytesIO(b"\n".join(lines))))


def options(**body: Any) -> dict[str, Any]:
    """The options of a body, without the seed."""
    chosen: dict[str, Any] = dict(read_request({"messages": MESSAGES, **body}).options)
    del chosen["seed"]
    return chosen


# ---- lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_is_a_request(end: bytes) -> None:
    (line,) = read_lines(io.BytesIO(written(custom_id="số 1", body={"messages": MESSAGES}) + end))
    assert line == BatchLine(1, "số 1", {"messages": MESSAGES})


@pytest.mark.parametrize(
    ("raw", "custom_id", "code", "said"),
    [
        (b"", None, "invalid_json_line", "is blank"),
        (b" \t", None, "invalid_json_line", "is blank"),
        (b"\xef\xbb\xbf" + written(), None, "invalid_json_line", "byte order mark"),
        (b'{"a" 1}', None, "invalid_json_line", "is not JSON: Expecting ':' delimiter at character 6."),
        (written() + b" {}", None, "invalid_json_line", "is not JSON"),
        (b'{"custom_id": "\xff"}', None, "invalid_json_line", "is not UTF-8 at byte 15"),
        (b"[1]", None, "invalid_json_line", "a list"),
        (b'{"a": NaN}', None, "invalid_json_line", "is not JSON"),
        (b"[" * 100_000, None, "invalid_json_line", "is not JSON"),
        (b"1" * 5_000, None, "invalid_json_line", "is not JSON"),
        (written(custom_id=...), None, "invalid_request", 'no "custom_id"'),
        (written(custom_id=None), None, "invalid_request", 'no "custom_id"'),
        (written(custom_id=7), None, "invalid_request", "custom_id 7"),
        (written(custom_id=""), None, "invalid_request", "not empty"),
        (written(custom_id="\ud800"), None, "invalid_request", "surrogate"),
        (written(method="GET"), "one", "invalid_request", "Write POST"),
        (written(method=...), "one", "invalid_request", "Write POST"),
        (written(url="/v1/embeddings"), "one", "url_mismatch", f"Only {ENDPOINT}"),
        (written(url=...), "one", "url_mismatch", f"Only {ENDPOINT}"),
        (written(body=...), "one", "invalid_request", "no body"),
        (written(body=[]), "one", "invalid_request", "a list"),
        (written(boddy={}), "one", "invalid_request", "'boddy'"),
    ],
    ids=range(22),
)
def test_a_line_that_is_wrong_says_so_and_its_siblings_are_read(
    raw: bytes, custom_id: str | None, code: str, said: str
) -> None:
    before, wrong, after = read(written(custom_id="before"), raw, written(custom_id="after"))
    assert (before.custom_id, after.custom_id, before.code, after.code) == ("before", "after", "", "")
    assert (wrong.number, wrong.custom_id, wrong.body, wrong.code) == (2, custom_id, None, code)
    assert wrong.message.startswith("Line 2 ")
    assert said in wrong.message


def test_an_id_is_for_one_line_and_the_first_has_it() -> None:
    lines = read(
        written(custom_id="a"), written(custom_id="b"), written(custom_id="a"), written(custom_id="a", url="/")
    )
    assert [line.code for line in lines] == ["", "", "duplicate_custom_id", "duplicate_custom_id"]
    assert [line.custom_id for line in lines] == ["a", "b", "a", "a"]


def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastinfer.jobs.openai_batch.lines._LONGEST", 200)
    long = written(body={"messages": "x" * 1000})
    first, wrong, last = read(written(), long, written(custom_id="two"))
    assert (first.code, wrong.code, last.code, last.number) == ("", "invalid_request", "", 3)
    assert "longer than 200 bytes" in wrong.message


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.binary(max_size=40)))
def test_whatever_is_in_a_file_every_line_is_answered(pieces: list[bytes]) -> None:
    data = b"\n".join(pieces)
    lines = list(read_lines(io.BytesIO(data)))
    assert [line.number for line in lines] == list(range(1, len(io.BytesIO(data).readlines()) + 1))
    assert all(line.code and line.message for line in lines)


def test_a_long_file_is_read_in_little_memory() -> None:
    class Endless(io.RawIOBase):
        number = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.number += 1
            if self.number > 5_000:
                return b""
            return written(custom_id=f"request-{self.number}", body={"messages": "x" * 500}) + b"\n"

    tracemalloc.start()
    try:
        assert sum(not line.code for line in read_lines(Endless())) == 5_000  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# ---- requests


def test_options_have_their_names_and_null_is_left_out() -> None:
    same = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "repeat_penalty": 1.2, "repeat_last_n": 9,
        "frequency_penalty": 0.1, "presence_penalty": -0.1, "stop": ["a"], "grammar": 'root ::= "a"',
        "thinking_budget": 0, "chat_template_kwargs": {"x": 1}, "ignore_eos": False,
    }  # fmt: skip
    assert options(**same) == same
    assert options(**dict.fromkeys(same), seed=None, tools=None, n=None, response_format=None) == {}
    assert read_request({"messages": MESSAGES, "seed": 3}).options == {"seed": 3}


@pytest.mark.parametrize(
    ("body", "becomes"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": False}, {}),
        ({"logit_bias": {"60": 2.5, "61": -100}}, {"logit_bias": {60: 2.5, 61: -100}}),
        ({"logit_bias": {}}, {}),
        ({"tools": [TOOL]}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "none"}, {}),
        ({"tools": []}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"n": 1, "stream": False, "modalities": ["text"]}, {}),
        ({"model": "gpt-4o", "metadata": {"a": "b"}, "user": "u", "store": True, "service_tier": "flex"}, {}),
    ],
)
def test_fields_of_other_names_are_translated(body: dict[str, Any], becomes: dict[str, Any]) -> None:
    assert options(**body) == becomes


@pytest.mark.parametrize(
    ("body", "schema"),
    [
        ({"response_format": {"type": "json_object"}}, {"type": "object"}),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, SCHEMA),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}, SCHEMA),
        ({"json_schema": SCHEMA}, SCHEMA),
        ({"json_schema": SCHEMA, "tools": [TOOL], "tool_choice": "none"}, SCHEMA),
    ],
)
def test_a_form_of_the_answer_is_a_schema_that_is_compiled_once(body: dict[str, Any], schema: dict[str, Any]) -> None:
    compiled = options(**body)["schema"]
    assert isinstance(compiled, CompiledSchema)
    assert json.dumps(compiled.json_schema) == json.dumps(schema)
    assert options(**body, temperature=0)["schema"] is compiled


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": None}, 'no list of "messages"'),
        ({"messages": "hello"}, 'no list of "messages"'),
        ({"temprature": 1}, "Did you mean 'temperature'"),
        ({"functions": []}, 'Use "tools"'),
        ({"reasoning_effort": "low"}, "thinking_budget"),
        ({"n": 2}, "n: 2 is not supported"),
        ({"n": True}, "n: True"),
        ({"stream": True}, "stream: True"),
        ({"stream_options": {}}, "'stream_options'"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"max_tokens": 0}, "above 0"),
        ({"max_completion_tokens": True}, "above 0"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "Leave one"),
        ({"logprobs": 5}, "top_logprobs"),
        ({"top_logprobs": 5}, "without logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "0 to 20"),
        ({"logit_bias": {"the": 1}}, "number of a token"),
        ({"logit_bias": {"9" * 5000: 1}}, "number of a token"),
        ({"logit_bias": [[1, 2]]}, "number of a token"),
        ({"tool_choice": "required", "tools": [TOOL]}, "the model decides"),
        ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, "the model decides"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "json_schema": SCHEMA}, "Leave one"),
        ({"response_format": {"type": "json_object"}, "tools": [TOOL]}, "no tool could ever be called"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]}, "not part of the file"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a.png"}]}]}, "not part of"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}]}, "not"),
    ],
)
def test_what_is_not_supported_is_refused(body: dict[str, Any], said: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_request({"messages": MESSAGES, **body})
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_schema_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(SchemaError):
        options(response_format={"type": "json_schema", "json_schema": {"name": "n"}})
    with pytest.raises(SchemaError):
        options(json_schema={"type": "nonsense"})


def test_an_image_within_the_file_is_taken() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    assert read_request({"messages": messages}).messages == messages


def test_defaults_hold_where_a_body_leaves_them_out() -> None:
    common = {"max_tokens": 9, "temperature": 0.0, "seed": 4}
    assert read_request({"messages": MESSAGES}, common).options == common
    body = {"messages": MESSAGES, "max_completion_tokens": 5, "temperature": None, "seed": 1}
    assert read_request(body, common).options == {"max_tokens": 5, "temperature": 0.0, "seed": 1}


def test_a_system_message_is_for_conversations_without_one() -> None:
    asked = read_request({"messages": MESSAGES}, system="Be kind.").messages
    assert asked == [{"role": "system", "content": "Be kind."}, *MESSAGES]
    for role in ("system", "developer"):
        messages = [{"role": role, "content": "Be short."}, *MESSAGES]
        assert read_request({"messages": messages}, system="Be kind.").messages == messages


def test_a_seed_follows_from_what_is_asked() -> None:
    def seed(**body: Any) -> int:
        chosen = read_request({"messages": MESSAGES, **body}).options["seed"]
        assert isinstance(chosen, int)
        return chosen

    assert seed() == seed(model="another", user="u") == seed(temperature=None)
    assert seed(top_k=1, top_p=0.5) == seed(top_p=0.5, top_k=1)
    bodies: list[dict[str, Any]] = [
        {},
        {"temperature": 0.5},
        {"json_schema": {"properties": {"a": {}, "b": {}}}},
        {"json_schema": {"properties": {"b": {}, "a": {}}}},
        {"messages": [{"role": "user", "content": "Xin chao"}]},
    ]
    seeds = [seed(**body) for body in bodies]
    assert len(set(seeds)) == len(bodies)
    assert all(0 <= each <= 2**32 - 2 for each in seeds)


def test_what_is_asked_is_told_apart_by_all_that_decides_the_reply() -> None:
    one, same, other = (
        read_request({"messages": MESSAGES, **body})
        for body in ({"max_tokens": 5, "seed": 1}, {"seed": 1, "max_completion_tokens": 5, "user": "u"}, {"seed": 1})
    )
    assert canonical(one.messages, one.options) == canonical(same.messages, same.options)
    assert canonical(one.messages, one.options) != canonical(other.messages, other.options)


# ---- responses


def completed(reply: Reply) -> dict[str, Any]:
    return output_line(3, "one", answer(reply, model="m.gguf", request="0a", configuration="00ff"))


def test_a_reply_is_a_chat_completion() -> None:
    line = completed(Reply("Chào.", reasoning="Hm.", finish_reason="length", usage=Usage(7, 3, 2)))
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert list(line["response"]) == ["status_code", "request_id", "body"]
    assert (line["custom_id"], line["response"]["status_code"], line["error"]) == ("one", 200, None)
    assert line["id"].startswith("batch_req_")
    body = line["response"]["body"]
    assert body.pop("id").startswith("chatcmpl-")
    assert body == {
        "object": "chat.completion",
        "created": 0,
        "model": "m.gguf",
        "system_fingerprint": "fp_00ff",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Chào.", "refusal": None, "reasoning_content": "Hm."},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }


def test_tool_calls_have_their_arguments_as_text() -> None:
    call = ToolCall("call_0", "add", {"a": 1, "b": "số \ud83d"}, "raw")
    line = completed(Reply("", finish_reason="tool_calls", tool_calls=(call,)))
    message = line["response"]["body"]["choices"][0]["message"]
    assert message["content"] is None
    (told,) = message["tool_calls"]
    assert (told["id"], told["type"], told["function"]["name"]) == ("call_0", "function", "add")
    assert told["function"]["arguments"].encode() == '{"a": 1, "b": "số \\ud83d"}'.encode()
    assert json.loads(told["function"]["arguments"]) == call.arguments


def test_a_message_can_be_sent_back() -> None:
    call = ToolCall("call_0", "add", {"a": 1}, "raw")
    for reply in (Reply("Chào.", reasoning="Hm."), Reply("", finish_reason="tool_calls", tool_calls=(call,))):
        message = completed(reply)["response"]["body"]["choices"][0]["message"]
        assert normalise([*MESSAGES, message]).messages[-1].role == "assistant"


def test_log_probabilities_have_openais_form() -> None:
    tokens = (TokenLogprob("é", b"\xc3\xa9", -0.5, (("é", -0.5), ("\ufffd", -float("inf")))),)
    logprobs = completed(Reply("é", logprobs=tokens))["response"]["body"]["choices"][0]["logprobs"]
    alternatives = [
        {"token": "é", "bytes": [195, 169], "logprob": -0.5},
        {"token": "\ufffd", "bytes": None, "logprob": -9999.0},
    ]
    content = [{"token": "é", "bytes": [195, 169], "logprob": -0.5, "top_logprobs": alternatives}]
    assert logprobs == {"content": content, "refusal": None}


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (MessageError("No.", hint="Do."), 400, "invalid_request_error", None),
        (
            PromptTooLongError("No.", hint="Do.", tokens=9, limit=8),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (EngineError("No.", hint="Do."), 500, "server_error", None),
    ],
)
def test_a_request_that_is_refused_has_the_response_of_a_server(
    error: Any, status: int, kind: str, code: str | None
) -> None:
    line = output_line(1, "one", refusal(error))
    assert (line["response"]["status_code"], line["error"]) == (status, None)
    told = line["response"]["body"]["error"]
    assert told == {"message": "No. Do.", "type": kind, "param": None, "code": code}


def test_a_line_that_is_no_request_has_an_error_and_no_response() -> None:
    line = output_line(4, None, unanswered("invalid_json_line", "Line 4 is blank."))
    assert line["id"].startswith("batch_req_")
    del line["id"]
    error = {"code": "invalid_json_line", "message": "Line 4 is blank."}
    assert line == {"custom_id": None, "response": None, "error": error}


def test_every_line_has_its_own_id_and_always_the_same() -> None:
    results = [answer(Reply(text), model="m", request="0a", configuration="00") for text in "ab"]
    lines = [output_line(n, c, r) for n in (1, 2) for c in ("a", "b", None) for r in results]
    assert len({line["id"] for line in lines}) == len({line["response"]["request_id"] for line in lines}) == len(lines)
    assert lines == [output_line(n, c, r) for n in (1, 2) for c in ("a", "b", None) for r in results]


def test_lines_are_what_openais_own_classes_read() -> None:
    types = pytest.importorskip("openai.types.chat", reason="the package openai is not installed")
    call = ToolCall("call_0", "add", {"a": 1}, "raw")
    tokens = (TokenLogprob("a", b"a", -0.5, (("a", -0.5),)),)
    for reply in (Reply("Chào.", usage=Usage(7, 3, 2), logprobs=tokens), Reply("", tool_calls=(call,))):
        body = completed(reply)["response"]["body"]
        read_back = types.ChatCompletion.model_validate(body, strict=True)
        assert read_back.choices[0].message.content == (reply.text or None)
        assert not read_back.model_extra
