"""Conversations that are none, or too long: a typed error in their place, and every sibling's whole reply."""

from __future__ import annotations

import asyncio
import json

import pytest

import fastinfer
from fastinfer.errors import MessageError, PromptTooLongError
from fault_matrix import Fault, rows
from ways import all_chats, each_chat, stands_in_its_place

SIBLINGS = ["hello", "what is this?"]


def wrong(name, messages, words=""):
    return Fault("prompts", f"{name}, every way in", messages, MessageError, words)


FAULTS = (
    Fault("prompts", "over the context, every way in", "hello " * 2000, PromptTooLongError, "1024"),
    wrong("None", None),
    wrong("{}", {}),
    wrong("[]", []),
    wrong("[123]", [123]),
    wrong("[None]", [None]),
    wrong("[{}]", [{}]),
    wrong("an unknown role", [{"role": "wizard", "content": "hello"}], "wizard"),
    wrong("no content", [{"role": "user"}]),
    wrong("content is a number", [{"role": "user", "content": 7}]),
    wrong("an unknown part", [{"role": "user", "content": [{"type": "video", "video": "x"}]}], "video"),
    wrong("half a surrogate pair", "hello \ud800"),
    wrong("an image without a projector", [{"role": "user", "content": [{"type": "image", "image": b"x"}]}]),
)


@pytest.fixture(scope="module")
def answers(llm, asked):
    """What comes out of every way for all rows at once, each between two siblings."""
    many = [SIBLINGS[0], *(messages for fault in FAULTS for messages in (fault.inject, SIBLINGS[1]))]

    async def ask():
        found = {way: results async for way, results in all_chats(llm, many, **asked) if "raising" not in way}
        for number, fault in enumerate(FAULTS):
            async for way, results in all_chats(llm, [SIBLINGS[0], fault.inject, SIBLINGS[1]], **asked):
                if "raising" in way:
                    found[number, way] = results
            async for way, result in each_chat(llm, fault.inject, **asked):
                found[number, way] = [result]
        return found

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def whole(llm, asked):
    async def ask(messages):
        return [reply async for way, reply in each_chat(llm, messages, **asked)]

    replies = [asyncio.run(ask(messages)) for messages in SIBLINGS]
    assert all(reply == several[0] for several in replies for reply in several)
    return [several[0] for several in replies]


@pytest.mark.parametrize(**rows(FAULTS))
def test_it_is_a_typed_error_whichever_way_it_comes(fault, answers, whole, equal):
    number, errors = FAULTS.index(fault), []
    for way, found in answers.items():
        if isinstance(way, str):
            near, before = found[2 * number : 2 * number + 3], whole[bool(number)]
            errors.append(stands_in_its_place(way, near, [before, whole[1]], 1, equal))
        elif way[0] == number and len(found) > 1:
            errors.append(stands_in_its_place(way[1], found, whole, 1, equal))
        elif way[0] == number:
            errors += found
    assert len(errors) == 9
    for error in errors:
        assert type(error) is fault.error
        assert fault.words in error.message
        assert error.hint
    if fault.error is PromptTooLongError:
        assert all(error.tokens > error.limit == 1024 for error in errors)


def test_a_job_of_requests_says_it_in_the_place_of_each(llm, asked, whole, tmp_path):
    faults = [fault for fault in FAULTS if "surrogate" not in fault.name and "projector" not in fault.name]
    bodies = [SIBLINGS[0], *(fault.inject for fault in faults), SIBLINGS[1]]
    lines = []
    for number, messages in enumerate(bodies):
        given = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        options = {"max_tokens": asked["max_tokens"], "temperature": 0, "seed": 1, "ignore_eos": True}
        lines.append({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions",
                      "body": {"model": "any", "messages": given, **options}})  # fmt: skip
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    done = fastinfer.run(prompts, tmp_path / "replies.jsonl", using=llm)
    said = [json.loads(line) for line in done.output.read_text("utf-8").splitlines()]
    assert [line["custom_id"] for line in said] == [line["custom_id"] for line in lines]
    assert done.errors == len(faults)
    for place, expected in ((0, whole[0]), (-1, whole[1])):
        assert said[place]["response"]["body"]["choices"][0]["message"]["content"] == expected.text
    for line in said[1:-1]:
        assert line["error"] is not None or line["response"]["status_code"] == 400
