"""Patterns of JSON schemas become grammars that take the same strings."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastinfer.replies.patterns import UnsupportedPatternError, pattern_rule
from fastinfer.replies.schema import compile_schema

PATTERNS = [
    "", "^$", "^a", "b$", "ab", "^a|b$|c", "^(a|b)*$", "^(?:ab){2}c?$", "^(?P<x>a)+b$", "^(?<x>a)$",
    "^a{2}$", "^a{1,}$", "^a{0,3}b$", "^a{0}$", "^a*?b+?$", "^a{b}$", "^[a-c]+$", "^[^a-c]+$", "^[]a]$",
    "^[a\\-z]$", "^[a-]$", "^[\\d_]+$", "^[^\\W]$", r"^\d{3}-\D$", r"^\w+\W\w+$", r"^\S\s\S$", r"^\.\*\[\{$",
    r"^\x41\u00e9$", r"^[\b]$", r"^\n\t\"\\$", "^.{1,4}$", '^"[^"]*"$', r"^[^\\]+$", "^日+$", r"^(\+|00)?[0-9 ]{3,8}$",
    r"^#[0-9a-fA-F]{6}$", r"^([a-z]+(-[a-z]+)*)?$", "^$|^a$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if "(?<" not in pattern])
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_strings_are_those_the_pattern_is_found_in(judge: Any, pattern: str, data: st.DataObject) -> None:
    # Python's $ also stands before a last line break, and "\\[]a]" is an empty class to ECMA-262 only.
    compiled = re.compile(re.sub(r"(?<!\\)\$", r"\\Z", pattern) if "[" not in pattern else pattern, re.ASCII)
    near = st.from_regex(compiled, alphabet=st.characters(codec="utf-8", exclude_characters="\r\x7f\u2028\u2029"))
    text = data.draw(near | st.text('ab c1-_"\\\n日A#', max_size=6))
    gbnf = compile_schema({"type": "string", "pattern": pattern}).gbnf
    found = bool(compiled.search(text)) and not text.endswith("\n")
    if not text.endswith("\n"):
        assert judge.accepts(gbnf, json.dumps(text, ensure_ascii=False)) == found, text


def test_a_named_group_of_ecma_262(judge: Any) -> None:
    rule = f"root ::= {pattern_rule('^(?<x>a)$')}"
    assert judge.accepts(rule, '"a"')
    assert not judge.accepts(rule, '"b"')


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)b", "(?!a)b", "(?<=a)b", "(?i)a", r"(a)\1", r"\bword\b", r"\p{L}", "a^b", "(^a)", "(a", "a)", "[a", "*a",
        "a++", "a**", "a{2000}", "(a{100}){100}", "[b-a]", "[^\\s\\S]", "\\", "(?P<x", r"\u12", "x{,3}",
        r"[\d-z]x{3000}",
        "(" * 5000 + ")" * 5000,
    ],
)  # fmt: skip
def test_what_a_grammar_cannot_say_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        pattern_rule(pattern)
