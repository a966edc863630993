from __future__ import annotations

import json
from typing import Any, get_args

import fastinfer
from fastinfer.cli.explain import Language
from fastinfer.preset_library import translation


def test_a_preset_is_explained_in_the_language_asked_for(run: Any) -> None:
    explanation = fastinfer.preset("balanced").explain(lang="vi")
    assert run("explain", "balanced", "--lang", "vi").stdout == f"{explanation}\n"
    assert json.loads(run("explain", "balanced", "--lang", "vi", "--json").stdout) == explanation.to_dict()
    assert run("explain", "balanced", "--lang", "en").stdout == run("explain", "balanced").stdout


def test_a_terminal_gets_the_table_in_that_language(on_terminal: Any) -> None:
    code, written = on_terminal(100, "explain", "balanced", "--lang", "vi")
    assert code == 0
    assert "Trường và giá trị" in written
    assert "token đầu tiên" in written


def test_an_unknown_language_is_a_mistake_in_the_command(run: Any) -> None:
    result = run("explain", "balanced", "--lang", "de")
    assert result.exit_code == 2
    assert "vi" in result.stderr


def test_the_option_has_every_language_there_is() -> None:
    assert {each.value for each in Language} == set(get_args(translation.Language))
