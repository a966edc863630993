"""``doctor()`` on this machine: known rows, in time, without a trace; and how a diagnosis is shown."""

from __future__ import annotations

import html.parser
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from consoles import on_console
from fastinfer import Check, Diagnosis
from fastinfer.engines.turbomind.gpus import gpus
from fastinfer.errors import EngineUnavailableError, PresetError
from fastinfer.machine.doctor import rows

#: What there is without an NVIDIA GPU; packages that do not fit have rows of their own.
EXPECTED = {
    "engines": ["llama-cpp-python", "GPU support of llama.cpp", "CPU features of llama.cpp", "TurboMind"],
    "gpu": ["NVIDIA driver"],
    "cpu": ["cores", "memory nodes"],
    "memory": [
        *("available memory", "swap", "transparent huge pages"),
        *("shared memory", "open files", "locked memory"),
    ],
    "disk": ["model cache", "space for models", "memory mapping", "fastinfer's cache"],
    "hub": ["hub", "access token", "proxy"],
    "python": ["Python", "packages", "C library", "Pillow's codecs"],
    "presets": ["preset files"],
}
WILD = Check("disk", "a [red]name[/red]", "warn", "\x1b[31m<script>", "It & that.", "echo '<b>'")
BAD = Check("hub", "hub", "fail", "x" * 30, "word " * 40, f"pip install {'a' * 120}")
GOOD = Check("disk", "space", "ok", "there", "All is well.")


def has_gpu() -> bool:
    try:
        return bool(gpus())
    except EngineUnavailableError:
        return False


@pytest.fixture
def diagnosis() -> Diagnosis:
    return Diagnosis((GOOD, WILD, BAD))


@pytest.mark.skipif(has_gpu(), reason="there is an NVIDIA GPU, which has rows of its own")
def test_this_machine_gets_the_known_rows_in_time_and_keeps_no_trace(
    bare_account: Path, monkeypatch: pytest.MonkeyPatch, by_name: Any
) -> None:
    home = bare_account.parent
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "models"))
    before, modules = sorted(home.rglob("*")), set(sys.modules)
    begun = time.monotonic()
    diagnosis = fastinfer.doctor(network=False)
    assert time.monotonic() - begun < 10  # 1.3 seconds on two cores of their own
    assert sorted(home.rglob("*")) == before
    assert not {"llama_cpp", "torch", "lmdeploy"} & (set(sys.modules) - modules)
    by_name(diagnosis.checks)
    packages = {name.lower() for name in ("numpy", "Pillow", "torch", "transformers")}
    for area, names in EXPECTED.items():
        found = [check.name for check in diagnosis.checks if check.area == area]
        assert [name for name in found if area != "python" or name in names] == names
        assert area != "python" or {name.lower() for name in found} - {name.lower() for name in names} <= packages
    assert {check.area for check in diagnosis.checks} == set(EXPECTED)
    assert next(check for check in diagnosis.checks if check.name == "hub").found.endswith(("not asked", "by choice"))


def test_a_check_that_fails_is_a_row_with_the_reason(by_name: Any) -> None:
    def look(error: Exception) -> Iterator[Check]:
        yield GOOD
        raise error

    for error in (PermissionError(13, "denied"), ValueError("no number"), PresetError("no preset")):
        found = by_name(rows("disk", lambda error=error: look(error)))
        assert found["space"] == GOOD
        assert (found["check"].area, found["check"].status) == ("disk", "warn")
        assert found["check"].meaning == f"{type(error).__name__}: {error}."


def test_rows_are_on_one_line_whatever_an_error_says(by_name: Any) -> None:
    found = by_name(rows("disk", lambda: [Check("disk", "a", "fail", "one\n  two", "three\r\nfour", "true")]))
    assert (found["a"].found, found["a"].meaning) == ("one two", "three four")


def test_only_a_failure_is_not_ok(diagnosis: Diagnosis) -> None:
    assert not diagnosis.ok
    assert Diagnosis((GOOD, WILD)).ok
    assert Diagnosis(()).ok


def test_to_dict_is_json_with_every_row(diagnosis: Diagnosis) -> None:
    data = diagnosis.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["ok"] is False
    assert [row["name"] for row in data["checks"]] == ["space", "a [red]name[/red]", "hub"]
    assert data["checks"][0] == {
        **{"area": "disk", "name": "space", "status": "ok"},
        **{"found": "there", "meaning": "All is well.", "remedy": ""},
    }


def test_the_text_groups_rows_and_leaves_commands_whole(diagnosis: Diagnosis) -> None:
    lines = str(diagnosis).splitlines()
    assert lines[:3] == ["disk", "  OK    space: there", "        All is well."]
    assert lines.count("disk") == lines.count("hub") == 1
    assert f"        $ {BAD.remedy}" in lines
    assert all(len(line) <= 100 for line in lines if "$ " not in line)
    assert lines[-1] == "1 ok, 1 to look at, 1 failed"
    assert "\x1b" not in str(diagnosis)


def test_a_rich_console_shows_values_as_they_are(diagnosis: Diagnosis) -> None:
    text = on_console(diagnosis, 120)
    for part in ("a [red]name[/red]", "?[31m<script>", "It & that.", "$ echo '<b>'", "1 ok, 1 to look at, 1 failed"):
        assert part in text


def test_html_escapes_every_value(diagnosis: Diagnosis) -> None:
    tags: list[str] = []
    texts: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.append(tag)

        def handle_data(self, data: str) -> None:
            texts.append(data)

    Reader().feed(diagnosis._repr_html_())
    assert set(tags) == {"table", "thead", "tbody", "tr", "th", "td", "b", "code", "p"}
    assert tags.count("tr") == 4
    for part in (WILD.name, WILD.found, WILD.meaning, WILD.remedy, BAD.remedy):
        assert part in texts


@pytest.mark.gpu
def test_a_machine_with_gpus_gets_their_rows(by_name: Any) -> None:
    present = gpus()
    found = by_name(fastinfer.doctor(network=False).checks)
    assert found["NVIDIA driver"].status == "ok"
    assert all(f"{gpu.index}: {gpu.name}" in found["GPUs to use"].found for gpu in present)
    assert found["llama-cpp-python"].status == "ok"
    assert found["TurboMind"].status in ("ok", "warn")
    assert ("GPU state" in found) != ("GPU memory" in found)
    if "GPU memory" in found:
        assert found["GPU memory"].found.count("GPU ") >= len(present)
    assert "CUDA" in found["NVIDIA driver"].found
