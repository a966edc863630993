"""A preset that memory is too short for: refused with the first step to take, or made smaller step by step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import EngineOutOfMemoryError, PresetError
from fastinfer.planning import plan
from gpu_memory import other_process_leaves

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")

#: Opens a preset where the process may have so many bytes more than it has when the engine's libraries are loaded.
IN_LITTLE_MEMORY = """
import json, resource, sys
import fastinfer
import fastinfer.engines.llama.chat.engine
from fastinfer.errors import FastInferError
asked = json.loads(sys.argv[1])
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + asked.pop("room")
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
open_it = getattr(fastinfer, asked.pop("function"))
try:
    with open_it(asked.pop("preset"), **asked) as opened:
        said = {"adjustments": [[a.field, a.asked, a.used, a.why] for a in opened.provenance.adjustments]}
        said["fingerprint"] = opened.provenance.fingerprint
        if hasattr(opened, "chat"):
            said["tokens"] = opened.chat("hello", max_tokens=4, ignore_eos=True).usage.completion_tokens
        else:
            said["label"] = opened.classify(sys.argv[2]).label
except FastInferError as error:
    said = {"error": type(error).__name__, "message": error.message, "hint": error.hint,
            "cause": type(error.__cause__).__name__}
print(json.dumps(said))
"""


def in_little_memory(room: int, function: str, preset: str, *more: str, **options: Any) -> dict[str, Any]:
    asked = json.dumps({"room": room, "function": function, "preset": preset, **options})
    done = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY, asked, *more], capture_output=True, text=True, check=True, timeout=120
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


#: The tiny model's cache takes 1 GiB for a million tokens; 400 MiB are enough for the documented 32k.
LARGE = {"n_ctx": 2**20, "n_ubatch": 2048, "n_batch": 2048, "n_threads": 1, "chat_template": "transcript"}
ROOM = 600 * 2**20


@LINUX
def test_steps_are_taken_in_the_documented_order_until_one_fits(babbler: Path) -> None:
    said = in_little_memory(ROOM, "llm", "embedded", model=str(babbler), on_oom="adapt", **LARGE)
    assert [entry[:3] for entry in said["adjustments"] if entry[0] in ("n_ubatch", "n_ctx")][:2] == [
        ["n_ctx", 2**20, 32768],
        ["n_ubatch", 2048, 1024],
    ]
    assert all("memory ran short" in entry[3] for entry in said["adjustments"][:2])
    asked = fastinfer.preset("embedded", kind="chat").replace(**LARGE)
    assert said["fingerprint"] == asked.fingerprint, "it is still the preset that was asked for"
    assert said["tokens"] == 4


@LINUX
def test_classification_steps_down_as_well() -> None:
    image = str(Path(fastinfer.__file__).parent / "samples/red-circle.png")
    large = {"n_ctx": 2**20, "n_threads": 1, "workers": 1, "labels": ["red circle", "dog"]}
    said = in_little_memory(ROOM, "classifier", "embedded", image, on_oom="adapt", **large)
    assert {entry[0]: entry[2] for entry in said["adjustments"] if "memory ran short" in entry[3]}["n_ctx"] <= 8192
    assert said["label"] == "red circle"


@pytest.mark.parametrize("function", [fastinfer.llm, fastinfer.classifier])
def test_what_is_neither_is_refused_before_anything_is_loaded(function: Any) -> None:
    with pytest.raises(PresetError, match="on_oom is 'shrink'"):
        function("embedded", on_oom="shrink")
    with pytest.raises(PresetError, match="strict=True forbids"):
        function("embedded", on_oom="adapt", strict=True)


@pytest.mark.gpu
@pytest.mark.parametrize("on_oom", ["raise", "adapt"])
def test_a_gpu_that_others_fill_is_refused_before_llama_cpp_ends_the_process(babbler: Path, on_oom: str) -> None:
    asked = fastinfer.preset("balanced", kind="chat").replace(n_ctx=2**22, chat_template="transcript")
    need, enough = (plan(asked.replace(n_ctx=size), model=babbler, gpu="H200").size for size in (asked.n_ctx, 32768))
    assert need - enough > 2**29, "there is room between them"
    with other_process_leaves((need + enough) // 2):
        if on_oom == "raise":
            with pytest.raises(
                EngineOutOfMemoryError, match=r"The first step that would fit: .*n_ctx 4194304 -> 32768"
            ):
                fastinfer.llm(asked, model=babbler)
            return
        with fastinfer.llm(asked, model=babbler, on_oom="adapt") as llm:
            used = {each.field: each.used for each in llm.provenance.adjustments}
            assert used["n_ctx"] == 32768
            assert llm.chat("hello", max_tokens=4, ignore_eos=True).usage.completion_tokens == 4
