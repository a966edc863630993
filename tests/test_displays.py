"""Whatever comes back is shown as a table in a notebook and as text elsewhere, and both say the same."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from consoles import on_console
from fastinfer import Adjustment, Calibration, Check, Classification, Comparison, JobSummary, Provenance, Reply, Results
from fastinfer.calibrating import Quality
from fastinfer.chat.slots import Metrics, Slots
from fastinfer.comparing.results import Answer, ComparedImage, Side, SpeedRatio
from fastinfer.comparing.statistics import share
from fastinfer.tuning.goal import Goal
from fastinfer.tuning.results import Point
from fastinfer.verifying import confront

HOSTILE = "<script>alert(1)</script>"

ADJUSTMENT = Adjustment("session_len", 512, 560, HOSTILE)
RAN = Provenance("turbomind", HOSTILE, "prod", "0123456789abcdef", "CUDA0", "rows", (ADJUSTMENT,), "fedcba9876543210")
PRESET = fastinfer.preset("embedded", kind="classify").replace(prompt=HOSTILE, vision_max_batch_size=4)
RECEIPT = replace(fastinfer.preset("prod", kind="classify").receipts[0], model=HOSTILE)
IMAGE = Classification(HOSTILE, "cat", 0.75, {"cat": 0.75, HOSTILE: 0.25}, 0.5, 80, None, RAN, None, (HOSTILE,), False)


def plan() -> fastinfer.Plan:
    return replace(fastinfer.plan("prod", kind="classify", gpu="T4"), model=HOSTILE, remarks=(HOSTILE,))


def tuned() -> fastinfer.Tuned:
    points = (
        Point({}, PRESET, RECEIPT.figures, 3, (), "given", ""),
        Point({"workers": 1}, PRESET.replace(workers=1), RECEIPT.figures, 3, (1.25, 1.5), "best", HOSTILE),
    )
    goal = Goal("classify", "throughput")
    return fastinfer.Tuned(PRESET.replace(workers=1), PRESET, goal, RECEIPT, points, 1.25, 60.0, 43.0, "", HOSTILE)


def comparison() -> Comparison:
    side = Side(HOSTILE, RAN, share(1, 2), 0.5, 123.0, 2**30, None, 0)
    images = tuple(
        ComparedImage(HOSTILE, None, "cat", Answer("cat", 0.75, 0.5), Answer("cat", 0.8, 0.5), 0.05) for _ in "12"
    )
    speed = SpeedRatio(1.5, 1.25, 1.75, 3)
    return Comparison(side, side, ("cat", HOSTILE), images, None, share(2, 2), None, speed, True, (HOSTILE,))


def job() -> JobSummary:
    counts = {"total": 9, "computed": 5, "reused": 3, "duplicates": 1, "errors": 2, "errors_by_type": {HOSTILE: 2}}
    where = {"output": Path(HOSTILE), "journal": Path("j"), "kind": "classify", "unit": "image"}
    how = {"seconds": 2.0, "rate": 2.5, "bottleneck": HOSTILE, "configuration": "0" * 16, "provenance": RAN}
    return JobSummary(**where, **counts, **how)


def calibration() -> Calibration:
    before, after = Quality(0.5, 0.125), Quality(0.25, 0.0625)
    return Calibration(
        ("cat", HOSTILE), 1.5, 0.9, tuple(range(-9, 3)), (11, 1), 10, 1, before, after, HOSTILE, "What?", "0" * 16
    )


def slots() -> Slots:
    idle = {"id": 1, "n_ctx": 8192, "is_processing": False}
    busy = {
        "id": 0, "n_ctx": 8192, "is_processing": True, "n_prompt_tokens": 1234, "n_prompt_tokens_cache": 1000,
        "n_prompt_tokens_processed": 234, "params": {"n_predict": -1, "stop": [HOSTILE]},
        "next_token": {"n_decoded": 17},
    }  # fmt: skip
    return Slots([busy, idle])


#: What each class of results looks like with hostile text of the user's in it.
EXAMPLES: dict[str, Callable[[], Any]] = {
    "Adjustment": lambda: ADJUSTMENT,
    "Calibration": calibration,
    "Classification": lambda: IMAGE,
    "ClassificationReport": lambda: fastinfer.report([IMAGE] * 3, ["cat", "cat", HOSTILE], title=HOSTILE),
    "Comparison": comparison,
    "Diagnosis": lambda: fastinfer.Diagnosis((Check("python", HOSTILE, "warn", HOSTILE, "70 MiB", HOSTILE),)),
    "Explanation": lambda: PRESET.explain([ADJUSTMENT]),
    "JobSummary": job,
    "Metrics": lambda: Metrics({"llamacpp:prompt_tokens_total": 1234, "llamacpp:prompt_seconds_total": 0.125}),
    "Plan": plan,
    "Preset": lambda: PRESET,
    "Provenance": lambda: RAN,
    "Reply": lambda: Reply(HOSTILE, HOSTILE, usage=fastinfer.Usage(1234, 8, 12)),
    "Results": lambda: Results([IMAGE, replace(IMAGE, confidence=0.625)]),
    "Slots": slots,
    "Tuned": tuned,
    "Verification": lambda: confront(PRESET, RECEIPT, replace(RECEIPT, model=f"{HOSTILE} ")),
}

#: Public classes that are no results of a question, or only part of one.
OTHERS = {
    "ChatOptions", "ChatRequest", "ChatTimings", "Check", "Classifier", "LLM", "MetricsServer", "Piece", "Timings",
    "ToolCall", "Usage",
}  # fmt: skip
#: Those whose str() is the answer alone; a rich console has all of it as text.
SHORT = {"Classification", "Reply"}
#: Those that hold no text of the user's that is shown.
NUMBERS = {"Metrics", "Slots"}


class Reader(HTMLParser):
    """The tags of HTML, and its text as people see it."""

    def __init__(self, shown: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._hidden = 0
        self.feed(shown)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self._hidden += tag in ("style", "svg")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "svg")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else f" {data} "


def as_text(name: str, shown: Any) -> str:
    text = on_console(shown, 400) if name in SHORT else str(shown)
    return " ".join(text.split())


def test_every_public_class_of_results_is_held_to_this() -> None:
    public = {name for name in fastinfer.__all__ if isinstance(getattr(fastinfer, name), type)}
    assert public - OTHERS == EXAMPLES.keys() - NUMBERS


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_result_has_a_form_for_notebooks_that_escapes_what_users_write(name: str) -> None:
    shown = EXAMPLES[name]()._repr_html_()
    assert not {"script", "iframe", "object"} & set(Reader(shown).tags)
    assert "<script>" not in shown
    assert ("&lt;script&gt;" in shown) == (name not in NUMBERS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_figures_in_the_notebook_are_in_the_text_too(name: str) -> None:
    made = EXAMPLES[name]()
    text = as_text(name, made)
    seen = Reader(made._repr_html_()).text.replace(f"fastinfer {fastinfer.__version__}", "")  # who made the page
    figures = re.findall(r"\d[\d.,]*", seen)
    assert figures
    assert [figure for figure in figures if figure.rstrip(".,") not in text] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_rich_console_shows_it_and_takes_no_markup_from_users(name: str) -> None:
    if name != "Adjustment":
        assert HOSTILE in on_console(EXAMPLES[name](), 400) or name in NUMBERS


def test_slots_and_metrics_are_a_list_and_a_dict_in_all_else() -> None:
    for made, plain in ((slots(), list(slots())), (Metrics(a=1.5), {"a": 1.5})):
        assert made == plain
        assert json.dumps(made) == json.dumps(plain)
        assert repr(made) == repr(plain)
        assert pickle.loads(pickle.dumps(made)) == plain


def test_slots_say_what_each_does() -> None:
    assert str(slots()).splitlines() == [
        "1 of 2 slots busy",
        "A conversation may have 8,192 tokens, prompt and reply.",
        "",
        "slot  state    prompt tokens  cached  read  generated  at most",
        "0     writing  1,234          1,000   234   17         what fits",
        "1     idle",
    ]
    assert str(Slots()).startswith("0 of 0 slots busy")


def test_a_preset_shows_its_values_and_those_that_are_not_as_documented() -> None:
    lines = str(PRESET).splitlines()
    assert lines[0] == f"embedded (classify), {PRESET.source}, fingerprint {PRESET.fingerprint}"
    values = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert values["vision_max_batch_size"] == ["4", "8"]
    assert values["flash_attn"] == ["false"]
    assert set(PRESET.parameters.model_dump()) <= values.keys()
    long = PRESET.replace(prompt="What is\nthis? " * 20)
    assert max(map(len, str(long).splitlines())) <= 120


def test_a_provenance_says_what_the_engine_got_and_why() -> None:
    assert f"session_len: asked 512, got 560: {HOSTILE}" in str(RAN)
    assert "calibration" in str(RAN)
    assert "calibration" not in str(replace(RAN, calibration=None))
