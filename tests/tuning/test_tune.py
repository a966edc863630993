"""Tuning with real engines: what comes back, how it is shown, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from consoles import on_console
from fastinfer.errors import (
    FastInferError,
    ImageDecodeError,
    MessageError,
    ModelNotFoundError,
    PresetError,
    PromptTooLongError,
)
from fastinfer.measuring import Receipt
from fastinfer.tuning import Ladder

SLOTS = Ladder("chat", "llama.cpp", ("throughput",), ("parallel",), (8,), "more at once")
PROMPTS = ["hello world", "What is the name of the world? " * 4, "What is a tool call?"]


def tune_chat(preset: Any, model: Path, **options: Any) -> fastinfer.Tuned:
    options = {"sample": PROMPTS, "ladders": [SLOTS], "max_tokens": 8, "progress": False, "budget": 60, **options}
    return fastinfer.tune(preset, model=model, **options)


def test_more_slots_are_found_with_a_context_that_holds_them(small_chat: Any, chat_model: Path) -> None:
    small = small_chat.replace(kv_unified=False)
    tuned = tune_chat(small, chat_model, sample=[*PROMPTS, "hello " * 150])
    tried = tuned.points[1]
    assert tried.changes["parallel"] == 8
    assert tried.changes["n_ctx"] >= 8 * 256
    assert f"A slot holds {tuned.preset.n_ctx // tuned.preset.parallel} tokens" in tuned.note
    assert tuned.stopped == ""
    assert tuned.best.figures is not None
    assert tuned.best.figures.errors == 0


def test_the_result_is_a_preset_that_can_be_used_and_a_receipt_for_it(tuned: Any, pictures: list[Any]) -> None:
    assert tuned.preset.name == ("embedded-tuned" if tuned.best.changes else "embedded")
    assert tuned.preset.fingerprint == tuned.receipt.fingerprint == tuned.best.preset.fingerprint
    assert tuned.receipt.command == "a test"
    assert tuned.receipt.workload.items == len(pictures)
    assert tuned.receipt.workload.labels == 6
    assert Receipt.from_dict(tuned.receipt.to_dict()) == tuned.receipt
    with fastinfer.classifier(tuned.preset, model="embedded", labels=["line", "red circle"]) as classifier:
        assert classifier.classify(pictures[0]).label == "red circle"


def test_every_candidate_is_there_with_its_verdict(tuned: Any) -> None:
    given, tried, illegal = tuned.points
    assert given.changes == {}
    assert given.rounds >= 3
    assert tried.changes == {"vision_max_batch_size": 1}
    assert tried.verdict in ("best", "dropped")
    assert len(tried.ratios) >= 2
    assert illegal.verdict == "failed"
    assert "vision_max_batch_size" in illegal.why
    assert illegal.figures is None


def test_the_front_has_nothing_that_another_point_beats_in_both(tuned: Any) -> None:
    assert tuned.pareto
    for point in tuned.pareto:
        assert not tuned.dominating(point)
    beaten = [p for p in tuned.points if p.figures is not None and p not in tuned.pareto]
    assert all(any(q.throughput >= p.throughput and q.latency <= p.latency for q in tuned.pareto) for p in beaten)


def test_it_survives_json(tuned: Any) -> None:
    data = json.loads(json.dumps(tuned.to_dict(), allow_nan=False))
    again = fastinfer.Tuned.from_dict(data)
    assert again.to_dict() == data
    assert str(again) == str(tuned)
    assert [point.changes for point in again.pareto] == [point.changes for point in tuned.pareto]
    assert again.best.preset.fingerprint == tuned.best.preset.fingerprint
    for broken in ({}, {**data, "points": [{}]}, {**data, "goal": 3}):
        with pytest.raises(PresetError, match="cannot be read"):
            fastinfer.Tuned.from_dict(broken)


def test_text_rich_and_html_say_the_same(tuned: Any) -> None:
    for shown in (str(tuned), on_console(tuned, 200), tuned._repr_html_()):
        assert "the highest throughput" in shown
        assert "vision_max_batch_size=1" in shown
        assert "The values as given come" in shown
    assert "1 failed" in str(tuned)


def test_the_plot_is_a_picture(tuned: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra tune")
    path = tmp_path / "curve.png"
    tuned.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert tuned._repr_png_().startswith(b"\x89PNG")
    assert "data:image/png;base64," in tuned._repr_html_()
    with pytest.raises(FastInferError, match="cannot be written"):
        tuned.plot(tmp_path / "none" / "curve.png")


def test_without_matplotlib_the_error_names_the_extra(tuned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FastInferError, match=r"fastinfer\[tune\]"):
        tuned.plot()
    assert tuned._repr_png_() is None
    assert "<table>" in tuned._repr_html_()


def test_a_budget_for_nothing_gives_the_preset_back_with_the_least_that_would_do(
    small_chat: Any, chat_model: Path
) -> None:
    tuned = tune_chat(small_chat, chat_model, budget=0.001)
    assert tuned.stopped == "budget"
    assert tuned.preset.parameters == small_chat.parameters
    assert "least that can lead to anything is about" in tuned.note
    assert [point.verdict for point in tuned.points] == ["given", "not measured"]


def test_ctrl_c_gives_what_there_is(small_chat: Any, chat_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def press(_: Any) -> int:
        raise KeyboardInterrupt

    ladder = Ladder("chat", "llama.cpp", ("throughput",), ("n_ubatch",), (press,), "why")
    tuned = tune_chat(small_chat, chat_model, ladders=[ladder], progress=True)
    assert tuned.stopped == "interrupted"
    assert tuned.preset.parameters == small_chat.parameters
    assert "it was interrupted" in str(tuned)
    assert "as given" in capsys.readouterr().err


def test_the_wait_for_the_first_token_is_measured_with_as_many_clients_throughout(
    small_chat: Any, chat_model: Path
) -> None:
    tuned = tune_chat(small_chat.replace(parallel=2), chat_model, aim="first-token-latency")
    assert {point.figures.concurrency for point in tuned.points if point.figures} == {2}


@pytest.mark.parametrize(
    "options",
    [{"aim": "speed"}, {"limit": 1.0}, {"aim": "memory", "limit": -1.0}, {"budget": 0.0}, {"budget": float("nan")}],
)
def test_what_makes_no_sense_is_refused_before_anything_is_loaded(options: dict[str, Any]) -> None:
    with pytest.raises(PresetError):
        tune_chat("embedded", Path("no such model.gguf"), kind="chat", **options)


def test_a_sample_that_cannot_be_used_is_refused(small_chat: Any, small_images: Any, chat_model: Path) -> None:
    with pytest.raises(MessageError, match="empty"):
        tune_chat(small_chat, chat_model, sample=[])
    with pytest.raises(MessageError, match="list"):
        tune_chat(small_chat, chat_model, sample="hello")
    with pytest.raises(MessageError):
        tune_chat(small_chat, chat_model, sample=[7])
    with pytest.raises(PromptTooLongError, match="longest prompt of the sample") as caught:
        tune_chat(small_chat, chat_model, sample=["hello " * 2000])
    assert caught.value.limit == 512
    with pytest.raises(ImageDecodeError, match="empty"):
        fastinfer.tune(small_images, sample=[], progress=False)
    with pytest.raises(ImageDecodeError, match="list"):
        fastinfer.tune(small_images, sample=Path("photos"), progress=False)
    with pytest.raises(ImageDecodeError):
        fastinfer.tune(small_images, model="embedded", sample=["missing.png"], progress=False)


def test_a_preset_or_model_that_is_not_there_is_an_error_of_its_own(small_chat: Any, tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="no preset"):
        fastinfer.tune("balancd", sample=["hello"])
    with pytest.raises(ModelNotFoundError):
        tune_chat(small_chat, tmp_path / "none.gguf")
