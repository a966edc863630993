"""What goes wrong while a model is fetched: cut connections, damaged files, a hub that is busy, a full disk."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastinfer.errors import FastInferError, ModelLoadError, ModelNotFoundError
from fastinfer.models import resolve_checkpoint, resolve_gguf
from tiny_checkpoints import CONFIGS, safetensors_file

NAME = "org/repo"
MIB = 1 << 20
FETCH = "from fastinfer.models import resolve_gguf; print(resolve_gguf('org/repo').model)"


def refusal(
    name: str = NAME,
    error: type[FastInferError] = ModelNotFoundError,
    resolve: Callable[[str], object] = resolve_gguf,
) -> str:
    with pytest.raises(error) as caught:
        resolve(name)
    return str(caught.value)


def kept(cache: Path) -> list[Path]:
    """The files of models in the cache, whole or in part."""
    return [path for path in cache.rglob("*") if path.is_file() and "blobs" in path.parts]


@pytest.fixture(scope="module")
def large(gguf: Callable[..., bytes]) -> bytes:
    """A model of over 1 MiB."""
    return gguf(tensors=[("a", (1 << 18,), 0, 0)], data=MIB)


@pytest.fixture
def elsewhere(hub: Any, cache: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start a program in a process of its own, with the test's hub and cache."""

    def start(code: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(cache),
        }
        return subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def test_a_connection_that_is_cut_several_times(hub: Any, waits: list[float], large: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": large})
    hub.cuts = [400_000, 0, 200_000]
    assert resolve_gguf(NAME).model.read_bytes() == large
    assert all(wanted.endswith(f"-{len(large) - 1}") for wanted in hub.ranges)
    begins = [int(wanted.removeprefix("bytes=").partition("-")[0]) for wanted in hub.ranges]
    assert begins[0] == 0
    assert 300_000 < begins[1] == begins[2] <= 400_000
    assert begins[2] + 100_000 < begins[3] <= 600_000
    assert waits == [1, 2, 1]


def test_a_cut_connection_to_a_server_that_knows_no_ranges(hub: Any, waits: list[float], large: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": large})
    hub.cuts, hub.knows_ranges = [600_000], False
    assert resolve_gguf(NAME).model.read_bytes() == large
    assert len(hub.ranges) == 2


def test_a_connection_that_never_brings_anything(
    hub: Any, cache: Path, waits: list[float], caplog: pytest.LogCaptureFixture, large: bytes
) -> None:
    hub.add_files(NAME, {"m.gguf": large})
    hub.cuts = [600_000, *[0] * 4]
    message = refusal()
    assert "could not be fetched from the hub (" in message
    assert f"a download goes on from what is in {cache}" in message
    assert waits == [1, 2, 4, 8]
    assert f"{NAME}: m.gguf: " in caplog.text
    assert "(4 of 4)" in caplog.text
    assert [path.suffix for path in kept(cache)] == [".fastinfer-partial"]
    sent = hub.sent
    assert resolve_gguf(NAME).model.read_bytes() == large
    assert hub.sent - sent < len(large)


def test_a_download_goes_on_after_its_process_was_killed(hub: Any, cache: Path, elsewhere: Any, large: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": large})
    hub.stall_after = 700_000
    process = elsewhere(FETCH)
    deadline = time.monotonic() + 30
    while sum(path.stat().st_size for path in kept(cache)) < 500_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    hub.ended.set()
    (partial,) = kept(cache)
    there = partial.stat().st_size
    assert resolve_gguf(NAME).model.read_bytes() == large
    assert there >= 500_000
    assert hub.ranges[-1] == f"bytes={there}-{len(large) - 1}"


@pytest.mark.parametrize("lost", ["m-Q8_0-00002-of-00002.gguf", "mmproj-F16.gguf"])
def test_a_file_with_the_wrong_hash_is_refused_and_fetched_anew(
    hub: Any, cache: Path, go_offline: Any, gguf: Any, model: bytes, projector: bytes, lost: str
) -> None:
    files = {
        "m-Q8_0-00001-of-00002.gguf": model,
        "m-Q8_0-00002-of-00002.gguf": gguf(None),
        "mmproj-F16.gguf": projector,
    }
    hub.add_files(NAME, files)
    hub.damaged = {lost: files[lost][:-1] + b"\x01"}
    message = refusal(error=ModelLoadError)
    assert f"Model {NAME}: {lost!r} did not arrive as it is on the hub: its SHA-256 is " in message
    assert "expected was " in message
    assert not [path for path in kept(cache) if path.read_bytes() == hub.damaged[lost]]
    hub.damaged = {}
    found = resolve_gguf(NAME)
    assert found.projector is not None
    assert found.projector.read_bytes() == projector
    assert hub.fetched().count(lost) == 2
    go_offline()
    assert resolve_gguf(NAME) == found


@pytest.mark.parametrize(("lost", "what"), [("model.safetensors", "SHA-256"), ("tokenizer.json", "Git blob")])
def test_a_file_of_a_checkpoint_with_the_wrong_hash(hub: Any, go_offline: Any, lost: str, what: str) -> None:
    weights = safetensors_file({"a": ("BF16", (2,))})
    config = json.dumps(CONFIGS["qwen2_5_vl"]).encode()
    files = {"config.json": config, "tokenizer.json": b"{}", "model.safetensors": weights}
    hub.add_files(NAME, files)
    hub.damaged = {lost: files[lost][:-1] + b"!"}
    message = refusal(error=ModelLoadError, resolve=resolve_checkpoint)
    assert f"{lost!r} did not arrive as it is on the hub: its {what} is " in message
    hub.damaged = {}
    found = resolve_checkpoint(NAME)
    assert {path.name: path.read_bytes() for path in found.folder.iterdir()} == files


def test_a_file_too_large_for_plain_http_is_left_to_huggingface_hub_and_checked_too(
    hub: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    monkeypatch.setattr("fastinfer.models.hub_download._LARGEST_BY_HTTP", 10)
    hub.add_files(NAME, {"m.gguf": model})
    hub.damaged = {"m.gguf": model[:-1] + b"\x01"}
    assert "its SHA-256 is" in refusal(error=ModelLoadError)
    assert kept(cache) == []
    hub.damaged = {}
    assert resolve_gguf(NAME).model.read_bytes() == model


def test_what_is_in_the_cache_is_not_checked_again(hub: Any, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    found = resolve_gguf(NAME)
    found.model.write_bytes(model[:-1] + b"\x01")
    assert resolve_gguf(NAME) == found
    assert hub.fetched() == ["m.gguf"]


def test_a_cache_that_may_only_be_read(hub: Any, cache: Path, caplog: pytest.LogCaptureFixture, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    found = resolve_gguf(NAME)
    refs = next(cache.glob("*/refs"))
    (refs / "main").unlink()
    refs.rmdir()
    refs.touch()  # so that no revision can be written, not even by root
    assert resolve_gguf(NAME) == found
    assert "offline it will not be found in the cache" in caplog.text


def test_content_that_another_commit_has_too_is_not_fetched_again(hub: Any, model: bytes) -> None:
    repo = hub.add_files(NAME, {"m.gguf": model})
    first = resolve_gguf(NAME)
    repo.push({"m.gguf": model, "README.md": b""})
    second = resolve_gguf(NAME)
    assert first.revision != second.revision
    assert hub.fetched() == ["m.gguf"]


def test_a_mirror_that_says_neither_commit_nor_hashes(hub: Any, model: bytes) -> None:
    commit = hub.add_files(NAME, {"m.gguf": model}).branches["main"]
    hub.listing = json.dumps({"id": NAME, "siblings": [{"rfilename": "m.gguf"}]}).encode()
    found = resolve_gguf(NAME)
    assert (found.revision, found.model.read_bytes()) == (commit, model)


def test_a_mirror_with_an_etag_that_leads_out_of_the_cache(hub: Any, cache: Path, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.etag = "../../../out"
    assert "the hub gives 'm.gguf' the ETag '../../../out', which cannot be the name of a file" in refusal()
    assert kept(cache) == []


@pytest.mark.parametrize("kind", ["listing", "HEAD", "GET"])
@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"Retry-After": "7"}, 7),
        (429, {"RateLimit": '"resolvers";r=0;t=55'}, 55),
        (503, {}, 1),
    ],
)
def test_a_busy_hub_is_asked_again(
    hub: Any,
    waits: list[float],
    caplog: pytest.LogCaptureFixture,
    model: bytes,
    kind: str,
    status: int,
    headers: dict[str, str],
    wait: float,
) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.busy[kind] = [(status, headers)] * 2
    assert resolve_gguf(NAME).model.read_bytes() == model
    assert waits == [wait, wait if headers else 2]
    records = [record for record in caplog.records if record.name.startswith("fastinfer")]
    assert [record.levelno for record in records] == [logging.WARNING] * 2
    assert f"HTTP {status}; trying again in {wait} s (1 of 4)." in records[0].message


@pytest.mark.parametrize("kind", ["listing", "HEAD", "GET"])
def test_a_hub_that_stays_busy(hub: Any, waits: list[float], model: bytes, kind: str) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.busy[kind] = [(429, {"Retry-After": "3"})] * 5
    message = refusal()
    assert "429" in message
    assert "with an access token in HF_TOKEN the hub allows more requests" in message
    assert waits == [3, 3, 3, 3]
    assert resolve_gguf(NAME).model.read_bytes() == model


def test_a_hub_that_is_busy_for_too_long(hub: Any, waits: list[float], model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.busy["listing"] = [(429, {"Retry-After": "3600"})]
    assert "the hub limits the requests (HTTP 429), and the model is not in the cache" in refusal()
    assert waits == []


def test_with_the_model_in_the_cache_nobody_waits_for_a_busy_hub(
    hub: Any, waits: list[float], caplog: pytest.LogCaptureFixture, model: bytes
) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    found = resolve_gguf(NAME)
    hub.busy["listing"] = [(429, {"Retry-After": "7"})]
    assert resolve_gguf(NAME) == found
    assert waits == []
    assert "the hub limits the requests (HTTP 429); using the cached revision" in caplog.text


def test_a_wrong_token(hub: Any, monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    repo = hub.add_files(NAME, {"m.gguf": model})
    repo.fails_with, repo.token = (401, ""), "right"
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "the hub refuses access (HTTP 401)" in refusal()
    monkeypatch.setenv("HF_TOKEN", "right")
    assert resolve_gguf(NAME).model.read_bytes() == model


def test_a_disk_that_is_too_small_is_seen_before_anything_is_fetched(
    hub: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, large: bytes, model: bytes, projector: bytes
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**7, 10**7 - 10**6, 10**6))
    hub.add_files(NAME, {"m.gguf": large, "mmproj-F16.gguf": projector})
    message = refusal()
    assert f"Model {NAME}: 1.05MB are to be fetched into {cache}, where 1.00MB are free." in message
    assert "Make room there, or name another folder with HF_HOME or cache_dir." in message
    assert hub.fetched() == []
    hub.add_files(NAME, {"m.gguf": model})
    assert resolve_gguf(NAME).model.read_bytes() == model


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the system has no limit on the size of files")
def test_a_disk_that_is_full_while_a_file_is_written(hub: Any, cache: Path, elsewhere: Any, large: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": large})
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, resource.RLIM_INFINITY)); "
    out, err = elsewhere(limit + FETCH).communicate(timeout=60)
    assert out == ""
    left = len(large) - 700_000
    assert f"Model {NAME}: cannot be stored in {cache}: File too large; {left / 1000:.0f}kB are still to be" in err
    (partial,) = kept(cache)
    assert partial.stat().st_size == 700_000
    assert not list(cache.glob("*/snapshots/*/*"))
    assert resolve_gguf(NAME).model.read_bytes() == large
    assert hub.ranges[-1] == f"bytes=700000-{len(large) - 1}"


class Terminal(io.StringIO):
    """Where a terminal would be."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_shows_name_and_size(hub: Any, monkeypatch: pytest.MonkeyPatch, large: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": large})
    hub.cuts = [500_000]
    monkeypatch.setattr("fastinfer.models.hub_requests.sleep", lambda seconds: None)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    resolve_gguf(NAME)
    last = screen.getvalue().strip().split("\r")[-1]
    assert last.startswith("m.gguf: 100%|")
    assert "1.05M/1.05M" in last
    assert "checking" not in screen.getvalue()


def test_on_a_terminal_a_long_wait_is_shown(hub: Any, monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    hub.add_files(NAME, {"m.gguf": model})
    hub.busy["listing"] = [(429, {"Retry-After": "7"})]
    slept: list[float] = []
    monkeypatch.setattr("fastinfer.models.hub_requests.sleep", slept.append)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    resolve_gguf(NAME)
    assert sum(slept) == 7
    assert f"\r{NAME}: HTTP 429, trying again:   0%|" in screen.getvalue()
    assert "| 0/7.0 s" in screen.getvalue()


def test_bars_of_huggingface_hub_switched_off_are_off(hub: Any, monkeypatch: pytest.MonkeyPatch, large: bytes) -> None:
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    hub.add_files(NAME, {"m.gguf": large})
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    disable_progress_bars()
    try:
        resolve_gguf(NAME)
    finally:
        enable_progress_bars()
    assert screen.getvalue() == ""


def test_elsewhere_nothing_is_shown_and_the_log_says_it(
    hub: Any, cache: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, large: bytes
) -> None:
    caplog.set_level(logging.INFO, "fastinfer")
    hub.add_files(NAME, {"m.gguf": large})
    resolve_gguf(NAME)
    assert capfd.readouterr() == ("", "")
    messages = [record.message for record in caplog.records if record.name.startswith("fastinfer")]
    assert messages == [
        f"{NAME}: fetching m.gguf, 1.05MB, into {cache}.",
        f"{NAME}: m.gguf is complete, and its SHA-256 is right.",
    ]
