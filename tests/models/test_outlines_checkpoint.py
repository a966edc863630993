from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastinfer.errors import FastInferError, ModelLoadError, ModelNotFoundError
from fastinfer.models import CheckpointInfo, CheckpointOutline, describe_checkpoint, outline_checkpoint
from fastinfer.models import resolve_checkpoint as resolve
from tiny_checkpoints import CONFIGS, PROCESSORS, safetensors_file, write_checkpoint

NAME = "org/repo"
MIB = 1 << 20
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
CONFIG = {**CONFIGS["internvl"], "text_config": {**CONFIGS["internvl"]["text_config"], "vocab_size": 64}}
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "preprocessor_config.json": json.dumps(PROCESSORS["internvl"]).encode(),
    "generation_config.json": b'{"eos_token_id": [3, 4]}',
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"vision_tower.a": SHARDS[0], "language_model.b": SHARDS[1], "lm_head.weight": SHARDS[1]}}
    ).encode(),
    SHARDS[0]: safetensors_file({"vision_tower.a": ("BF16", (1024, 1024, 8))}),
    SHARDS[1]: safetensors_file({"language_model.b": ("F32", (5,)), "lm_head.weight": ("BF16", (64, 3584))}),
    "tokenizer.json": b"{}",
    "onnx/model.safetensors": b"",
    "pytorch_model.bin": b"",
}


def refusal(name: str, error: type[FastInferError] = ModelNotFoundError) -> str:
    with pytest.raises(error) as caught, outline_checkpoint(name):
        pass
    return str(caught.value)


def without_paths(info: CheckpointInfo) -> CheckpointInfo:
    head = None if info.head is None else dataclasses.replace(info.head, file=Path(info.head.file.name))
    return dataclasses.replace(info, folder=Path(), head=head)


def test_a_folder_is_read_in_place(tmp_path: Path, scratch: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", CONFIGS["internvl"])
    with outline_checkpoint(folder) as outline:
        assert outline == CheckpointOutline(str(folder), describe_checkpoint(folder), "path", "")
        assert not list(scratch.iterdir())


def test_of_a_repository_only_headers_and_configuration_are_fetched(hub: Any, cache: Path, scratch: Path) -> None:
    commit = hub.add_files(NAME, FILES).branches["main"]
    with outline_checkpoint(NAME) as outline:
        assert (outline.name, outline.source, outline.note) == (f"{NAME}@{commit}", "hub", "")
        info = outline.info
        assert info.folder.is_relative_to(scratch)
        assert info.head is not None
        assert info.head.file.stat().st_size == len(FILES[SHARDS[1]])
    assert not list(scratch.iterdir())
    assert not cache.exists()
    assert sorted(hub.fetched()) == sorted(
        name for name in FILES if name not in ("tokenizer.json", "onnx/model.safetensors", "pytorch_model.bin")
    )
    assert hub.sent < 8 * MIB
    assert info.weight_bytes == 16 * MIB + 20 + 64 * 3584 * 2
    assert info.vision_bytes == 16 * MIB
    assert (info.end_tokens, info.image_tokens, info.tiles) == ((3, 4), 256, 12)
    assert without_paths(info) == without_paths(describe_checkpoint(resolve(NAME).folder))


def test_one_in_the_cache_is_read_there_without_asking_the_hub(hub: Any, scratch: Path) -> None:
    hub.add_files(NAME, FILES)
    found = resolve(NAME)
    requests = len(hub.requests)
    with outline_checkpoint(NAME) as outline:
        assert (outline.name, outline.info.folder, outline.source) == (found.name, found.folder, "cache")
    assert len(hub.requests) == requests


def test_one_that_the_cache_has_in_part_is_asked_for(hub: Any, go_offline: Callable[[], None], scratch: Path) -> None:
    hub.add_files(NAME, FILES)
    (resolve(NAME).folder / SHARDS[1]).unlink()
    with outline_checkpoint(NAME) as outline:
        assert outline.source == "hub"
    go_offline()
    assert "is not in the cache" in refusal(NAME)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(("status", "code", "words"), [(401, "GatedRepo", "gated"), (403, "", "403")])
def test_access_refused(hub: Any, status: int, code: str, words: str) -> None:
    repo = hub.add_files(NAME, FILES)
    repo.fails_with = (status, code)
    assert words in refusal(NAME)
    repo.lists_files_without_access = True
    assert words in refusal(NAME)


def test_a_connection_that_breaks_off(hub: Any, scratch: Path) -> None:
    hub.add_files(NAME, FILES)
    hub.cuts = [10]
    assert "could not be fetched from the hub (" in refusal(NAME)
    assert not list(scratch.iterdir())


def test_what_is_no_checkpoint(hub: Any, scratch: Path) -> None:
    assert "no such repository" in refusal("org/absent")
    assert "not a name that the hub allows" in refusal("org/re..po")
    assert "in GGUF format" in refusal("embedded", ModelLoadError)
    for name, (files, words) in {
        "org/gguf": ({"m-Q8_0.gguf": b""}, "the repository has no config.json"),
        "org/bare": ({"config.json": FILES["config.json"]}, "has no weights"),
        "org/part": ({name: FILES[name] for name in FILES if name != SHARDS[1]}, f"are missing: {SHARDS[1]}"),
    }.items():
        hub.add_files(name, files)
        assert words in refusal(name, ModelLoadError)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<!doctype html>", "its header cannot be"),
        (struct.pack("<Q", 1 << 40) + b"{}", f"its header cannot be {1 << 40} bytes long"),
        (FILES[SHARDS[0]][:-1], "the file at byte"),
    ],
)
def test_damaged_weights_are_named_with_their_repository(hub: Any, scratch: Path, content: bytes, words: str) -> None:
    hub.add_files(NAME, {"config.json": FILES["config.json"], "model.safetensors": content})
    message = refusal(NAME, ModelLoadError)
    assert f"{Path(NAME, 'model.safetensors')}: not a usable safetensors file: " in message
    assert words in message
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("vision_tower.encoder.layer.0.weight", True),
        ("model.vision_tower.encoder.layer.0.weight", True),
        ("model.multi_modal_projector.linear_1.weight", True),
        ("visual.blocks.0.weight", True),
        ("model.visual.merger.weight", True),
        ("vision_model.encoder.weight", True),
        ("mlp1.1.weight", True),
        ("language_model.model.layers.0.mlp.gate_proj.weight", False),
        ("model.layers.0.visual.weight", False),
        ("model.norm.weight", False),
    ],
)
def test_the_image_encoder_s_weights_are_told_by_their_names(tmp_path: Path, name: str, counts: bool) -> None:
    tensors = {name: ("BF16", (3, 5)), "x": ("BF16", (1,))}
    info = describe_checkpoint(write_checkpoint(tmp_path / "model", CONFIGS["internvl"], tensors))
    assert (info.weight_bytes, info.vision_bytes) == (32, 30 if counts else 0)
