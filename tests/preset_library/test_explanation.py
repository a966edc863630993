from __future__ import annotations

import html.parser
import json

import pytest

from consoles import on_console
from fastinfer.preset_library import Preset, field_docs, preset, presets
from fastinfer.provenance import Adjustment

RAISED = Adjustment("session_len", 512, 16384, "One pass has to hold a whole batch of prompts.")
ELSEWHERE = Adjustment("grammar", True, False, "Not <b>possible</b> [bold]here[/bold].")
HOSTILE = "<script>alert('x')</script>&\" [red]"


class Cells(html.parser.HTMLParser):
    """Collects the tags and the text of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("each", presets(), ids=repr)
def test_every_parameter_is_explained_with_its_value(each: Preset) -> None:
    rows = each.explain().rows
    assert {row.field: row.value for row in rows} == each.parameters.model_dump()
    docs = field_docs(each.kind, each.backend)
    for row in rows:
        doc = docs[row.field]
        assert (row.unit, row.effect, row.cost, row.when_to_change, row.legal, row.flag) == (
            doc.unit,
            doc.effect,
            doc.cost,
            doc.when_to_change,
            doc.legal,
            doc.flag,
        )
        assert row.documented is None
        assert row.adjustments == ()


@pytest.mark.parametrize("each", presets(), ids=repr)
def test_the_text_fits_a_hundred_columns_and_holds_everything(each: Preset) -> None:
    text = str(each.explain())
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    for row in each.explain().rows:
        assert f"{row.field} = " in text
        for sentence in (row.effect, row.cost, row.when_to_change, row.legal, row.flag):
            assert sentence in flat
    assert each.fingerprint in text
    assert each.summary in flat


def test_a_changed_value_shows_the_documented_one() -> None:
    explanation = preset("prod", kind="classify").replace(max_batch_size=64).explain()
    (row,) = [row for row in explanation.rows if row.documented is not None]
    assert (row.field, row.value, row.documented) == ("max_batch_size", 64, 32)
    assert "max_batch_size = 64 requests (documented: 32)" in str(explanation)


def test_the_built_in_variant_of_a_preset_counts_as_documented() -> None:
    assert all(row.documented is None for row in preset("prod-exact").explain().rows)


def test_an_adjustment_stands_with_its_field() -> None:
    explanation = preset("prod", kind="classify").explain(adjustments=[RAISED])
    (row,) = [row for row in explanation.rows if row.adjustments]
    assert row.field == "session_len"
    assert row.value == 512
    said = "asked 512, the engine got 16384: One pass has to hold a whole batch of prompts."
    assert said in " ".join(str(explanation).split())
    assert said in explanation._repr_html_()


def test_an_adjustment_of_something_else_is_not_lost() -> None:
    explanation = preset("prod", kind="classify").explain([ELSEWHERE])
    assert explanation.other_adjustments == (ELSEWHERE,)
    said = "grammar: asked true, the engine got false: Not <b>possible</b> [bold]here[/bold]."
    assert said in str(explanation)
    assert said in on_console(explanation, 140)
    parsed = Cells()
    parsed.feed(explanation._repr_html_())
    assert said in parsed.text


def test_html_escapes_every_value() -> None:
    wild = preset("prod", kind="classify").replace(model=HOSTILE)
    adjusted = Adjustment("model", HOSTILE, HOSTILE, HOSTILE)
    page = wild.explain([adjusted])._repr_html_()
    parsed = Cells()
    parsed.feed(page)
    assert "script" not in parsed.tags
    assert parsed.text.count(HOSTILE) == 4
    assert set(parsed.tags) <= {"p", "b", "br", "table", "thead", "tbody", "tr", "th", "td", "code", "i", "ul", "li"}


def test_a_rich_console_shows_values_as_they_are() -> None:
    wild = preset("prod", kind="classify").replace(model="[red]x[/red]")
    text = on_console(wild.explain([RAISED]), 140)
    assert "[red]x[/red]" in text
    assert "max_concurrent_requests" in text
    assert "persistence mode" in text


def test_to_dict_is_json_with_rows_and_advice() -> None:
    data = preset("prod", kind="classify").replace(tp=2).explain([RAISED]).to_dict()
    assert json.loads(json.dumps(data)) == data
    rows = {row["field"]: row for row in data["rows"]}
    assert rows["tp"]["value"] == 2
    assert rows["tp"]["documented"] == 1
    assert rows["session_len"]["adjustments"] == [
        {"field": "session_len", "asked": 512, "used": 16384, "why": RAISED.why}
    ]
    assert any(item["symptom"] == "Out of memory" for item in data["advice"])
