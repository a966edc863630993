from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastinfer.errors import PresetError
from fastinfer.preset_library import ModelChoice, default_model, preset

VARIABLES = {"classify": "FASTINFER_CLASSIFY_MODEL", "chat": "FASTINFER_CHAT_MODEL"}


@pytest.fixture(params=[("classify", "prod"), ("classify", "embedded"), ("chat", "balanced"), ("chat", "embedded")])
def chosen(request: pytest.FixtureRequest) -> Any:
    kind, name = request.param
    return preset(name, kind=kind)


def test_the_argument_comes_first(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[chosen.kind], "org/from-environment")
    assert default_model(chosen.kind, chosen, "org/mine") == ModelChoice("org/mine", "argument")
    assert default_model(chosen.kind, chosen, Path("my.gguf")) == ("my.gguf", "argument")


def test_the_environment_comes_before_the_preset(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[chosen.kind], "org/from-environment")
    assert default_model(chosen.kind, chosen) == ("org/from-environment", VARIABLES[chosen.kind])


def test_the_environment_of_the_other_kind_does_not_count(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (other,) = set(VARIABLES) - {chosen.kind}
    monkeypatch.setenv(VARIABLES[other], "org/from-environment")
    assert default_model(chosen.kind, chosen).model == chosen.model


@pytest.mark.parametrize("value", ["", None])
def test_without_argument_and_environment_it_is_the_presets_model(
    chosen: Any, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv(VARIABLES[chosen.kind], value)
    assert default_model(chosen.kind, chosen) == (chosen.model, f"preset '{chosen.name}' (built-in)")


def test_the_environment_comes_before_a_users_preset(
    write_presets: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_presets('[chat.mine]\nextends = "balanced"\nmodel = "mine.gguf"\n')
    assert default_model("chat", preset("mine")) == ("mine.gguf", f"preset 'mine' ({path})")
    monkeypatch.setenv("FASTINFER_CHAT_MODEL", "env.gguf")
    assert default_model("chat", preset("mine")).model == "env.gguf"


def test_a_model_replaced_in_the_program_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINFER_CHAT_MODEL", "env.gguf")
    replaced = preset("balanced").replace(model="mine.gguf")
    assert default_model("chat", replaced) == ("mine.gguf", "preset 'balanced' (built-in, replaced: model)")
    assert default_model("chat", preset("balanced").replace(n_ctx=65536)).model == "env.gguf"


def test_an_empty_argument_and_a_preset_of_another_kind_are_refused() -> None:
    with pytest.raises(PresetError, match="name is empty"):
        default_model("chat", preset("balanced"), "")
    with pytest.raises(PresetError, match="'balanced' is of kind 'chat', not 'classify'"):
        default_model("classify", preset("balanced"))
