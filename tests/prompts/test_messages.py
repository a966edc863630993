"""Messages in OpenAI's form are read; anything else is refused with the message at fault and what to do."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastinfer.errors import MessageError
from fastinfer.prompts import ToolCall, normalise


def one(message):
    return normalise([message]).messages[0]


def call(**function):
    return {"id": "c1", "type": "function", "function": function}


def calling(*calls):
    return [{"role": "assistant", "tool_calls": list(calls)}]


def showing(**part):
    return [{"role": "user", "content": [part]}]


USER = {"role": "user", "content": "hello"}
REFUSED = {
    "None": (None, "Messages are of type NoneType"),
    "a number": (3, "Messages are of type int"),
    "bytes": (b"hello", "Messages are of type bytes"),
    "one dict": (USER, "Messages are of type dict"),
    "no messages": ([], "There are no messages"),
    "a number among them": ([USER, 123], "Message 1 is of type int"),
    "None among them": ([None], "Message 0 is of type NoneType"),
    "a str among them": (["hello"], "Message 0 is of type str"),
    "an empty dict": ([{}], 'Message 0 has no "role"'),
    "no role": ([{"content": "hello"}], 'Message 0 has no "role"'),
    "a misspelt role": ([USER, {"role": "asistant", "content": ""}], "Did you mean 'assistant'?"),
    "a role in capitals": ([{"role": "User", "content": ""}], "Did you mean 'user'?"),
    "the role of another library": ([{"role": "function", "content": ""}], "unknown role 'function'"),
    "a role of None": ([{"role": None, "content": ""}], "unknown role None"),
    "a role that is a list": ([{"role": ["user"], "content": ""}], "unknown role ['user']"),
    "no content": ([{"role": "user"}], 'Message 0 has no "content"'),
    "content None": ([{"role": "user", "content": None}], "has the content None"),
    "an assistant without content": ([{"role": "assistant"}], "Only an assistant's message with tool_calls"),
    "an assistant without calls": ([{"role": "assistant", "content": None, "tool_calls": []}], "has the content None"),
    "a number as content": ([{"role": "user", "content": 5}], "its content is of type int"),
    "bytes as content": ([{"role": "user", "content": b"hello"}], "its content is of type bytes"),
    "a dict as a tool's content": ([{"role": "tool", "content": {"a": 1}}], "pass json.dumps(...)"),
    "no parts": ([{"role": "user", "content": []}], "its content is an empty list"),
    "a str as a part": ([{"role": "user", "content": ["hello"]}], "Message 0, part 0 is of type str"),
    "a part without type": ([{"role": "user", "content": [{"text": "a"}]}], 'part 0 has the unknown "type" None'),
    "a part of audio": (showing(type="input_audio"), "'input_audio'"),
    "a part without text": (showing(type="text"), 'its "text" is of type NoneType'),
    "a lone surrogate": ([{"role": "user", "content": "a\ud800"}], "lone surrogate, U+D800, at position 1"),
    "a lone surrogate in a part": (showing(type="text", text="\udfff"), 'Message 0, part 0: its "text" holds'),
    "a lone surrogate, plain": ("\udc80", "The message holds a lone surrogate"),
    "an unknown key": ([{**USER, "contents": "a"}], "unknown key 'contents'"),
    "a key that is no str": ([{**USER, 5: "a"}], "unknown key 5"),
    "tool calls of a user": ([{**USER, "tool_calls": []}], "unknown key 'tool_calls'"),
    "a call of the old kind": ([{"role": "assistant", "content": "", "function_call": {"a": 1}}], 'Use "tool_calls"'),
    "a name that is a number": ([{**USER, "name": 5}], 'its "name" is of type int'),
    "an image of the system": (
        [{"role": "system", "content": [{"type": "image", "image": b"x"}]}],
        "an image in a message of role 'system'",
    ),
    "an image without image": (showing(type="image"), 'has no "image"'),
    "an image URL without URL": (showing(type="image_url", image_url={}), 'has no "url"'),
    "an image that is a number": (showing(type="image", image=5), "of type int"),
    "an empty path": (showing(type="image", image=""), "an empty text"),
    "a web address": (
        [USER, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}]}],
        "Message 1, part 0: URLs are not opened (https://a.b/c.png). Download the image first",
    ),
    "a file URL": (showing(type="image", image="file:///a.png"), "URLs are not opened"),
    "a data URL without base64": (showing(type="image_url", image_url="data:image/png,abc"), "is not base64"),
    "damaged base64": (showing(type="image_url", image_url="data:image/png;base64,a$b="), "is damaged"),
    "an empty data URL": (showing(type="image_url", image_url="data:image/png;base64,"), "is empty"),
    "calls that are no list": ([{"role": "assistant", "tool_calls": "f"}], '"tool_calls" are of type str'),
    "a call that is no dict": (calling("f"), "tool call 0 is not a call of a function"),
    "a call without name": (calling(call(arguments="{}")), "its name is of type NoneType"),
    "a call with an empty name": (calling(call(name="")), "has an empty name"),
    "a call of another type": (calling({"type": "custom", "function": {"name": "f"}}), "has the type 'custom'"),
    "a call without arguments": (calling(call(name="f")), "arguments are of type NoneType"),
    "arguments that are no JSON": (calling(call(name="f", arguments="{a: 1}")), "its arguments are not JSON"),
    "arguments that are a list": (calling(call(name="f", arguments="[1]")), "its arguments are of type list"),
    "arguments with a set": (calling(call(name="f", arguments={"a": {1}})), "holds a set"),
    "arguments with numbers as keys": (calling(call(name="f", arguments={1: 2})), "a key is of type int"),
    "arguments of endless depth": (calling(call(name="f", arguments='{"a":' * 99 + "1" + "}" * 99)), "64 levels deep"),
    "arguments of more than endless depth": (calling(call(name="f", arguments='{"a":' * 99999)), "not JSON"),
}


@pytest.mark.parametrize(("bad", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_message_is_refused_with_the_reason_and_a_way_out(bad, words):
    with pytest.raises(MessageError) as error:
        normalise(bad)
    assert words in str(error.value)
    assert error.value.hint
    assert isinstance(error.value, ValueError)


def test_objects_of_openais_library_are_pointed_to_model_dump():
    class Reply:
        def model_dump(self):
            return {}

    with pytest.raises(MessageError, match=r"model_dump\(exclude_none=True\)"):
        normalise([Reply()])


def test_a_str_is_one_user_message():
    (message,) = normalise("hello").messages
    assert (message.role, message.content) == ("user", ("hello",))
    assert normalise("").messages[0].content == ("",)


def test_a_tuple_of_messages_is_read_like_a_list():
    assert normalise((USER,)).messages == normalise([USER]).messages


@pytest.mark.parametrize(
    ("given", "role"),
    [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant"), ("tool", "tool")],
)
def test_roles(given, role):
    assert one({"role": given, "content": "x"}).role == role


def test_texts_are_joined_by_line_breaks_but_not_beside_images():
    text = [{"type": "text", "text": t} for t in ("a", "b", "c", "d")]
    image = {"type": "image", "image": b"1"}
    assert one({"role": "user", "content": text}).content == ("a\nb\nc\nd",)
    mixed = [text[0], text[1], image, text[2], image, image, text[3]]
    assert one({"role": "user", "content": mixed}).content == ("a\nb", None, "c", None, None, "d")


def test_images_are_collected_in_order():
    array, picture = np.zeros((2, 2), np.uint8), Image.new("RGB", (2, 2))
    url = "data:image/png;base64," + base64.b64encode(b"png").decode()
    sources = [b"1", bytearray(b"2"), "a/b.png", Path("c.png"), array, picture]
    parts = [{"type": "image", "image": source} for source in sources]
    parts += [
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        {"type": "image_url", "image_url": url},
    ]
    parts += [{"type": "image", "image": url.replace("=", "%3D")}]
    conversation = normalise([{"role": "user", "content": parts[:4]}, {"role": "user", "content": parts[4:]}])
    assert all(a is b for a, b in zip(conversation.images, sources, strict=False))
    assert conversation.images[6:] == (b"png", b"png", b"png")
    assert [m.content for m in conversation.messages] == [(None,) * 4, (None,) * 5]


def test_calls_are_read_from_json_and_from_dicts():
    calls = [
        call(name="f", arguments='{"city": "Rome", "n": [1, null, true]}'),
        call(name="g", arguments={"a": (1, 2.5)}),
        {"function": {"name": "h", "arguments": ""}},
    ]
    message = one({"role": "assistant", "content": None, "tool_calls": calls})
    assert message.content == ()
    assert message.tool_calls == (
        ToolCall("f", {"city": "Rome", "n": [1, None, True]}, "c1"),
        ToolCall("g", {"a": [1, 2.5]}, "c1"),
        ToolCall("h", {}, ""),
    )


def test_a_tools_message_gets_the_name_from_its_call():
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call(name="f", arguments="{}")]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c1", "name": "own", "content": "1"},
        {"role": "tool", "tool_call_id": "other", "content": "1"},
    ]
    assert [m.name for m in normalise(messages).messages] == ["", "f", "own", ""]


def test_a_dump_of_openais_reply_is_read():
    dump = {"role": "assistant", "content": "hi", "refusal": None, "annotations": [], "audio": None}
    assert one({**dump, "function_call": None, "tool_calls": None}).content == ("hi",)


@pytest.mark.parametrize(
    ("message", "reasoning", "content"),
    [
        ({"content": "<think>\nhm\n</think>\n\nyes"}, "hm", "yes"),
        ({"content": "\n<seed:think>hm</seed:think>yes"}, "hm", "yes"),
        ({"content": "<think></think>yes"}, "", "yes"),
        ({"content": "<think>a</seed:think>"}, "", "<think>a</seed:think>"),
        ({"content": "the tag <think>x</think>"}, "", "the tag <think>x</think>"),
        ({"content": "<think>x</think>y", "reasoning_content": "own"}, "own", "<think>x</think>y"),
        ({"content": "y", "reasoning": "own"}, "own", "y"),
        ({"content": "y", "reasoning_content": None, "reasoning": ""}, "", "y"),
    ],
)
def test_reasoning_is_kept_apart_from_content(message, reasoning, content):
    read = one({"role": "assistant", **message})
    assert (read.reasoning, read.content) == (reasoning, (content,))


def test_a_users_tags_stay():
    assert one({"role": "user", "content": "<think>a</think>b"}).content == ("<think>a</think>b",)
