"""The folders for models: tried without leaving a trace, and judged by what is still to be fetched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastinfer.machine.checks import disk
from fastinfer.machine.checks.disk import DEFAULT_MODELS, DiskReading, judge, own_cache, read
from fastinfer.preset_library import presets

EMPTY = dict.fromkeys(DEFAULT_MODELS, 0)
GB = 10**9


def reading(folder: Path, **options: Any) -> DiskReading:
    return DiskReading(
        **{
            "folder": folder,
            "exists": True,
            "problem": "",
            "unmapped": "",
            "free": 100 * GB,
            "present": EMPTY,
            **options,
        }
    )


def test_the_default_models_of_all_built_in_presets_are_known() -> None:
    named = {preset.parameters.model.partition(":")[0] for preset in presets() if preset.source == "built-in"}
    assert set(DEFAULT_MODELS) == {name for name in named if "/" in name}


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.exists, found.problem, found.unmapped) == (True, "", "")
    assert found.free is not None
    assert found.free > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path, by_name: Any) -> None:
    found = read(tmp_path / "a" / "b")
    assert (found.exists, found.problem) == (False, "")
    assert list(tmp_path.iterdir()) == []
    row = by_name(judge(found, None, gpus=0))["model cache"]
    assert (row.status, row.found) == ("ok", f"{tmp_path / 'a' / 'b'}, made when it is needed")


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_folder_that_cannot_be_written_is_a_warning(by_name: Any) -> None:
    found = read(Path("/proc/fastinfer"))
    assert found.problem
    rows = by_name(judge(found, found, gpus=0))
    assert (rows["model cache"].status, rows["model cache"].remedy) == ("warn", 'export HF_HOME="$PWD/models"')
    assert rows["fastinfer's cache"].remedy == 'export FASTINFER_CACHE="$PWD/models"'
    assert rows["memory mapping"].found == "not tried"


def test_a_cache_below_a_file_is_a_warning(tmp_path: Path, by_name: Any) -> None:
    (tmp_path / "file").touch()
    found = read(tmp_path / "file" / "cache")
    assert not found.exists
    assert found.folder == tmp_path / "file" / "cache"


def test_what_the_cache_has_counts(tmp_path: Path) -> None:
    blobs = tmp_path / "models--OpenGVLab--InternVL3-8B-hf" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(bytes(1000))
    (blobs / "def.incomplete").write_bytes(bytes(24))
    assert read(tmp_path).present == {**EMPTY, "OpenGVLab/InternVL3-8B-hf": 1024}


@pytest.mark.parametrize(
    ("free", "present", "gpus", "status", "said"),
    [
        (100 * GB, EMPTY, 1, "ok", "Enough for the default models still to be fetched"),
        (30 * GB, EMPTY, 1, "warn", "Not enough for all default models"),
        (30 * GB, {**EMPTY, "OpenGVLab/InternVL3-8B-hf": 16 * GB}, 1, "ok", "unsloth/Seed-OSS"),
        (
            1 * GB,
            {name: size * 98 // 100 for name, size in DEFAULT_MODELS.items()},
            1,
            "ok",
            "of all presets are there.",
        ),
        (1 * GB, EMPTY, 0, "ok", "The embedded models need none of it."),
        (None, EMPTY, 1, "ok", "does not tell"),
    ],
)
def test_space_is_judged_by_the_models_still_to_be_fetched(
    by_name: Any, tmp_path: Path, free: int | None, present: dict[str, int], gpus: int, status: str, said: str
) -> None:
    row = by_name(judge(reading(tmp_path, free=free, present=present), None, gpus=gpus))["space for models"]
    assert row.status == status
    assert said in row.meaning


def test_a_folder_that_cannot_be_mapped_is_a_warning(by_name: Any, tmp_path: Path) -> None:
    row = by_name(judge(reading(tmp_path, unmapped="No such device"), None, gpus=0))["memory mapping"]
    assert (row.status, "No such device" in row.meaning) == ("warn", True)
    assert disk._why_unmapped(-1) != ""


def test_a_full_disk_has_no_room_for_the_embedded_chat_model(by_name: Any, tmp_path: Path) -> None:
    row = by_name(judge(reading(tmp_path), reading(tmp_path, free=GB // 10), gpus=0))["fastinfer's cache"]
    assert (row.status, "95 MiB are free" in row.meaning) == ("warn", True)


def test_fastinfers_own_cache_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_name: Any) -> None:
    monkeypatch.setenv("FASTINFER_CACHE", str(tmp_path))
    assert own_cache() == tmp_path
    monkeypatch.setenv("FASTINFER_CACHE", "~there-is-no-such-account/cache")
    assert own_cache() is None
    assert by_name(judge(reading(tmp_path), None, gpus=0))["fastinfer's cache"].status == "warn"
