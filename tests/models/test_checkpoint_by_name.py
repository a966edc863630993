from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from fastinfer.errors import FastInferError, ModelLoadError, ModelNotFoundError
from fastinfer.models import Checkpoint, describe_checkpoint, resolve_checkpoint
from tiny_checkpoints import CONFIGS, safetensors_file, write_checkpoint

NAME = "org/repo"
CONFIG = json.dumps(CONFIGS["qwen2_5_vl"]).encode()
WEIGHTS = safetensors_file({"a": ("BF16", (2,))})
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
SMALL = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ messages }}",
}
UNWANTED = {
    "README.md": b"",
    "pytorch_model.bin": b"",
    "pytorch_model.bin.index.json": b"{}",
    "model.pth": b"",
    "onnx/model.safetensors": b"",
    "consolidated.safetensors": b"",
    "m-Q8_0.gguf": b"",
}
SPLIT = {
    **SMALL,
    "model.safetensors.index.json": INDEX,
    SHARDS[0]: WEIGHTS,
    SHARDS[1]: safetensors_file({"b": ("BF16", (2,))}),
}


def refusal(name: str, error: type[FastInferError] = ModelNotFoundError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        resolve_checkpoint(name, **options)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, which is the home folder too, of somebody without huggingface_hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    return tmp_path


@pytest.mark.parametrize("name", ["model", "./model", "~/model", "org/../model", "{folder}/model"])
def test_a_folder(folder: Path, name: str) -> None:
    (folder / "org").mkdir()
    write_checkpoint(folder / "model", CONFIGS["internvl"])
    found = resolve_checkpoint(name.format(folder=folder))
    assert found.folder.samefile(folder / "model")
    assert found.folder.is_absolute()
    assert (found.name, found.revision, found.source) == (str(found.folder), None, "path")
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "other"  # type: ignore[misc]


def test_a_folder_goes_before_the_hub(folder: Path) -> None:
    write_checkpoint(folder / "org" / "repo", CONFIGS["internvl"])
    assert resolve_checkpoint(Path("org/repo")).source == "path"


@pytest.mark.parametrize(
    "name", ["embedded", "embedded-chat", "m.gguf", "absent.gguf", "org/repo:Q4_K_M", "org/repo:Q8_0@main"]
)
def test_gguf_is_for_another_engine(folder: Path, name: str) -> None:
    (folder / "m.gguf").touch()
    message = refusal(name, ModelLoadError)
    assert f"Model {name!r}: in GGUF format; TurboMind reads checkpoints of safetensors files." in message
    assert "preset 'embedded', which runs GGUF" in message


@pytest.mark.parametrize("name", ["absent", "./absent", "../x/y", "a/b/c", "org/repo@", "org/repo@../x", "~/x", "a\0b"])
def test_what_is_neither_a_folder_nor_a_name_on_the_hub(folder: Path, name: str) -> None:
    message = refusal(name)
    assert f"Model {name!r}: there is no such folder." in message
    assert "org/repo on the Hugging Face hub" in message


def test_an_empty_name(folder: Path) -> None:
    assert "is empty" in refusal("")


def test_folders_that_are_no_checkpoint(folder: Path) -> None:
    (folder / "file").touch()
    assert "not a folder" in refusal("file", ModelLoadError)
    (folder / "empty").mkdir()
    assert "has no config.json" in refusal("empty", ModelLoadError)
    write_checkpoint(folder / "model", CONFIGS["internvl"])
    (folder / "model/model.safetensors").rename(folder / "model/pytorch_model.bin")
    assert "pytorch_model.bin, are in PyTorch's format" in refusal("model", ModelLoadError)
    (folder / "model/pytorch_model.bin").unlink()
    assert "has no weights" in refusal("model", ModelLoadError)
    (folder / "model/model.safetensors.index.json").write_bytes(INDEX)
    assert f"missing: {SHARDS[0]}" in refusal("model", ModelLoadError)


@pytest.mark.skipif(sys.platform == "win32" or getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_what_may_not_be_read(folder: Path) -> None:
    write_checkpoint(folder / "model", CONFIGS["internvl"])
    (folder / "model").chmod(0)
    try:
        assert "cannot be read: Permission denied" in refusal("model", ModelLoadError)
    finally:
        (folder / "model").chmod(0o700)


def test_a_repository(hub: Any, cache: Path) -> None:
    commit = hub.add_files(NAME, {**SMALL, **UNWANTED, "model.safetensors": WEIGHTS, "code.py": b""}).branches["main"]
    found = resolve_checkpoint(NAME)
    folder = cache / "models--org--repo" / "snapshots" / commit
    assert found == Checkpoint(f"{NAME}@{commit}", folder, commit, "hub")
    assert sorted(hub.fetched()) == sorted([*SMALL, "model.safetensors"])
    assert hub.fetched()[-1] == "model.safetensors"
    assert describe_checkpoint(found.folder).text.layers == 28


def test_the_files_that_the_index_names_are_fetched_last(hub: Any, tmp_path: Path, cache: Path) -> None:
    hub.add_files(NAME, {**SPLIT, **UNWANTED})
    found = resolve_checkpoint(NAME, cache_dir=tmp_path / "mine")
    assert sorted(hub.fetched()) == sorted(SPLIT)
    assert hub.fetched()[-2:] == SHARDS
    assert found.folder.is_relative_to(tmp_path / "mine")
    assert not cache.exists()
    assert describe_checkpoint(found.folder).weight_bytes == 8


def test_python_files_are_fetched_only_when_asked_for(hub: Any, go_offline: Any) -> None:
    config = json.dumps(CONFIGS["internvl_chat"]).encode()
    files = {**SMALL, "config.json": config, "model.safetensors": WEIGHTS, "modeling_internvl_chat.py": b""}
    hub.add_files(NAME, files)
    assert not list(resolve_checkpoint(NAME).folder.glob("*.py"))
    go_offline()
    assert "is not in the cache" in refusal(NAME, remote_code=True)


def test_python_files_asked_for_are_there_offline(hub: Any, go_offline: Any) -> None:
    config = json.dumps(CONFIGS["internvl_chat"]).encode()
    hub.add_files(NAME, {**SMALL, "config.json": config, "model.safetensors": WEIGHTS, "modeling.py": b""})
    online = resolve_checkpoint(NAME, remote_code=True)
    assert (online.folder / "modeling.py").exists()
    go_offline()
    assert resolve_checkpoint(NAME, remote_code=True) == online == resolve_checkpoint(NAME)


def test_revisions(hub: Any) -> None:
    repo = hub.add_files(NAME, {**SMALL, "model.safetensors": WEIGHTS})
    first = repo.branches["main"]
    repo.push({**SPLIT, "extra.json": b"{}"}, "refs/pr/1")
    second = repo.branches["refs/pr/1"]
    for revision, commit in {"main": first, first: first, "refs/pr/1": second}.items():
        found = resolve_checkpoint(f"{NAME}@{revision}")
        assert (found.revision, found.name) == (commit, f"{NAME}@{commit}")
    assert "no revision 'v2'" in refusal(f"{NAME}@v2")


def test_all_files_are_of_one_commit_when_the_branch_moves(hub: Any) -> None:
    repo = hub.add_files(NAME, {**SMALL, "model.safetensors": WEIGHTS})
    listed = repo.branches["main"]

    def move() -> None:
        if len(repo.commits) == 1:
            repo.push({**SPLIT, "new.json": b"{}"})

    hub.after_listing = move
    found = resolve_checkpoint(NAME)
    assert found.revision == listed
    assert {entry.name for entry in found.folder.iterdir()} == {*SMALL, "model.safetensors"}
    newer = resolve_checkpoint(NAME)
    assert newer.revision == repo.branches["main"] != listed
    assert {entry.name for entry in newer.folder.iterdir()} == {*SPLIT, "new.json"}


@pytest.mark.parametrize("name", [NAME, f"{NAME}@main", f"{NAME}@{{commit}}"])
def test_the_second_time_it_comes_from_the_cache(
    hub: Any, go_offline: Any, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    name = name.format(commit=hub.add_files(NAME, {**SPLIT, **UNWANTED}).branches["main"])
    online = resolve_checkpoint(name)
    fetched = len(hub.fetched())
    assert resolve_checkpoint(name) == online
    assert len(hub.fetched()) == fetched
    go_offline()
    requests = len(hub.requests)
    assert resolve_checkpoint(name) == online
    assert len(hub.requests) == requests
    assert not [record for record in caplog.records if record.name.startswith("fastinfer")]


def test_with_the_network_down_the_cache_is_used_and_it_is_said(
    hub: Any, cut_network: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add_files(NAME, SPLIT)
    online = resolve_checkpoint(NAME)
    cut_network()
    assert resolve_checkpoint(NAME) == online
    (record,) = [record for record in caplog.records if record.name.startswith("fastinfer")]
    assert record.levelno == logging.WARNING
    assert f"using the cached revision {online.revision}" in record.message


@pytest.mark.parametrize("lacking", ["config.json", SHARDS[1], "everything"])
def test_a_checkpoint_cached_in_part_does_not_count(hub: Any, go_offline: Any, cache: Path, lacking: str) -> None:
    hub.add_files(NAME, SPLIT)
    if lacking != "everything":
        (resolve_checkpoint(NAME).folder / lacking).unlink()
    go_offline()
    message = refusal(NAME)
    for words in (
        "offline (HF_HUB_OFFLINE is set)",
        f"the model is not in the cache {cache}",
        "`hf download org/repo --include ",
        '"*.safetensors"`',
    ):
        assert words in message
    assert "bin" not in message


def test_files_fetched_with_the_hubs_own_tool_are_found_offline(hub: Any, cache: Path, go_offline: Any) -> None:
    hub.add_files(NAME, {**SPLIT, **UNWANTED})
    huggingface_hub.snapshot_download(NAME, allow_patterns=["*.json", "*.safetensors"], cache_dir=cache)
    go_offline()
    assert resolve_checkpoint(NAME).folder.is_relative_to(cache)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"m-Q8_0.gguf": b""}, "the repository has no config.json"),
        ({**SMALL}, "the repository: has no weights"),
        ({**SMALL, "pytorch_model.bin": b""}, "pytorch_model.bin, are in PyTorch's format"),
        ({**SMALL, "onnx/model.safetensors": b""}, "the repository: has no weights"),
    ],
)
def test_repositories_that_hold_no_checkpoint_are_refused_before_anything_is_fetched(
    hub: Any, files: dict[str, bytes], words: str
) -> None:
    hub.add_files(NAME, files)
    assert words in refusal(NAME, ModelLoadError)
    assert hub.fetched() == []


def test_a_shard_that_the_repository_lacks(hub: Any) -> None:
    hub.add_files(NAME, {name: content for name, content in SPLIT.items() if name != SHARDS[1]})
    assert f"1 of the 2 files that model.safetensors.index.json names are missing: {SHARDS[1]}" in refusal(
        NAME, ModelLoadError
    )
    assert not set(SHARDS) & set(hub.fetched())


@pytest.mark.parametrize(("status", "code", "words"), [(401, "GatedRepo", "gated"), (403, "", "403"), (410, "", "410")])
def test_access_refused(hub: Any, status: int, code: str, words: str) -> None:
    hub.add_files(NAME, SPLIT).fails_with = (status, code)
    assert words in refusal(NAME)


def test_a_repository_that_does_not_exist(hub: Any) -> None:
    assert "no such repository" in refusal("org/absent")
    assert "not a name that the hub allows" in refusal("org/re..po")


def test_a_download_that_fails(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_files(NAME, SPLIT)

    def fail(*args: object, **options: object) -> str:
        raise RuntimeError("the library for downloads\ngave up")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert "could not be fetched from the hub (RuntimeError: the library for downloads)" in refusal(NAME)
