"""Jobs on engines in processes of their own: what kills the engine is a row among the others, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fastinfer
import tiny_chat as tiny
from beside import beside
from deadly_engines import ABORT
from fastinfer.engines.isolated.opener import Opener

LABELS = ["red circle", "blue triangle", "line"]
SMALL = {"vision_max_batch_size": 4, "workers": 1, "n_threads": 1}
#: Exact whatever shares a batch.
CHAT = {"n_ctx": 1024, "n_batch": 256, "n_ubatch": 256, "n_threads": 1, "type_k": "f32", "type_v": "f32",
        "flash_attn": False}  # fmt: skip


@pytest.fixture
def deadly_classifier(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Isolated, and one that images of certain colours end the process of."""

    def opener(kind: Any, _: str, __: str, arguments: tuple[Any, ...], **___: Any) -> Opener:
        return Opener(kind, "deadly_engines", "classifying", arguments)

    monkeypatch.setattr("fastinfer.classify.on_llama.Opener", opener)
    with fastinfer.classifier(labels=LABELS, model="embedded", isolate=True, **SMALL) as classifier:
        yield classifier


def test_an_image_that_kills_the_engine_is_a_row_and_its_siblings_are_answered(
    deadly_classifier: Any, engine: Any, photos: Path, tmp_path: Path
) -> None:
    size = 160, 160
    Image.new("RGB", size, ABORT).save(photos / "a" / "harmful.png")
    fastinfer.run(photos, tmp_path / "inside.jsonl", using=engine)
    summary = fastinfer.run(photos, tmp_path / "isolated.jsonl", using=deadly_classifier)
    assert summary.errors == 2, "this one, and one that is no image"
    inside, isolated = (
        [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
        for name in ("inside.jsonl", "isolated.jsonl")
    )
    for one, other in zip(inside, isolated, strict=True):
        assert one["path"] == other["path"]
        if one["path"] == "a/harmful.png":
            assert other["error_type"] == "EngineDeadError"
            assert "SIGABRT" in other["error_message"]
        else:
            assert one["label"] == other["label"]
    assert deadly_classifier.classify(photos / "z.png").ok


def test_a_job_of_prompts_loses_no_reply_to_the_death_of_its_engine(tmp_path: Path) -> None:
    model = tiny.write_babbler(tmp_path / "babbler.gguf", tiny.CHATML)
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions",
         "body": {"messages": [{"role": "user", "content": f"number {n}"}], "max_tokens": 60, "seed": n}}
        for n in range(120)
    ]  # fmt: skip
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with fastinfer.llm(model=model, **CHAT) as inside:
        fastinfer.run(asked, tmp_path / "inside.jsonl", using=inside)
    with fastinfer.llm(model=model, isolate=True, **CHAT) as isolated:
        killed: list[int] = []

        def kill() -> None:
            time.sleep(0.05)
            if len(killed) < 2 and isolated.metrics()["llamacpp:requests_processing"]:
                pid = isolated._engine.pid
                if pid not in killed:
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)

        with beside(kill):
            summary = fastinfer.run(asked, tmp_path / "isolated.jsonl", using=isolated)
    assert len(killed) == 2
    assert not summary.errors
    texts = [
        [json.loads(line)["response"]["body"]["choices"] for line in (tmp_path / name).read_text("utf-8").splitlines()]
        for name in ("inside.jsonl", "isolated.jsonl")
    ]
    assert texts[0] == texts[1]
