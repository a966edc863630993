from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinfer.models
from fastinfer.errors import FastInferError, ModelLoadError, ModelNotFoundError
from fastinfer.models import GgufHeader, GgufOutline, check_gguf, outline_gguf, resolve_gguf
from fastinfer.models.hub_file import HubFile

NAME = "org/repo"
EMBEDDED = Path(fastinfer.models.__file__).parent / "embedded"
MIB = 1 << 20
#: Tensor data of 32 MiB, as zeros.
LARGE: dict[str, Any] = {"tensors": [("a", (1 << 23,), 0, 0)], "data": 32 * MIB}


def refusal(name: str, error: type[FastInferError] = ModelNotFoundError, **options: Any) -> str:
    with pytest.raises(error) as caught, outline_gguf(name, **options):
        pass
    return str(caught.value)


def header_of(content: bytes, folder: Path) -> GgufHeader:
    """What the header of a file with this content says."""
    file = folder / "whole.gguf"
    file.write_bytes(content)
    return check_gguf(file)


def without_path(header: GgufHeader) -> GgufHeader:
    return dataclasses.replace(header, path=Path())


def takes_no_room(file: Path) -> bool:
    status = file.stat()
    return not hasattr(status, "st_blocks") or status.st_blocks * 512 < status.st_size // 2


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the package was checked out without its model")
def test_the_embedded_model_is_read_in_the_package(scratch: Path) -> None:
    with outline_gguf("embedded") as outline:
        assert (outline.name, outline.source, outline.note) == ("embedded", "package", "")
        assert outline.model == EMBEDDED / "embedded.gguf"
        assert outline.headers == (check_gguf(outline.model),)
        assert outline.projector == check_gguf(EMBEDDED / "embedded-mmproj.gguf")
        assert not list(scratch.iterdir())


def test_a_split_model_at_a_path_is_read_in_place(
    tmp_path: Path, scratch: Path, model: bytes, gguf: Any, projector: bytes
) -> None:
    files = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for file, content in zip(files, [model, gguf(None)], strict=True):
        file.write_bytes(content)
    (tmp_path / "mmproj.gguf").write_bytes(projector)
    with outline_gguf(files[1]) as outline:
        assert outline == GgufOutline(
            str(files[0]),
            files[0],
            (check_gguf(files[0]), check_gguf(files[1])),
            check_gguf(tmp_path / "mmproj.gguf"),
            "path",
            "",
        )
        assert not list(scratch.iterdir())


def test_of_a_model_on_the_hub_only_the_headers_are_fetched(
    hub: Any, cache: Path, scratch: Path, tmp_path: Path, gguf: Any, projector: bytes
) -> None:
    content = gguf(**LARGE)
    repo = hub.add_files(NAME, {"m-Q4_K_M.gguf": content, "m-Q8_0.gguf": content, "mmproj-F16.gguf": projector})
    with outline_gguf(NAME) as outline:
        assert (outline.name, outline.source, outline.note) == (f"{NAME}:Q4_K_M@{repo.branches['main']}", "hub", "")
        assert [without_path(header) for header in outline.headers] == [without_path(header_of(content, tmp_path))]
        assert outline.projector is not None
        assert without_path(outline.projector) == without_path(header_of(projector, tmp_path))
        assert outline.model.stat().st_size == len(content)
        assert takes_no_room(outline.model)
        assert outline.model.is_relative_to(scratch)
    assert not list(scratch.iterdir())
    assert not cache.exists()
    assert hub.fetched() == ["m-Q4_K_M.gguf", "mmproj-F16.gguf"]
    assert hub.sent < 12 * MIB


def test_stand_ins_go_when_the_block_fails(hub: Any, scratch: Path, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    with pytest.raises(KeyError, match="absent"), outline_gguf(NAME) as outline:
        outline.headers[0].metadata["absent"]
    assert not list(scratch.iterdir())


def test_parts_of_a_model_on_the_hub_lie_side_by_side(
    hub: Any, scratch: Path, model: bytes, gguf: Any, projector: bytes
) -> None:
    names = [f"Q8_0/m-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    contents = [model, gguf(None), gguf(None, metadata={"n": 3})]
    hub.add_files(NAME, {**dict(zip(names, contents, strict=True)), "mmproj-F32.gguf": projector})
    with outline_gguf(f"{NAME}:Q8_0") as outline:
        assert [header.path for header in outline.headers] == [
            outline.model.with_name(Path(name).name) for name in names
        ]
        assert [header.size for header in outline.headers] == [len(content) for content in contents]
        assert outline.headers[2].metadata["n"] == 3
        assert outline.projector is not None


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_long_header_is_fetched_to_its_end_and_no_further(
    hub: Any, scratch: Path, tmp_path: Path, gguf: Any, ranges: bool
) -> None:
    content = gguf(metadata={"tokenizer.ggml.scores": [7] * (5 * MIB // 4)}, **LARGE)
    hub.add_files(NAME, {"m.gguf": content})
    hub.knows_ranges = ranges
    with outline_gguf(NAME) as outline:
        assert without_path(outline.headers[0]) == without_path(header_of(content, tmp_path))
        assert outline.headers[0].data_offset > 5 * MIB
        begin = outline.headers[0].data_offset
        with outline.model.open("rb") as file:
            assert file.read(begin) == content[:begin]
    assert hub.fetched() == ["m.gguf"] * (2 if ranges else 1)
    assert hub.sent < 24 * MIB


def test_a_header_without_end_is_given_up(hub: Any, gguf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastinfer.models.hub_file._MAX_FETCHED", MIB)
    hub.add_files(NAME, {"m.gguf": gguf(metadata={"a": [7] * MIB})})
    assert f"its header takes over {MIB} bytes" in refusal(NAME, ModelLoadError)


def test_a_model_in_the_cache_is_read_there_without_asking_the_hub(hub: Any, scratch: Path, model: bytes) -> None:
    hub.add_files(NAME, {"m-Q8_0.gguf": model, "m-Q4_K_M.gguf": model})
    found = resolve_gguf(f"{NAME}:Q8_0")
    requests = len(hub.requests)
    with outline_gguf(f"{NAME}:Q8_0") as outline:
        assert (outline.name, outline.model, outline.source) == (found.name, found.model, "cache")
    assert len(hub.requests) == requests


def test_without_a_quantisation_the_hub_says_which_one_it_is(
    hub: Any, go_offline: Callable[[], None], scratch: Path, model: bytes
) -> None:
    hub.add_files(NAME, {"m-Q8_0.gguf": model, "m-Q4_K_M.gguf": model})
    found = resolve_gguf(f"{NAME}:Q8_0")
    with outline_gguf(NAME) as outline:
        assert (outline.model.name, outline.source) == ("m-Q4_K_M.gguf", "hub")
    go_offline()
    with outline_gguf(NAME) as outline:
        assert (outline.model, outline.source) == (found.model, "cache")


def test_a_cache_of_ones_own(hub: Any, scratch: Path, tmp_path: Path, model: bytes) -> None:
    hub.add_files(NAME, {"m-Q8_0.gguf": model})
    resolve_gguf(NAME, cache_dir=tmp_path / "mine")
    with outline_gguf(f"{NAME}:Q8_0", cache_dir=tmp_path / "mine") as outline:
        assert outline.source == "cache"


def test_a_connection_that_breaks_off(hub: Any, scratch: Path, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.cuts = [100]
    assert "could not be fetched from the hub (" in refusal(NAME)
    assert not list(scratch.iterdir())
    with outline_gguf(NAME) as outline:
        assert outline.headers[0].size == len(model)


@pytest.mark.parametrize("lists", [False, True], ids=["closed", "listed"])
@pytest.mark.parametrize(
    ("code", "words"), [("GatedRepo", "the repository is gated"), ("", "refuses access (HTTP 401)")]
)
def test_access_refused(hub: Any, model: bytes, lists: bool, code: str, words: str) -> None:
    repo = hub.add_files(NAME, {"m-Q4_K_M.gguf": model})
    repo.fails_with, repo.lists_files_without_access = (401, code), lists
    message = refusal(NAME)
    assert words in message
    assert "HF_TOKEN" in message


def test_a_token_opens_what_is_gated(hub: Any, scratch: Path, monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    repo = hub.add_files(NAME, {"m.gguf": model})
    repo.fails_with, repo.token = (401, "GatedRepo"), "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    with outline_gguf(NAME) as outline:
        assert outline.source == "hub"


def test_what_the_hub_does_not_have(hub: Any, model: bytes) -> None:
    assert "no such repository or file on the hub" in refusal("org/absent:Q4_0")
    assert "not a name that the hub allows" in refusal("org/re..po:Q4_0")
    hub.add_files(NAME, {"m-Q8_0.gguf": model})
    assert "It has Q8_0." in refusal(f"{NAME}:Q5_K_M")
    assert "no revision 'v2'" in refusal(f"{NAME}@v2")
    hub.add_files(NAME, {"m-Q8_0-00001-of-00002.gguf": model})
    assert "lacks part 'm-Q8_0-00002-of-00002.gguf'" in refusal(NAME)


def test_a_file_that_is_gone_after_the_files_were_listed(hub: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.after_listing = lambda: hub.repos.pop(NAME, None)
    assert "no such repository or file on the hub" in refusal(NAME)


def test_a_hub_that_does_not_say_how_long_files_are(hub: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.listing = json.dumps({"id": NAME, "sha": "0" * 40, "siblings": [{"rfilename": "m.gguf"}]}).encode()
    assert "does not say how long 'm.gguf' is" in refusal(NAME)


def test_damaged_files_on_the_hub(hub: Any, scratch: Path, model: bytes, projector: bytes) -> None:
    files = {
        "m-Q4_K_M.gguf": b"<!doctype html>",
        "m-Q8_0.gguf": model[:-9],
        "m-F16.gguf": projector,
        "m-Q2_K.gguf": b"",
    }
    hub.add_files(NAME, files)
    for name, words in {
        NAME: f"{Path(NAME, 'm-Q4_K_M.gguf')}: not a usable GGUF file: it is a web page",
        f"{NAME}:Q8_0": "incomplete: tensor 'c'",
        f"{NAME}:F16": "a projector (mmproj), not a model",
        f"{NAME}:Q2_K": "it is empty",
    }.items():
        assert words in refusal(name, ModelLoadError)
    assert not list(scratch.iterdir())


def test_offline_and_not_in_the_cache(cache: Path, go_offline: Callable[[], None], scratch: Path) -> None:
    go_offline()
    assert f"offline (HF_HUB_OFFLINE is set), and the model is not in the cache {cache}" in refusal(f"{NAME}:Q8_0")
    assert not list(scratch.iterdir())


def test_no_room_for_stand_ins(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    message = refusal(NAME, ModelLoadError)
    assert f"{Path(NAME)}: a stand-in for the model's file cannot be written: No such file or directory" in message
    assert "TMPDIR" in message


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no file sizes have a limit there")
def test_a_file_system_that_cannot_hold_a_file_as_long(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"cannot be written: (File too large|Invalid argument)"):
        HubFile(tmp_path / "m.gguf", (1 << 63) - 1, iter(()))


def test_names_that_are_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "the embedded model has no quantisations" in refusal("embedded:Q8_0")
    assert "there is no such file or folder" in refusal("absent.gguf")
    assert "is empty" in refusal("")
