"""Tools: OpenAI's dicts, completed; Python functions, described by their signatures."""

from __future__ import annotations

from typing import Literal

import pytest

from fastinfer.errors import MessageError
from fastinfer.prompts import normalise_tools


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
