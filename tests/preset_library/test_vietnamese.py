"""The Vietnamese documentation says all that the English one says, and nothing that it no longer says."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from consoles import on_console
from fastinfer.errors import PresetError
from fastinfer.preset_library import Preset, field_docs, preset, presets
from fastinfer.preset_library.translation import PROSE, digest, in_language, said
from fastinfer.provenance import Adjustment
from fastinfer.toml_file import read_toml

LIBRARY = Path(fastinfer.__file__).parent / "preset_library"
ENGLISH, VIETNAMESE = read_toml(LIBRARY / "fields.toml"), read_toml(LIBRARY / "fields.vi.toml")
WORDS: dict[str, str] = VIETNAMESE["words"]
BUILT_IN = [each for each in presets() if each.source == "built-in"]
#: What an entry is known by, the same in both languages.
NAMED = {"field": "name", "advice": "symptom", "preset": "name"}
ADJUSTED = (
    Adjustment("session_len", 512, 16384, "A pass is larger."),
    Adjustment("grammar", True, False, "Not there."),
)


def english_entries() -> Iterator[tuple[str, dict[str, Any]]]:
    for table in ("field", "advice"):
        yield from ((table, entry) for entry in ENGLISH[table])
    for each in BUILT_IN:
        yield "preset", {"name": each.name, "of": [each.kind], "summary": each.summary}


def vietnamese_entries() -> dict[str, tuple[str, dict[str, Any]]]:
    """The entries of the Vietnamese file, by the digest of the English."""
    return {entry["english"]: (table, entry) for table in NAMED for entry in VIETNAMESE[table]}


def prose(entry: dict[str, Any]) -> dict[str, str]:
    return {key: entry[key] for key in PROSE if key in entry}


def pairs() -> list[tuple[str, str]]:
    """Every English text with its Vietnamese."""
    translated = vietnamese_entries()
    found = list(WORDS.items())
    for _, entry in english_entries():
        _, other = translated.get(digest(entry), ("", {}))
        found += [(text, other[key]) for key, text in prose(entry).items() if key in other]
    return found


def kept(text: str) -> Counter[str]:
    """What no translation changes: numbers, flags, names of fields, classes and models, placeholders, @revision."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return Counter(
        re.findall(
            r"\{\w+\}|(?<![\w-])--?[a-z][\w-]*|\w+_\w+|[A-Z][\w.]*[a-z\d.][A-Z]\w*|[A-Z]{4,}|@\w+|\d+(?:\.\d+)?",
            text,
        )
    )


def explained(lang: Any) -> list[Any]:
    """Explanations that hold everything there is to say."""
    changed = [each.replace(max_pixels=1_000_000) for each in BUILT_IN if each.kind == "classify"]
    told = fastinfer.from_command("llama-server -m x.gguf --port 80 -c 512")
    every: list[Preset] = [*BUILT_IN, *changed, told]
    return [each.explain(ADJUSTED, lang=lang) for each in every]


def labels(text: str) -> set[str]:
    """The headings over the blocks of an explanation, and the words before their texts."""
    found = set()
    for block in text.split("\n\n")[1:]:
        head, *lines = block.splitlines()
        found |= set() if " = " in head else {head}
        if head not in ("Advice", "Flags without a place in this process"):
            found |= {line[4:14].strip() for line in lines if line[4] != " "}
    return found


def test_every_english_text_has_a_vietnamese_one() -> None:
    translated = vietnamese_entries()
    for table, entry in english_entries():
        name, key = entry[NAMED[table]], digest(entry)
        assert key in translated, f'translate {name} of {entry["of"]} in fields.vi.toml; then it has english = "{key}"'
        found, other = translated[key]
        assert (found, other.get("name", other.get("about")), other["of"]) == (table, name, entry["of"])
        assert prose(other).keys() == prose(entry).keys()


def test_no_vietnamese_text_is_left_whose_english_has_gone_or_changed() -> None:
    current = {digest(entry) for _, entry in english_entries()}
    assert {key: entry for key, (_, entry) in vietnamese_entries().items() if key not in current} == {}


def test_a_translation_is_not_shown_once_its_english_has_changed() -> None:
    entry = next(entry for entry in ENGLISH["field"] if entry["name"] == "tp")
    assert in_language(entry, "vi")["effect"] != entry["effect"]
    for key in prose(entry):
        changed = {**entry, key: f"{entry[key]} Or not."}
        assert in_language(changed, "vi") == changed


def test_numbers_flags_names_and_placeholders_are_the_same() -> None:
    assert [pair for pair in pairs() if kept(pair[0]) != kept(pair[1])] == []


def test_a_sentence_is_translated_by_a_sentence() -> None:
    assert [pair for pair in pairs() if pair[0].endswith(".") != pair[1].endswith(".")] == []


def test_the_vietnamese_is_vietnamese() -> None:
    text = (LIBRARY / "fields.vi.toml").read_text("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    letters = "àáảãạăằắẳẵặâầấẩẫậèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵđ"
    assert {c for c in text.lower() if ord(c) > 127} <= set(letters)
    sentences = [(english, vietnamese) for english, vietnamese in pairs() if len(english) > 40]
    assert [english for english, vietnamese in sentences if not set(vietnamese.lower()) & set(letters)] == []


@pytest.mark.parametrize("each", BUILT_IN, ids=repr)
def test_a_preset_is_explained_in_vietnamese(each: Preset) -> None:
    english, vietnamese = each.explain(ADJUSTED), each.explain(ADJUSTED, lang="vi")
    assert (english.lang, vietnamese.lang) == ("en", "vi")
    docs = field_docs(each.kind, each.backend, "vi")
    text = str(vietnamese)
    flat = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    for row, other in zip(vietnamese.rows, english.rows, strict=True):
        doc = docs[row.field]
        assert (row.effect, row.cost, row.when_to_change) == (doc.effect, doc.cost, doc.when_to_change)
        assert row.effect != other.effect
        assert (row.field, row.value, row.documented, row.flag) == (
            other.field,
            other.value,
            other.documented,
            other.flag,
        )
        assert all(sentence in flat for sentence in (row.effect, row.cost, row.when_to_change, row.legal))
    assert [item.steps for item in vietnamese.advice] == [item.steps for item in english.advice]
    assert vietnamese.summary != each.summary
    assert vietnamese.summary in flat
    assert json.loads(json.dumps(vietnamese.to_dict())) == vietnamese.to_dict()


def test_legal_ranges_are_in_words_of_one_language() -> None:
    ranges = {
        (doc.legal, field_docs(each.kind, each.backend, "vi")[name].legal)
        for each in BUILT_IN
        for name, doc in field_docs(each.kind, each.backend).items()
    }
    assert ("whole number from 1 to 2^31-1", "số nguyên từ 1 đến 2^31-1") in ranges
    assert ("number above 0 and below 1", "số lớn hơn 0 và nhỏ hơn 1") in ranges
    left = re.compile(r"\b(or|from|to|above|below|and|not|text|number|whole|list|the)\b")
    for english, vietnamese in ranges:
        assert kept(vietnamese) == kept(english)
        assert not left.search(vietnamese), vietnamese


def test_every_word_beside_the_texts_is_translated_in_text_html_and_tables() -> None:
    both = list(zip(explained("en"), explained("vi"), strict=True))
    shown = set()
    for english, vietnamese in both:
        page = english._repr_html_()
        here = {*labels(str(english)), *re.findall(r"<th [^>]*>([^<]*)", page), "Legal", "Field and value"}
        here |= {html.unescape(label) for label in re.findall(r"<br>(\w+): ", page) if label in WORDS}
        shown |= here
        assert here <= WORDS.keys()
        said_in = f"{vietnamese}\n{html.unescape(vietnamese._repr_html_())}\n{on_console(vietnamese, 200)}"
        assert [label for label in here if WORDS[label] not in said_in] == []
    assert {"effect", "adjusted", "Advice", "Measured", "Further adjustments", "machine", "Effect"} <= shown


def test_no_word_is_left_that_the_english_explanation_does_not_say() -> None:
    english = " ".join(
        f"{each} {html.unescape(each._repr_html_())} {on_console(each, 200)}" for each in explained("en")
    )
    flat = " ".join(english.split())
    for word in WORDS:
        parts = [part for part in re.split(r"\{asked\}|\{used\}|\{why\}", word) if part]
        assert [part for part in parts if part not in flat] == []


def test_what_is_only_known_at_run_time_stays_english() -> None:
    explanation = preset("prod", kind="classify").replace(tp=2).explain(ADJUSTED, lang="vi")
    text = " ".join(str(explanation).split())
    assert "yêu cầu 512, engine nhận 16384: A pass is larger." in text
    assert "tp = 2 GPU (theo tài liệu: 1)" in text
    assert text.startswith("prod (classify), có sẵn, đã thay: tp, fingerprint ")
    told = fastinfer.from_command("llama-server -m x.gguf --port 80 -c 512")
    assert all(str(remark) in " ".join(str(told.explain(lang="vi")).split()) for remark in told.command.remarks)  # type: ignore[union-attr]


def test_a_summary_of_ones_own_is_shown_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fastinfer.toml").write_text(
        '[chat.mine]\nextends = "balanced"\nsummary = "Của tôi, mine."\n[chat.plain]\nextends = "balanced"\n', "utf-8"
    )
    assert preset("mine").explain(lang="vi").summary == "Của tôi, mine."
    assert preset("plain").explain(lang="vi").summary == preset("balanced").explain(lang="vi").summary


@pytest.mark.parametrize("lang", ["VI", "vn", "de", "", "../fields", None])
def test_an_unknown_language_names_those_there_are(lang: Any) -> None:
    with pytest.raises(PresetError, match=re.escape(repr(lang))) as caught:
        preset("balanced").explain(lang=lang)
    assert "'en'" in str(caught.value)
    assert "'vi'" in str(caught.value)


def test_a_word_without_a_translation_is_shown_in_english() -> None:
    assert said("effect", "vi") == "tác dụng"
    assert said("nothing of the kind", "vi") == "nothing of the kind"
    assert said("effect", "en") == "effect"
