"""Schemas become grammars that llama.cpp accepts, and replies that follow them; llama.cpp itself is the judge."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import pickle
import random
import uuid
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from examples import examples
from fastinfer.errors import FastInferError, SchemaError
from fastinfer.replies.schema import check_gbnf, compile_schema


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    """A tree."""

    name: str
    children: list[Node] = []


class Expression(BaseModel):
    """Recursive through a union."""

    value: int | Expression | list[Expression]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


class Owner(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=5)]
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    born: Optional[datetime.date] = None  # noqa: UP045 - both spellings must work
    colours: dict[Colour, int] = {}


class Grüße(BaseModel):
    größe: Literal["klein", 'sehr "groß"', "a\\b", "日本"]


class Kinds(BaseModel):
    id: uuid.UUID
    at: datetime.datetime
    time: datetime.time
    pair: tuple[int, str]
    tags: set[Literal["a", "b"]]
    price: decimal.Decimal
    anything: Any
    share: float = Field(gt=0, lt=1)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Film(TypedDict):
    title: str
    year: Annotated[int, Field(ge=1888)]


class Case(NamedTuple):
    """A schema with what must and must not be written under its grammar, and what only validation refuses."""

    name: str
    schema: Any
    valid: list[str]
    invalid: list[str]
    late: Sequence[str] = ()


def obj(**properties: Any) -> dict[str, Any]:
    """An object with these properties, all required, and no others."""
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
OPTIONAL = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER, "c": INTEGER}}
UUID = "123e4567-e89b-12d3-a456-426614174000"
CASES = [
    Case("string", STRING, ['""', '"a"', '"é日😀"', r'"\n\"\\é"', r'"\ud83d\ude00"'],
         ["a", '"', '"\n"', r'"\x"', r'"\u12"', r'"\ud800"', '"a" ', ' "a"']),
    Case("integer", INTEGER, ["0", "-1", "10", "9007199254740991"], ["", "01", "1.5", "1e3", "+1", "--1", '"1"']),
    Case("number", {"type": "number"}, ["0", "-1.5", "1e10", "0.25E-3"], ["1.", ".5", "01", "1e999", "NaN", "-"]),
    Case("boolean", {"type": "boolean"}, ["true", "false"], ["True", "1", "null"]),
    Case("null", {"type": "null"}, ["null"], ["None", '""']),
    Case("anything", {}, ["1", '{"a": [1, {"b": null}]}', '"x"'], ["", "a", "{a}"]),
    Case("object", {"type": "object"}, ["{}", '{"a": 1, "b": {}}', '{\n  "a": []\n}'], ["[]", '{"a"}', '{"a":1,}']),
    Case("json_object", {"type": "json_object"}, ["{}", '{"a": 1}'], ["[]", "1"]),
    Case("openai", {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": obj(a=INTEGER)}},
         ['{"a": 1}'], ['{"a": "1"}', "{}"]),
    Case("nested", obj(a=obj(b=obj(c=STRING))), ['{"a": {"b": {"c": "d"}}}'], ['{"a": {"b": {}}}', '{"a": {}}']),
    Case("spacing", obj(a=INTEGER, b=INTEGER), ['{"a":1,"b":2}', '{"a": 1, "b": 2}', '{\n  "a": 1,\n  "b": 2\n}'],
         ['{"a":  1,"b":2}', '{\n\n"a":1,"b":2}', '{"a":1,"b":2}\n', '{\n' + " " * 30 + '"a":1,"b":2}']),
    Case("optional", OPTIONAL, ["{}", '{"a": 1}', '{"b": 1}', '{"a": 1, "c": 2}', '{"a": 1, "b": 2, "c": 3}'],
         ['{,"a": 1}', '{"a": 1,}', '{"b": 1, "a": 2}', '{"d": 1}', '{"a": 1, "a": 1}']),
    Case("some required", OPTIONAL | {"required": ["b"]},
         ['{"b": 1}', '{"a": 1, "b": 2}', '{"b": 1, "c": 2}'], ["{}", '{"a": 1}', '{"a": 1, "c": 1}']),
    Case("last required", OPTIONAL | {"required": ["c"]}, ['{"c": 1}', '{"b": 1, "c": 1}', '{"a": 1, "c": 1}'],
         ['{"a": 1}', "{}"]),
    Case("others too", OPTIONAL | {"additionalProperties": STRING},
         ["{}", '{"x": "y"}', '{"a": 1, "x": "y"}', '{"ab": "", "": "", "z": ""}', '{"c": 1, "cc": "", "d": ""}'],
         ['{"a": "y"}', '{"x": 1}', '{"x": "y", "a": 1}']),
    Case("only others", {"type": "object", "additionalProperties": INTEGER}, ["{}", '{"a": 1, "b": 2}'], ['{"a": ""}']),
    Case("required, not declared", {"type": "object", "required": ["a"]}, ['{"a": []}', '{"a": 1, "b": 2}'], ["{}"]),
    Case("no properties", {"type": "object", "additionalProperties": False}, ["{}", "{ }"], ['{"a": 1}']),
    Case("pattern properties", {"type": "object", "patternProperties": {"^x-": INTEGER}, "additionalProperties": False},
         ["{}", '{"x-a": 1}'], ['{"a": 1}', '{"x-a": ""}']),
    Case("property names", {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": INTEGER},
         ["{}", '{"b": 1, "a": 2}'], ['{"c": 1}', '{"a": ""}']),
    Case("odd names", obj(**{'q"uote': INTEGER, "back\\slash": INTEGER, "größe 日": INTEGER, "a-b_c.d": INTEGER}),
         [json.dumps({'q"uote': 1, "back\\slash": 2, "größe 日": 3, "a-b_c.d": 4}, ensure_ascii=False)],
         ['{"quote": 1}']),
    Case("names that look alike", obj(**{"a-b": INTEGER, "a_b": STRING, "root": STRING, "string": INTEGER}),
         ['{"a-b": 1, "a_b": "x", "root": "y", "string": 2}'], ['{"a-b": "x", "a_b": 1, "root": "", "string": 1}']),
    Case("enum", {"enum": ["a", 1, None, True, 'q"\\', [1, {"b": 2}]]},
         ['"a"', "1", "null", "true", r'"q\"\\"', '[1, {"b": 2}]'], ['"b"', "2", "false"]),
    Case("typed enum", {"type": "string", "enum": ["a", 1]}, ['"a"'], ["1"]),
    Case("const", {"const": "é\n"}, [r'"é\n"'], ['"e"', "1"]),
    Case("const 1 is not true", {"type": "boolean", "const": True}, ["true"], ["1"]),
    Case("types", {"type": ["string", "null"], "maxLength": 1}, ['"a"', "null", '""'], ["1", '"ab"']),
    Case("type by keyword", {"minimum": 3, "maximum": 5}, ["3", "4.5"], ["6", '"3"']),
    Case("anyOf", {"anyOf": [obj(a=INTEGER), obj(b=STRING), {"type": "null"}]},
         ['{"a": 1}', '{"b": ""}', "null"], ['{"a": ""}', "{}", "1"]),
    Case("oneOf", {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "integer", "maximum": 9}]},
         ["-5", "12"], ["a"], ["5"]),
    Case("anyOf beside properties", {"properties": {"k": STRING}, "required": ["k"], "anyOf": [
        {"properties": {"a": INTEGER}, "required": ["a"]}, {"properties": {"b": INTEGER}, "required": ["b"]}]},
         ['{"k": "", "a": 1}', '{"k": "", "b": 1}'], ['{"k": ""}', '{"a": 1}']),
    Case("allOf", {"allOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": STRING}, "required": ["b"]}],
                   "$defs": {"A": {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}}},
         ['{"a": 1, "b": ""}'], ['{"a": 1}', '{"b": ""}']),
    Case("allOf narrows", {"allOf": [{"type": "integer", "minimum": 2}, {"type": "number", "maximum": 4}]},
         ["2", "4"], ["1", "5", "2.5"]),
    Case("allOf enums", {"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}, ['"b"'], ['"a"', '"c"']),
    Case("defs", {"$defs": {"x/y~z": INTEGER, "B": {"$ref": "#/$defs/x~1y~0z"}}, "type": "array",
                  "items": {"$ref": "#/$defs/B"}}, ["[]", "[1, 2]"], ['["a"]']),
    Case("defs of the same name", {"a": {"T": INTEGER}, "b": {"T": STRING}, **obj(i={"$ref": "#/a/T"},
                                                                              s={"$ref": "#/b/T"})},
         ['{"i": 1, "s": "x"}'], ['{"i": "x", "s": 1}']),
    Case("recursive", {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False},
         ["{}", '{"next": {"next": {}}}'], ['{"next": 1}']),
    Case("recursive with a note", {"$ref": "#/$defs/N", "$defs": {"N": obj(next={"anyOf": [
        {"$ref": "#/$defs/N", "description": "the rest"}, {"type": "null"}]})}},
         ['{"next": {"next": null}}'], ["{}", '{"next": {}}']),
    Case("mutual", {"$ref": "#/$defs/A", "$defs": {
        "A": {"type": "array", "items": {"$ref": "#/$defs/B"}},
        "B": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}},
         ["[]", '[{"a": [{}]}, {}]'], ["[[]]", '{"a": []}']),
    Case("array", {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 3},
         ["[1,2]", "[1, 2, 3]"], ["[]", "[1]", "[1,2,3,4]", "[1,]"]),
    Case("array at least", {"type": "array", "items": INTEGER, "minItems": 1}, ["[1]", "[1,2,3]"], ["[]"]),
    Case("array at most", {"type": "array", "items": INTEGER, "maxItems": 1}, ["[]", "[1]"], ["[1, 2]"]),
    Case("empty array", {"type": "array", "maxItems": 0}, ["[]", "[ ]"], ["[1]"]),
    Case("long array", {"type": "array", "items": INTEGER, "minItems": 5000}, [], ["[a]"], ["[1]"]),
    Case("tuple", {"type": "array", "prefixItems": [INTEGER, STRING], "items": False}, ['[1, "a"]'],
         ['["a", 1]', '[1, "a", 2]']),
    Case("tuple and more", {"type": "array", "prefixItems": [INTEGER], "items": STRING, "maxItems": 3},
         ["[1]", '[1, "a", "b"]'], ["[]", '[1, "a", "b", "c"]', "[1, 2]"]),
    Case("old tuple", {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
                       "items": [INTEGER, STRING], "additionalItems": False}, ['[1, "a"]'], ["[1, 2]"]),
    Case("lengths", {"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', r'"日\"語"'],
         ['"a"', '"abcd"', '""']),
    Case("exact length", {"type": "string", "minLength": 2, "maxLength": 2}, ['"ab"'], ['"a"', '"abc"']),
    Case("great length", {"type": "string", "maxLength": 100_000}, ['"ab"'], ["a"]),
    Case("pattern", {"type": "string", "pattern": r"^[A-Z]{2}-\d{3,4}(x|y)?$"},
         ['"AB-123"', '"AB-1234y"'], ['"AB-12"', '"ab-123"', '"AB-123z"', '" AB-123"']),
    Case("pattern with JSON's own signs", {"type": "string", "pattern": r'^"[^a]\\\t$'},
         [r'"\"b\\\t"', r'"\"\"\\\t"'], [r'"\"a\\\t"', r'"\"b"']),
    Case("pattern anywhere", {"type": "string", "pattern": "b+"}, ['"b"', '"abba"'], ['"a"', '""']),
    Case("pattern of alternatives", {"type": "string", "pattern": "^a|b$"}, ['"ax"', '"xb"'], ['"xa"', '"bx"']),
    Case("pattern too hard", {"type": "string", "pattern": r"^(?!no).*$"}, ['"yes"'], ["yes"], ['"no"']),
    Case("date", {"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2024-13-01"', '"today"'], ['"2024-02-31"']),
    Case("date-time", {"type": "string", "format": "date-time"},
         ['"2024-01-31T10:00:00Z"', '"2024-01-31T10:00:00.5+02:00"'], ['"2024-01-31"', '"2024-01-31T25:00:00Z"']),
    Case("uuid", {"type": "string", "format": "uuid"}, [f'"{UUID}"'], ['"1234"', f'"{UUID}0"']),
    Case("email", {"type": "string", "format": "email"}, ['"a.b+c@example.co.uk"'], ['"a"', '"a@b"', '"@b.de"']),
    Case("ipv4", {"type": "string", "format": "ipv4"}, ['"192.168.0.1"'], ['"256.1.1.1"', '"1.2.3"']),
    Case("unknown format", {"type": "string", "format": "phone"}, ['"+49"'], ["1"]),
    Case("0 to 1", {"type": "number", "minimum": 0, "maximum": 1}, ["0", "1", "0.5", "1.0"], ["1.1", "-0.5", "2"]),
    Case("above 0 below 1", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0.5", "0.001"],
         ["0", "0.0", "1", "1.0"]),
    Case("half bounds", {"type": "number", "minimum": -1.5, "maximum": 2.5}, ["-1.5", "2.5", "0"], ["3", "-2"],
         ["2.75", "-1.75"]),
    Case("draft 4", {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 0,
                     "exclusiveMinimum": True}, ["1"], ["0"]),
    Case("multipleOf", {"type": "integer", "multipleOf": 5}, ["10"], ["a"], ["11"]),
    Case("unique", {"type": "array", "items": INTEGER, "uniqueItems": True}, ["[1, 2]"], ["1"], ["[1, 1]"]),
    Case("not", {"type": "string", "not": {"const": "no"}}, ['"yes"'], ["yes"], ['"no"']),
    Case("if", {**OPTIONAL, "if": {"required": ["a"]}, "then": {"required": ["b"]}}, ['{"c": 1}'], ["1"], ['{"a": 1}']),
    Case("a property named $ref", obj(**{"$ref": STRING, "enum": INTEGER}), ['{"$ref": "x", "enum": 1}'], ["{}"]),
    Case("data that looks like a reference", {"const": {"$ref": "http://example.com"}},
         ['{"$ref": "http://example.com"}'], ["{}"]),
    Case("Node", Node, ['{"name": "a"}', '{"name": "a", "children": [{"name": "b", "children": []}]}'],
         ["{}", '{"name": 1}', '{"name": "a", "children": [1]}']),
    Case("Expression", Expression, ['{"value": 1}', '{"value": {"value": [{"value": 2}]}}'], ['{"value": "a"}']),
    Case("Owner", Owner,
         ['{"name": "Al", "pet": {"kind": "cat", "lives": 9}}',
          '{"name": "Al", "pet": {"kind": "dog"}, "born": "2001-01-01", "colours": {"red": 1}}',
          '{"name": "Al", "pet": {"kind": "dog", "good": false}, "born": null}'],
         ['{"name": "", "pet": {"kind": "dog"}}', '{"name": "Al", "pet": {"kind": "cat"}}',
          '{"name": "Al", "pet": {"kind": "cat", "lives": 10}}', '{"name": "Al", "pet": {"kind": "dog"}, "born": "x"}',
          '{"name": "Al", "pet": {"kind": "dog"}, "colours": {"green": 1}}']),
    Case("Grüße", Grüße,
         ['{"größe": "klein"}', r'{"größe": "sehr \"groß\""}', r'{"größe": "a\\b"}', '{"größe": "日本"}'],
         ['{"größe": "groß"}', '{"groesse": "klein"}']),
    Case("Kinds", Kinds,
         [f'{{"id": "{UUID}", "at": "2024-01-01T00:00:00Z", "time": "10:00:00Z", "pair": [1, "a"], "tags": ["a"], '
          '"price": 9.99, "anything": {"a": []}, "share": 0.5}'], ["{}"],
         [f'{{"id": "{UUID}", "at": "2024-02-31T00:00:00Z", "time": "10:00:00Z", "pair": [1, "a"], "tags": ["a"], '
          '"price": 9.99, "anything": 1, "share": 0.5}']),
    Case("dataclass", Point, ['{"x": 1}', '{"x": 1, "y": 2}'], ['{"y": 2}']),
    Case("TypedDict", Film, ['{"title": "M", "year": 1931}'], ['{"title": "M", "year": 1800}', '{"title": "M"}']),
    Case("list of a type", list[int], ["[]", "[1]"], ["1"]),
    Case("union", Literal["a", "b"] | int, ['"a"', "3"], ['"c"']),
]  # fmt: skip
cases = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@cases
def test_what_is_valid_can_be_written_and_read(judge: Any, case: Case) -> None:
    compiled = compile_schema(case.schema)
    for text in case.valid:
        assert judge.accepts(compiled.gbnf, text), text
        compiled.parse(text)


@cases
def test_what_is_invalid_cannot_be_written(judge: Any, case: Case) -> None:
    gbnf = compile_schema(case.schema).gbnf
    assert [text for text in case.invalid if judge.accepts(gbnf, text)] == []


@cases
def test_what_the_grammar_cannot_say_is_checked_afterwards(judge: Any, case: Case) -> None:
    compiled = compile_schema(case.schema)
    for text in case.late:
        assert judge.accepts(compiled.gbnf, text), text
        with pytest.raises(SchemaError) as caught:
            compiled.parse(text)
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.late and case.name != "oneOf"], ids=lambda c: c.name
)
def test_whatever_is_written_can_be_read(judge: Any, case: Case) -> None:
    compiled = compile_schema(case.schema)
    dice = random.Random(case.name)
    written = [text for _ in range(6) if (text := judge.write(compiled.gbnf, dice)) is not None]
    for text in written:
        compiled.parse(text)
    assert written


def test_a_type_gives_its_instances() -> None:
    assert compile_schema(Node).parse(' {"name": "a"}\n') == Node(name="a")
    assert compile_schema(Point).parse('{"x": 1}') == Point(1)
    assert compile_schema(INTEGER).parse("3") == 3


@pytest.mark.parametrize(("schema", "text", "place"), [
    (Node, '{"name": "a", "children": [{"name": 1}]}', "$.children[0].name"),
    (obj(a=INTEGER), '{"a": "x"}', "$.a"),
])  # fmt: skip
def test_a_wrong_reply_is_an_error_that_names_the_place(schema: Any, text: str, place: str) -> None:
    with pytest.raises(SchemaError) as caught:
        compile_schema(schema).parse(text)
    assert place in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("schema", [Node, INTEGER, {}], ids=["model", "dict", "anything"])
@pytest.mark.parametrize("text", ["", "{", "NaN", "1e999", "1" * 5000, "[" * 100_000, '{"a":' * 5000, "\ud800", "nope"])
def test_what_is_not_json_is_an_error(schema: Any, text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        compile_schema(schema).parse(text)
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "strin"}, "#/type"),
        (obj(a={"type": "integer", "minimum": "3"}), "#/properties/a/minimum"),
        ({"type": "object", "properties": []}, "#/properties"),
        ({"anyOf": []}, "#/anyOf"),
        ({"type": "string", "pattern": "("}, "#/pattern"),
        ({"$ref": "http://example.com/schema.json"}, "http://example.com/schema.json"),
        (obj(a={"$ref": "https://example.com/s#/b"}), "#/properties/a"),
        ({"not": {"$ref": "other.json"}}, "#/not"),
        ({"$ref": "#name"}, "#name"),
        ({"$dynamicRef": "#n"}, "$dynamicRef"),
        ({"$ref": "#/$defs/Missing"}, "#/$defs/Missing"),
        ({"$ref": "#"}, "#"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}}}, "#/$defs/A"),
        (obj(a=False), "#"),
        (obj(a={"type": "string", "enum": [1]}), "#/properties/a"),
        (obj(a={"type": "integer", "minimum": 5, "maximum": 4}), "#/properties/a"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "#"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "#"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "#"),
        ({"allOf": [{"const": 1}, {"const": True}]}, "#"),
        ({"enum": []}, "#"),
        ({"type": "json_schema", "json_schema": {}}, "schema"),
        ({"type": "json_schema", "json_schema": 3}, "schema"),
        ({"const": math.nan}, "JSON"),
        ({"const": object()}, "JSON"),
        ("string", "string"),
        (None, "None"),
        (3, "3"),
        (json.loads, "loads"),
        (lambda x: x, "lambda"),
        (random.Random, "Random"),
        (Callable[[int], int], "Callable"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_schema_that_makes_no_sense_is_an_error_that_names_the_place(schema: Any, place: str) -> None:
    with pytest.raises(SchemaError) as caught:
        compile_schema(schema)
    assert place in str(caught.value)


def test_deep_schemas_and_schemas_with_too_many_alternatives_are_errors() -> None:
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    many = {"allOf": [{"anyOf": [{"const": n}, {"type": "integer"}, {"type": "number"}]} for n in range(12)]}
    for schema in (deep, many):
        with pytest.raises(SchemaError):
            compile_schema(schema)


@pytest.mark.parametrize("names", [1, 2, 60])
def test_grammars_grow_with_the_number_of_properties_and_not_its_square(names: int) -> None:
    schema = {"type": "object", "properties": {f"property{n}": INTEGER for n in range(names)}}
    assert len(compile_schema(schema).gbnf) < 1000 + 200 * names


def test_properties_that_are_not_declared_have_names_of_their_own(judge: Any) -> None:
    gbnf = compile_schema({"properties": {"ab": INTEGER, "a": INTEGER}, "additionalProperties": STRING}).gbnf
    assert judge.accepts(gbnf, '{"abc": "", "b": "", "": ""}')
    assert not judge.accepts(gbnf, '{"x": "", "ab": ""}')


@settings(deadline=None, max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.none(), st.integers(-1200, 1200)), st.one_of(st.none(), st.integers(-1200, 1200)), st.data())
def test_integers_keep_to_their_bounds(judge: Any, low: int | None, high: int | None, data: st.DataObject) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    bounds = {key: value for key, value in (("minimum", low), ("maximum", high)) if value is not None}
    gbnf = compile_schema({"type": "integer", **bounds}).gbnf
    near = [value + step for value in bounds.values() for step in (-1, 0, 1)]
    for value in [*near, *data.draw(st.lists(st.integers(-20000, 20000), max_size=8)), 0, 9, 10, 99, 100, 1000]:
        inside = (low is None or value >= low) and (high is None or value <= high)
        assert judge.accepts(gbnf, str(value)) == inside, (low, value, high)


@settings(deadline=None, max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(-30, 30), st.integers(-30, 30), st.booleans(), st.booleans(), st.decimals(-40, 40, places=1))
def test_numbers_keep_to_whole_bounds(
    judge: Any, low: int, high: int, above: bool, below: bool, value: decimal.Decimal
) -> None:
    low, high = min(low, high), max(low, high) + 1
    gbnf = compile_schema({
        "type": "number", "exclusiveMinimum" if above else "minimum": low,
        "exclusiveMaximum" if below else "maximum": high,
    }).gbnf  # fmt: skip
    for number in (value, decimal.Decimal(low), decimal.Decimal(high)):
        inside = (number > low if above else number >= low) and (number < high if below else number <= high)
        # Zero is not written with a sign.
        assert judge.accepts(gbnf, str(number)) == inside or (number == 0 and str(number)[0] == "-")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=5).filter(lambda s: "\x7f" not in s),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc日", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values, st.sampled_from([None, 2]))
def test_all_json_can_be_written_where_anything_goes(judge: Any, value: Any, indent: int | None) -> None:
    compiled = compile_schema({})
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    assert judge.accepts(compiled.gbnf, text)
    assert compiled.parse(text) == value


@settings(deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_any_value_can_be_demanded(judge: Any, value: Any) -> None:
    compiled = compile_schema({"const": value})
    text = json.dumps(value, ensure_ascii=False)
    assert judge.accepts(compiled.gbnf, text)
    assert compiled.parse(text) == value


def test_whitespace_has_an_end(judge: Any) -> None:
    gbnf = compile_schema(obj(a=INTEGER)).gbnf
    assert judge.accepts(gbnf, '{\n    "a": 1\n}')
    for space in ("  ", "\n\n", "\n" + " " * 21, "\t"):
        assert not judge.accepts(gbnf, f'{{{space}"a": 1}}')


def test_errors_travel_between_processes() -> None:
    with pytest.raises(SchemaError) as caught:
        compile_schema(INTEGER).parse("x")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert isinstance(caught.value, FastInferError)


def test_a_reply_that_pydantic_refuses_carries_its_error() -> None:
    with pytest.raises(SchemaError) as caught:
        compile_schema(Film).parse("{}")
    assert isinstance(caught.value.__cause__, ValidationError)
    assert "1 more" in str(caught.value)


@pytest.mark.parametrize("text", ['root ::= "a"', "root ::= x\nx ::= [a-z]+ # note"])
def test_a_grammar_of_ones_own(judge: Any, text: str) -> None:
    check_gbnf(text, judge.vocab)


@pytest.mark.parametrize(
    "text",
    [
        "", "root", 'start ::= "a"', "root ::= missing", 'root ::= root "a"', 'root ::= "a', "root ::= [a",
        'root ::= "a"{9999}', "root ::= " + "(" * 100_000, "root ::= \0", "\ud800",
    ],
)  # fmt: skip
def test_a_grammar_that_llama_cpp_cannot_use_is_an_error(judge: Any, text: str) -> None:
    with pytest.raises(SchemaError):
        check_gbnf(text, judge.vocab)
