"""Tools: OpenAI's dicts, completed; Python functions, described by their signatures."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.errors import MessageError
from fastinfer.prompts import normalise, normalise_tools


def tool(**function):
    return {"type": "function", "function": function}


def test_no_tools():
    assert normalise_tools(None) == normalise_tools([]) == []


def test_what_templates_take_for_granted_is_filled_in():
    (ready,) = normalise_tools([tool(name="f")])
    assert ready == tool(name="f", description="", parameters={"type": "object", "properties": {}})
    given = tool(
        name="f",
        description="d",
        parameters={"type": "object", "properties": {"a": {}}, "required": ["a"]},
        strict=True,
    )
    assert normalise_tools([given]) == [given]


def test_the_callers_dicts_are_not_changed():
    given = tool(name="f", parameters={})
    (ready,) = normalise_tools([given])
    assert given == tool(name="f", parameters={})
    assert ready["function"]["parameters"] == {"properties": {}}


REFUSED = {
    "a str": ("f", "Tools are of type str"),
    "one dict": (tool(name="f"), "Tools are of type dict"),
    "a number": (5, "Tools are of type int"),
    "None among them": ([None], "Tool 0 is of type NoneType"),
    "an empty dict": ([{}], "Tool 0 is not a function"),
    "another type": ([{"type": "web_search"}], "Tool 0 is not a function"),
    "a schema alone": ([{"name": "f", "parameters": {}}], "Tool 0 is not a function"),
    "no name": ([tool(description="d")], "its name is of type NoneType"),
    "an empty name": ([tool(name="")], "has the name ''"),
    "a name with a space": ([tool(name="get weather")], "has the name 'get weather'"),
    "a name that is a marker": ([tool(name="<think>")], "has the name '<think>'"),
    "two of a name": ([tool(name="f"), tool(name="f")], "Tool 1 has the name 'f' of another tool"),
    "a description that is a list": ([tool(name="f", description=["d"])], "its description is of type list"),
    "parameters that are a list": ([tool(name="f", parameters=[])], "its parameters are no JSON schema"),
    "properties that are a list": (
        [tool(name="f", parameters={"properties": []})],
        "its parameters are no JSON schema",
    ),
    "something without JSON": ([tool(name="f", parameters={"a": object()})], "holds a object"),
    "a lone surrogate": ([tool(name="f", description="\ud800")], "lone surrogate"),
    "an object that cannot be called": ([object()], "Tool 0 is of type object"),
}


@pytest.mark.parametrize(("bad", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_tool_is_refused(bad, words):
    with pytest.raises(MessageError) as error:
        normalise_tools(bad)
    assert words in str(error.value)
    assert error.value.hint


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C", title: str | None = None) -> str:
    """Weather of a city,
    today and later.

    It knows all cities.

    Args:
        city: its name,
            in English.
        days (int): how many.

    Returns:
        A text: with a colon.
    """
    return city


def test_a_function_is_described_by_its_signature_and_docstring():
    (ready,) = normalise_tools([weather])
    assert ready["function"] == {
        "name": "weather",
        "description": "Weather of a city, today and later.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "its name, in English."},
                "days": {"type": "integer", "default": 1, "description": "how many."},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "title": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            },
            "required": ["city"],
        },
    }


def test_functions_without_hints_docstring_or_arguments():
    def bare(a, *args, b=2, **kwargs):
        return a

    def nothing():
        return None

    one, two = normalise_tools([bare, nothing])
    assert one["function"]["parameters"]["properties"] == {"a": {}, "b": {"default": 2}}
    assert two["function"] == {"name": "nothing", "description": "", "parameters": {"type": "object", "properties": {}}}


def test_a_method_is_offered_without_self():
    class Shop:
        def buy(self, item: str) -> None:
            """Buy."""

    (ready,) = normalise_tools([Shop().buy])
    assert list(ready["function"]["parameters"]["properties"]) == ["item"]


def test_arguments_with_names_that_pydantic_keeps_for_itself():
    def f(schema: str, copy: int, _private: str, model_x: int) -> None:
        """F."""

    (ready,) = normalise_tools([f])
    assert set(ready["function"]["parameters"]["properties"]) == {"schema", "copy", "_private", "model_x"}


def test_a_type_without_json_is_refused():
    class Thing:
        pass

    def f(thing: Thing) -> None:
        """F."""

    with pytest.raises(MessageError, match="Tool 0, f: no schema can be made from its signature"):
        normalise_tools([f])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=3)
    | st.sampled_from([len, print, int, object(), {1, 2}, 1j, "function", "type", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    | st.tuples(inner, inner),
    max_leaves=6,
)  # fmt: skip
KEYS = st.sampled_from(["type", "function", "name", "description", "parameters", "properties", "required", "strict"])
NEARLY = st.dictionaries(KEYS, ANYTHING | st.dictionaries(KEYS, ANYTHING, max_size=4), max_size=4)


@settings(deadline=None, max_examples=examples(300))
@given(
    given_tools=ANYTHING
    | st.lists(NEARLY | st.builds(lambda f: {"type": "function", "function": f}, NEARLY), max_size=3)
)
def test_whatever_is_given_is_tools_that_json_can_hold_or_a_message_error(given_tools):
    try:
        tools = normalise_tools(given_tools)
    except MessageError as error:
        assert error.hint  # noqa: PT017 - the other outcome is as good
        return
    json.dumps(tools)
    assert all(tool["function"]["name"] and "properties" in tool["function"]["parameters"] for tool in tools)


@settings(deadline=None, max_examples=examples(300))
@given(messages=ANYTHING | st.lists(st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content"]),
    ANYTHING | st.sampled_from(["user", "assistant", "tool", "system", [{"type": "text", "text": "a"}]]), max_size=4,
), max_size=3))  # fmt: skip
def test_whatever_is_given_is_messages_or_a_message_error(messages):
    try:
        conversation = normalise(messages)
    except MessageError as error:
        assert error.hint  # noqa: PT017
        return
    assert conversation.messages
    assert all(text is None or text.encode() is not None for m in conversation.messages for text in m.content)
