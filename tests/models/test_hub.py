from __future__ import annotations

import errno
import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models import GgufModel, resolve_gguf

NAME = "org/repo"


def refusal(name: str) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_gguf(name)
    return str(caught.value)


def test_the_default_quantisation_and_its_projector(hub: Any, cache: Path, model: bytes, projector: bytes) -> None:
    files = {"m-Q8_0.gguf": model, "m-Q4_K_M.gguf": model, "mmproj-BF16.gguf": projector, "mmproj-F16.gguf": projector}
    commit = hub.add_files(NAME, {"README.md": b"", **files}).branches["main"]
    found = resolve_gguf(NAME)
    folder = cache / "models--org--repo" / "snapshots" / commit
    assert found == GgufModel(
        f"org/repo:Q4_K_M@{commit}", folder / "m-Q4_K_M.gguf", folder / "mmproj-F16.gguf", commit, "hub"
    )
    assert found.model.read_bytes() == model
    assert sorted(hub.fetched()) == ["m-Q4_K_M.gguf", "mmproj-F16.gguf"]


def test_a_named_quantisation_in_a_cache_of_ones_own(hub: Any, cache: Path, tmp_path: Path, model: bytes) -> None:
    commit = hub.add_files(NAME, {"m-Q4_K_M.gguf": model, "m-UD-Q5_K_XL.gguf": model}).branches["main"]
    found = resolve_gguf("org/repo:q5_k_xl", cache_dir=tmp_path / "mine")
    assert (found.name, found.projector) == (f"org/repo:UD-Q5_K_XL@{commit}", None)
    assert found.model.is_relative_to(tmp_path / "mine")
    assert not cache.exists()


def test_a_file_without_quantisation_in_its_name(hub: Any, model: bytes) -> None:
    commit = hub.add_files(NAME, {"b.gguf": model, "a.gguf": model}).branches["main"]
    found = resolve_gguf(NAME)
    assert (found.name, found.model.name) == (f"org/repo@{commit}", "a.gguf")


def test_an_unknown_quantisation(hub: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m-Q8_0.gguf": model, "m-UD-Q2_K.gguf": model, "plain.gguf": model})
    message = refusal("org/repo:Q5_K_M")
    assert "no quantisation 'Q5_K_M'" in message
    assert "It has Q8_0, UD-Q2_K, plain.gguf." in message
    assert hub.fetched() == []


def test_a_repository_without_gguf(hub: Any, projector: bytes) -> None:
    hub.add_files(NAME, {"model.safetensors": b"", "mmproj-F16.gguf": projector})
    assert "no model in GGUF format" in refusal(NAME)


def test_revisions(hub: Any, model: bytes, gguf: Any) -> None:
    repo = hub.add_files(NAME, {"m-Q8_0.gguf": model})
    first = repo.branches["main"]
    second = repo.push({"m-Q8_0.gguf": gguf("qwen2"), "m-Q4_K_M.gguf": model}, "refs/pr/1")
    third = repo.push({"m-Q8_0.gguf": gguf("qwen3")}, "v1.0")
    names = {"main": first, first: first, "refs/pr/1": second, second: second, "v1.0": third, third[:7]: third}
    for revision, commit in names.items():
        found = resolve_gguf(f"org/repo:Q8_0@{revision}")
        assert (found.revision, found.name) == (commit, f"org/repo:Q8_0@{commit}")
    assert "no revision 'v2'" in refusal("org/repo@v2")


def test_the_beginning_of_a_commit(hub: Any, go_offline: Any, model: bytes) -> None:
    repo = hub.add_files(NAME, {"m.gguf": model})
    commit = repo.branches["main"]
    other = "0" + commit[1:] if commit[0] != "0" else "1" + commit[1:]
    repo.commits |= {other: {}, other[:39] + "x": {}}
    found = resolve_gguf(f"{NAME}@{commit[:7]}")
    assert found.revision == commit
    for revision in (commit[:6], other[:12], "abcdef1", "V1"):
        assert f"no revision {revision!r}" in refusal(f"{NAME}@{revision}")
    go_offline()
    assert resolve_gguf(f"{NAME}@{commit[:12]}") == found
    assert "not in the cache" in refusal(f"{NAME}@{commit[:6]}")


def test_all_parts_are_fetched(hub: Any, model: bytes, gguf: Any, projector: bytes) -> None:
    names = [f"Q8_0/m-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    contents = [model, gguf(None), gguf(None, metadata={"n": 3})]
    hub.add_files(NAME, {**dict(zip(names, contents, strict=True)), "mmproj-F32.gguf": projector})
    found = resolve_gguf("org/repo:Q8_0")
    assert [(found.model.parent / Path(name).name).read_bytes() for name in names] == contents
    assert found.model.name == "m-Q8_0-00001-of-00003.gguf"
    assert found.projector is not None
    assert sorted(hub.fetched()) == [*names, "mmproj-F32.gguf"]


def test_a_part_that_the_repository_lacks(hub: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m-Q8_0-00001-of-00002.gguf": model})
    assert "lacks part 'm-Q8_0-00002-of-00002.gguf'" in refusal(NAME)


def test_all_files_are_of_one_commit_when_the_branch_moves(
    hub: Any, go_offline: Any, model: bytes, gguf: Any, projector: bytes
) -> None:
    files = {"m-Q8_0.gguf": model, "mmproj-F16.gguf": projector}
    repo = hub.add_files(NAME, files)
    listed = repo.branches["main"]

    def move() -> None:
        if len(repo.commits) == 1:
            repo.push({"m-Q8_0.gguf": gguf("qwen2"), "mmproj-BF16.gguf": projector})

    hub.after_listing = move
    found = resolve_gguf(NAME)
    assert found.revision == listed
    assert found.projector is not None
    assert {found.model.name: found.model.read_bytes(), found.projector.name: found.projector.read_bytes()} == files
    newer = resolve_gguf(NAME)
    assert newer.revision == repo.branches["main"] != listed
    go_offline()
    assert resolve_gguf(NAME) == newer


@pytest.mark.parametrize("name", [NAME, "org/repo:q4_k_m", "org/repo@main", "org/repo:Q4_K_M@{commit}"])
def test_the_second_time_it_comes_from_the_cache(
    hub: Any, go_offline: Any, caplog: pytest.LogCaptureFixture, model: bytes, projector: bytes, name: str
) -> None:
    files = {"m-Q4_K_M.gguf": model, "m-Q8_0.gguf": model, "mmproj-F16.gguf": projector}
    name = name.format(commit=hub.add_files(NAME, files).branches["main"])
    online = resolve_gguf(name)
    assert resolve_gguf(name) == online
    assert len(hub.fetched()) == 2
    go_offline()
    requests = len(hub.requests)
    assert resolve_gguf(name) == online
    assert len(hub.requests) == requests
    assert not [record for record in caplog.records if record.name.startswith("fastinfer")]


def test_with_the_network_down_the_cache_is_used_and_it_is_said(
    hub: Any, cut_network: Any, caplog: pytest.LogCaptureFixture, model: bytes
) -> None:
    hub.add_files(NAME, {"m-Q4_K_M.gguf": model})
    online = resolve_gguf(NAME)
    cut_network()
    assert resolve_gguf(NAME) == online
    (record,) = [record for record in caplog.records if record.name.startswith("fastinfer")]
    assert record.levelno == logging.WARNING
    assert "offline, or the hub does not answer properly (Connect" in record.message
    assert f"using the cached revision {online.revision}" in record.message


@pytest.mark.parametrize("status", [500, 503])
def test_with_the_hub_down_the_cache_is_used(hub: Any, waits: list[float], model: bytes, status: int) -> None:
    repo = hub.add_files(NAME, {"m-Q4_K_M.gguf": model})
    online = resolve_gguf(NAME)
    repo.fails_with = (status, "")
    assert resolve_gguf(NAME) == online
    assert waits == []
    assert f"{status}" in refusal("org/repo:Q8_0")
    assert len(waits) == 4


def test_offline_and_not_in_the_cache(hub: Any, cache: Path, go_offline: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m-Q4_K_M.gguf": model, "m-Q8_0.gguf": model})
    resolve_gguf(NAME)
    go_offline()
    message = refusal("org/repo:Q8_0")
    for words in (
        "offline (HF_HUB_OFFLINE is set)",
        f"not in the cache {cache}; of this revision it has m-Q4_K_M.gguf.",
        "Unset HF_HUB_OFFLINE",
        '`hf download org/repo --include "*Q8_0*" "*mmproj*"`',
    ):
        assert words in message
    assert 'hf download org/other --revision v2 --include "*.gguf"' in refusal("org/other@v2")
    assert "the model is not in the cache" in refusal("org/repo@v2")


def test_connection_refused(cache: Path, cut_network: Any) -> None:
    cut_network()
    with pytest.raises(ModelNotFoundError, match="offline, or the hub does not answer") as caught:
        resolve_gguf(NAME)
    assert f"not in the cache {cache}" in str(caught.value)
    assert "Check the network" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "Connect" in type(caught.value.__cause__).__name__


def test_a_model_cached_in_part_does_not_count(hub: Any, go_offline: Any, model: bytes, gguf: Any) -> None:
    names = ["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"]
    hub.add_files(NAME, {names[0]: model, names[1]: gguf(None), "m-Q8_0.gguf": model})
    found = resolve_gguf(NAME)
    resolve_gguf("org/repo:Q8_0")
    (found.model.parent / names[1]).unlink()
    go_offline()
    assert resolve_gguf(NAME).model.name == "m-Q8_0.gguf"
    assert "not in the cache" in refusal("org/repo:Q4_K_M")


def test_files_fetched_with_the_hubs_own_tool_are_found_offline(
    hub: Any, cache: Path, go_offline: Any, model: bytes, projector: bytes
) -> None:
    hub.add_files(NAME, {"m-Q4_K_M.gguf": model, "m-Q8_0.gguf": model, "mmproj-F16.gguf": projector})
    huggingface_hub.snapshot_download(NAME, allow_patterns=["*Q8_0*", "*mmproj*"], cache_dir=cache)
    go_offline()
    found = resolve_gguf("org/repo:Q8_0")
    assert (found.model.name, found.projector and found.projector.name) == ("m-Q8_0.gguf", "mmproj-F16.gguf")
    assert resolve_gguf(NAME) == found


@pytest.mark.parametrize("lists", [False, True], ids=["closed", "listed"])
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(401, "GatedRepo", "gated"), (403, "GatedRepo", "gated"), (401, "", "401"), (403, "", "403")],
)
def test_access_refused(hub: Any, model: bytes, lists: bool, status: int, code: str, words: str) -> None:
    repo = hub.add_files(NAME, {"m-Q4_K_M.gguf": model})
    repo.fails_with, repo.lists_files_without_access = (status, code), lists
    with pytest.raises(ModelNotFoundError, match=words) as caught:
        resolve_gguf(NAME)
    assert "accept its terms on its page" in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_not_found(hub: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="no such repository or file on the hub") as caught:
        resolve_gguf("org/absent:Q4_0")
    assert isinstance(caught.value.__cause__, huggingface_hub.errors.RepositoryNotFoundError)


def test_another_refusal(hub: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model}).fails_with = (410, "")
    assert "the hub refuses the request (" in refusal(NAME)


@pytest.mark.parametrize("name", ["org/re..po", "-org/repo", "org/repo.", "org/" + "x" * 200])
def test_names_that_the_hub_does_not_allow(hub: Any, name: str) -> None:
    assert "not a name that the hub allows" in refusal(name)


@pytest.mark.parametrize("answer", ["<html>log in first</html>", "[]", "{}", "null"])
def test_an_answer_that_is_not_the_hubs(hub: Any, answer: str, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.listing = answer.encode()
    assert "not in the cache" in refusal(NAME)


def test_another_file_in_the_cache_does_not_stand_in_for_one_that_fails_to_arrive(
    hub: Any, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    hub.add_files(NAME, {"m-Q4_K_M.gguf": model, "m-Q8_0.gguf": model})
    resolve_gguf("org/repo:Q8_0")

    def fail(*args: object, **options: object) -> str:
        raise RuntimeError("the library for downloads\ngave up")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    message = refusal(NAME)
    assert "could not be fetched from the hub (RuntimeError: the library for downloads)" in message


def test_damaged_files_are_not_handed_on(hub: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m-Q4_K_M.gguf": b"<!doctype html>", "m-Q8_0.gguf": model[:-9]})
    for name, words in {NAME: "it is a web page", "org/repo:Q8_0": "incomplete: tensor 'c'"}.items():
        with pytest.raises(ModelLoadError, match=words):
            resolve_gguf(name)


def test_a_full_disk(hub: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})

    def full(*args: object, **options: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    message = refusal(NAME)
    assert f"cannot be stored in {cache}: No space left on device" in message


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_threads_share_one_cache(hub: Any, model: bytes, projector: bytes) -> None:
    hub.add_files(NAME, {"m-Q4_K_M.gguf": model, "mmproj-F16.gguf": projector})
    found: list[GgufModel] = []
    threads = [threading.Thread(target=lambda: found.append(resolve_gguf(NAME))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()  # older versions of huggingface_hub leave the connections of threads open
    assert len(found) == 6
    assert len(set(found)) == 1


def test_the_environment_is_honoured(hub: Any, tmp_path: Path, model: bytes) -> None:
    repo = hub.add_files(NAME, {"m-Q4_K_M.gguf": model})
    repo.fails_with, repo.token = (401, "GatedRepo"), "secret"
    code = "from fastinfer.models import resolve_gguf; print(resolve_gguf('org/repo').model)"
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, check=False
        )

    assert "the repository is gated" in run().stderr
    fetched = run(HF_TOKEN="secret")
    assert fetched.returncode == 0, fetched.stderr
    assert Path(fetched.stdout.strip()).is_relative_to(home)
    offline = run(HF_HUB_OFFLINE="1")
    assert offline.stdout == fetched.stdout, offline.stderr
