"""A result as a row: plain values under fixed names, whatever is in the result."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from fastinfer import Reply
from fastinfer.tables.columns import classification_columns, reply_columns
from fastinfer.tables.rows import classification_row, json_line, readable, reply_row


def names(columns):
    return [column.name for column in columns]


@pytest.mark.parametrize("timings", [True, False])
def test_a_rows_keys_are_the_columns_in_their_order(images, replies, timings):
    for image in images:
        row = classification_row(image, timings=timings)
        assert list(row) == names(classification_columns(timings=timings))
    for reply in replies:
        assert list(reply_row(reply, timings=timings)) == names(reply_columns(timings=timings))


def test_none_stands_only_where_the_column_allows_it(images, replies):
    for rows, columns in (
        ([classification_row(image) for image in images], classification_columns(timings=True)),
        ([reply_row(reply) for reply in replies], reply_columns(timings=True)),
    ):
        for column in columns:
            assert any(row[column.name] is None for row in rows) == column.nullable, column.name


def test_an_image_that_failed_has_its_error_and_no_probability(images):
    row = classification_row(images[2])
    assert (row["error_type"], row["error_message"]) == ("ImageDecodeError", "Cannot read c.png. Check it.")
    assert [row[name] for name in ("label", "confidence", "label_mass", "probabilities", "batch_size")] == [None] * 5


def test_a_prediction_set_and_abstaining_are_in_the_row(images):
    assert classification_row(images[1])["prediction_set"] == ["cat", "dog"]
    assert [classification_row(image)["abstained"] for image in images] == [False, True, False]


def test_probabilities_are_best_first_and_may_be_cut(images):
    assert list(classification_row(images[0])["probabilities"]) == ["dog", "cat"]
    assert classification_row(images[0], top=1)["probabilities"] == {"dog": 0.9}


def test_tool_calls_and_what_was_parsed_are_readable_json(replies):
    row = reply_row(replies[0])
    assert row["tool_calls"] == '[{"id": "call_0", "name": "look", "arguments": {"where": "thư viện"}}]'
    assert json.loads(row["parsed"]) == {"n": 1}
    assert (reply_row(replies[1])["tool_calls"], reply_row(replies[1])["parsed"]) == (None, None)


def test_a_parsed_pydantic_model_is_json_too():
    class Answer(BaseModel):
        ok: bool

    assert json.loads(reply_row(Reply("", parsed=Answer(ok=True)))["parsed"]) == {"ok": True}


@pytest.mark.parametrize("parsed", [{"\ud800": 1}, ["\udcff"], "\ud800", {"deep": [{"\ud800": "\udfff"}]}])
def test_json_with_lone_surrogates_comes_back_from_its_text(parsed):
    reply = Reply("", parsed=parsed)
    assert json.loads(reply_row(reply)["parsed"].encode()) == parsed
    assert reply.to_dict()["parsed"] == parsed


def test_what_utf8_cannot_write_is_escaped_and_all_else_stays():
    assert readable("ảnh 🐈 \udcff.png") == "ảnh 🐈 \\udcff.png"


def test_a_json_line_is_one_line_to_everybody():
    row = {"text": "a\nb\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029é"}
    assert len(json_line(row).splitlines()) == 1
    assert json.loads(json_line(row)) == row
    assert "é" in json_line(row)
