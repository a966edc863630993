"""From a name on the hub to an answer, in fresh processes: fetched, from the cache, and with the hub gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import fastinfer
import tiny_chat

EMBEDDED = Path(fastinfer.__file__).parent / "models/embedded"
SAMPLE = Path(fastinfer.__file__).parent / "samples/car.jpg"
LABELS = ["a car", "a dog", "a tree"]
TEMPLATE = "{{ messages[0].content }}"
CLASSIFIER = "org/vision-GGUF:Q8_0@v1"
CHAT = "org/chat-GGUF:Q4_K_M"
PARTS = [f"Q4_K_M/chat-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
#: Prints a line of JSON for each pair of a classification and a chat model.
PROGRAM = f"""
import json, sys, fastinfer
for classifier, chat in zip(sys.argv[1::2], sys.argv[2::2]):
    with fastinfer.classifier(model=classifier, labels={LABELS!r}, n_threads=1) as clf:
        result = clf.classify({str(SAMPLE)!r})
    with fastinfer.llm(model=chat, n_ctx=2048, parallel=1, n_threads=1) as llm:
        reply = llm.chat("Hello world", temperature=0, max_tokens=8)
    print(json.dumps({{"probabilities": result.probabilities, "classifier": result.provenance.model,
                      "text": reply.text, "chat": reply.provenance.model}}))
"""

pytestmark = pytest.mark.skipif(not EMBEDDED.exists(), reason="the package was checked out without its model")


def split(whole: Path, folder: Path) -> list[bytes]:
    """A model in three parts, as llama.cpp's own tool for splitting writes them."""
    reader = gguf.GGUFReader(whole)
    most = -(-len(reader.tensors) // 3)
    writer = gguf.GGUFWriter(folder / "chat.gguf", "llama", split_max_tensors=most)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != gguf.Keys.General.ARCHITECTURE:
            kind, *rest = field.types
            writer.add_key_value(field.name, field.contents(), kind, rest[-1] if rest else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [path.read_bytes() for path in sorted(folder.glob("chat-*-of-00003.gguf"))]


@pytest.fixture
def answers(hub: Any, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """What pairs of models answer in a process of its own, with variables of the environment."""

    def ask(*models: str, **variables: str) -> list[dict[str, Any]]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FASTINFER_"))}
        environment |= {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            **variables,
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *models],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # no bars where there is no terminal
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


def test_models_are_fetched_from_the_hub_and_answer_as_from_a_path(
    hub: Any, answers: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    model = (EMBEDDED / "embedded.gguf").read_bytes()
    projector = (EMBEDDED / "embedded-mmproj.gguf").read_bytes()
    chat = tiny_chat.write_babbler(tmp_path / "chat.gguf", TEMPLATE)
    parts = split(chat, tmp_path)
    assert len(parts) == 3
    vision = hub.add_files("org/vision-GGUF", {"m-Q8_0.gguf": b"of another version", "README.md": b""})
    wanted = {"m-Q8_0.gguf": model, "mmproj-m-F16.gguf": projector}
    first = vision.push({**wanted, "m-Q4_K_M.gguf": b"none", "mmproj-m-BF16.gguf": b"none"}, "v1")
    second = hub.add_files(
        "org/chat-GGUF", {**dict(zip(PARTS, parts, strict=True)), "Q8_0/chat-Q8_0.gguf": b"none"}
    ).branches["main"]

    expected, fetched = answers("embedded", str(chat), CLASSIFIER, CHAT)
    assert fetched["probabilities"] == expected["probabilities"]
    assert max(fetched["probabilities"], key=fetched["probabilities"].get) == "a car"
    assert fetched["text"] == expected["text"] != ""
    assert fetched["classifier"] == f"org/vision-GGUF:Q8_0@{first}"
    assert fetched["chat"] == f"{CHAT}@{second}"
    assert sorted(hub.fetched()) == sorted([*wanted, *PARTS])

    asked = len(hub.requests)
    assert answers(CLASSIFIER, CHAT, HF_HUB_OFFLINE="1") == [fetched]
    assert len(hub.requests) == asked

    hub.server.shutdown()
    hub.server.server_close()
    assert answers(CLASSIFIER, CHAT) == [fetched]
