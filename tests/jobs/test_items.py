"""Which items a job has, in which order, and which of them are computed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import FastInferError, ImageDecodeError
from fastinfer.images.source import read_file
from fastinfer.jobs import items
from fastinfer.jobs.journal import Journal

Paint = Callable[[Path, int], Path]
PATHS = [
    *("a/0.png", "a/3.png", "a/6.png", "a/9.png"),
    *("b/1.png", "b/4.png", "b/7.png", "b/broken.png", "b/c/2.png", "b/c/5.png", "b/c/8.png", "b/twin of 0.PNG"),
    "z.png",
]


def paths(summary: Any) -> list[str]:
    return [row["path"] for row in summary.results()]


def test_a_folder_gives_a_row_for_each_image_in_the_order_of_names(engine: Any, photos: Path, tmp_path: Path) -> None:
    summary = fastinfer.run(photos, tmp_path / "out.jsonl", using=engine)
    assert paths(summary) == PATHS
    assert (summary.total, summary.computed, summary.reused, summary.duplicates) == (13, 11, 0, 2)
    assert summary.errors_by_type == {"ImageDecodeError": 1}
    assert not summary.ok


def test_rows_are_what_the_classifier_says(engine: Any, photos: Path, tmp_path: Path) -> None:
    summary = fastinfer.run(photos, tmp_path / "out.jsonl", using=engine)
    files = [photos / path for path in PATHS if path not in ("b/twin of 0.PNG", "z.png")]
    expected = engine.classify_many([file.read_bytes() for file in files], errors="return", reproducible=True)
    said = {file.relative_to(photos).as_posix(): result for file, result in zip(files, expected, strict=True)}
    for row in summary.results():
        result = said.get(row["path"], said["a/0.png"])
        assert row["configuration"] == summary.configuration
        assert row["label"] == result.label
        assert row["probabilities"] == (None if result.error else result.probabilities)
        assert row["error_message"] == (str(result.error) if result.error else None)


def test_a_list_of_paths_keeps_its_order_and_its_repetitions(engine: Any, photos: Path, tmp_path: Path) -> None:
    given = [photos / "z.png", str(photos / "a/3.png"), photos / "z.png"]
    summary = fastinfer.run(iter(given), tmp_path / "out.jsonl", using=engine)
    assert paths(summary) == [Path(path).as_posix() for path in given]
    assert (summary.computed, summary.duplicates) == (2, 1)


def test_images_in_memory_are_no_paths(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(FastInferError, match=r"<bytes, 2 bytes> is none.*classify_many"):
        fastinfer.run([b"12"], tmp_path / "out.jsonl", using=engine)


@pytest.mark.parametrize("source", ["missing", "notes.txt", "empty"])
def test_what_is_no_folder_of_images_is_refused(engine: Any, photos: Path, tmp_path: Path, source: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(ImageDecodeError, match=r"There is no folder|no images in"):
        fastinfer.run(photos / source, tmp_path / "out.jsonl", using=engine)


def test_a_limit_takes_the_first_and_the_rest_follows(engine: Any, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert paths(fastinfer.run(photos, output, using=engine, limit=5)) == PATHS[:5]
    whole = fastinfer.run(photos, output, using=engine)
    assert paths(whole) == PATHS
    assert whole.reused == 5


def test_shards_are_the_whole_and_nothing_is_in_two(engine: Any, photos: Path, tmp_path: Path, paint: Paint) -> None:
    output = tmp_path / "out.jsonl"
    parts = [fastinfer.run(photos, output, using=engine, shard=(number, 3)) for number in (1, 2)]
    parts.append(fastinfer.run(photos, output, using=engine, shard="3/3"))
    assert [part.output.name for part in parts] == [f"out-0000{number}-of-00003.jsonl" for number in (1, 2, 3)]
    before = [paths(part) for part in parts]
    assert sorted(path for part in before for path in part) == sorted(PATHS)
    paint(photos / "a" / "new.png", 77)
    grown = [paths(fastinfer.run(photos, output, using=engine, shard=(number, 3))) for number in (1, 2, 3)]
    assert [[path for path in part if path != "a/new.png"] for part in grown] == before
    assert sum(part.count("a/new.png") for part in grown) == 1


def test_a_file_that_cannot_be_read_is_a_row_and_tried_again(engine: Any, tmp_path: Path, paint: Paint) -> None:
    there = paint(tmp_path / "there.png", 1)
    gone = tmp_path / "gone.png"
    output = tmp_path / "out.jsonl"
    summary = fastinfer.run([there, gone, tmp_path], output, using=engine)
    assert summary.errors_by_type == {"ImageDecodeError": 2}
    messages = [row["error_message"] or "" for row in summary.results()]
    assert "no such file" in messages[1]
    assert "is a directory" in messages[2]
    paint(gone, 2)
    again = fastinfer.run([there, gone, tmp_path], output, using=engine)
    assert (again.computed, again.reused, again.errors) == (1, 1, 1)


def test_a_file_that_changed_is_computed_again_and_one_that_moved_is_not(
    engine: Any, photos: Path, tmp_path: Path, paint: Paint
) -> None:
    output = tmp_path / "out.jsonl"
    before = {row["path"]: row for row in fastinfer.run(photos, output, using=engine).results()}
    paint(photos / "a" / "3.png", 200)
    (photos / "a" / "6.png").rename(photos / "moved.png")
    summary = fastinfer.run(photos, output, using=engine)
    after = {row["path"]: row for row in summary.results()}
    assert summary.computed == 1
    assert after["a/3.png"]["probabilities"] != before["a/3.png"]["probabilities"]
    assert after.pop("moved.png") | {"path": "a/6.png"} == before["a/6.png"]


def test_what_is_known_is_not_read_again(
    engine: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    fastinfer.run(photos, output, using=engine)
    monkeypatch.setattr("fastinfer.jobs.items.read_file", lambda *_: pytest.fail("a file was read"))
    assert fastinfer.run(photos, output, using=engine).reused == 11


def test_of_large_files_few_are_read_ahead(tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(100):
        paint(tmp_path / "many" / f"{seed:03}.png", seed)
    read: list[str] = []
    monkeypatch.setattr(items, "read_file", lambda path, *rest: read.append(path) or read_file(path, *rest))
    monkeypatch.setattr(items, "_BYTES_AHEAD", 4 * (tmp_path / "many" / "000.png").stat().st_size)
    with Journal(tmp_path / "out.journal") as journal:
        ahead = items.read_ahead(items.list_files(tmp_path / "many", None, None), journal)
        taken = [next(ahead) for _ in range(50)]
        ahead.close()
    assert [reading.data for reading in taken] == [Path(path).read_bytes() for path in sorted(read)[:50]]
    assert len(read) <= 50 + 4


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_a_name_that_is_no_text_is_written_with_an_escape(engine: Any, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    folder.mkdir()
    try:
        shutil.copy(photos / "z.png", os.fsencode(folder) + b"/\xff.png")
    except OSError:
        pytest.skip("this file system has no such names")
    for ending in ("jsonl", "csv"):
        assert paths(fastinfer.run(folder, tmp_path / f"out.{ending}", using=engine)) == [r"\udcff.png"]


@pytest.fixture
def linked(photos: Path, tmp_path: Path, paint: Paint) -> Path:
    """The photos, with links to a file and a folder outside, within, to nothing, and to themselves."""
    elsewhere = paint(tmp_path / "elsewhere" / "secret.png", 3)
    paint(tmp_path / "photos of others" / "theirs.png", 4)
    try:
        (photos / "l1 out.png").symlink_to(elsewhere)
        (photos / "l2 up.png").symlink_to("../elsewhere/secret.png")
        (photos / "l3 sibling.png").symlink_to("../photos of others/theirs.png")
        (photos / "l4 within.png").symlink_to("a/3.png")
        (photos / "l5 nothing.png").symlink_to("nowhere.png")
        (photos / "l6 itself.png").symlink_to("l6 itself.png")
        (photos / "l7 by way.png").symlink_to("l1 out.png")
        (photos / "folder").symlink_to(elsewhere.parent, target_is_directory=True)
        (photos / "a" / "up").symlink_to(photos, target_is_directory=True)
    except OSError:
        pytest.skip("this account may make no links")
    return photos


def test_links_out_of_the_folder_are_errors_of_their_own_and_the_others_go_on(
    engine: Any, linked: Path, tmp_path: Path
) -> None:
    summary = fastinfer.run(linked, tmp_path / "out.jsonl", using=engine)
    rows = {row["path"]: row for row in summary.results()}
    links = [path for path in rows if path.startswith("l")]
    assert sorted({*rows} - {*links}) == sorted(PATHS)  # links to folders are not followed, not even in circles
    refused = [path for path in links if "outside of the folder" in (rows[path]["error_message"] or "")]
    assert refused == ["l1 out.png", "l2 up.png", "l3 sibling.png", "l7 by way.png"]
    assert "follow_links=True" in rows["l1 out.png"]["error_message"]
    assert rows["l4 within.png"]["label"] == rows["a/3.png"]["label"] is not None
    assert "no such file" in rows["l5 nothing.png"]["error_message"]
    assert rows["l6 itself.png"]["error_type"] == "ImageDecodeError"
    assert summary.errors_by_type == {"ImageDecodeError": 7}
    assert all(rows[path]["error_type"] is None for path in PATHS if path != "b/broken.png")


def test_links_are_followed_where_the_caller_says_so_and_refused_again_where_not(
    engine: Any, linked: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    followed = {row["path"]: row for row in fastinfer.run(linked, output, using=engine, follow_links=True).results()}
    assert followed["l1 out.png"]["label"] is not None
    assert followed["l2 up.png"]["probabilities"] == followed["l1 out.png"]["probabilities"]
    again = {row["path"]: row for row in fastinfer.run(linked, output, using=engine).results()}
    assert again["l1 out.png"]["error_type"] == "ImageDecodeError"


def test_paths_in_a_list_are_the_callers_own_and_lead_anywhere(engine: Any, linked: Path, tmp_path: Path) -> None:
    given = [linked / "l1 out.png", linked / "a" / ".." / ".." / "elsewhere" / "secret.png"]
    summary = fastinfer.run(given, tmp_path / "out.jsonl", using=engine)
    assert (summary.errors, summary.duplicates) == (0, 1)


def test_a_folder_that_is_itself_a_link_is_the_folder_it_leads_to(engine: Any, linked: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(linked, target_is_directory=True)
    summary = fastinfer.run(tmp_path / "alias", tmp_path / "out.jsonl", using=engine)
    rows = {row["path"]: row for row in summary.results()}
    assert rows["l4 within.png"]["error_type"] is None
    assert "outside of the folder" in rows["l1 out.png"]["error_message"]


def test_the_output_is_not_written_through_a_link_that_stands_in_its_hidden_files_place(
    engine: Any, photos: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    try:
        (tmp_path / ".out.jsonl.part").symlink_to(victim)
    except OSError:
        pytest.skip("this account may make no links")
    assert fastinfer.run(photos, tmp_path / "out.jsonl", using=engine).output.is_file()
    assert victim.read_text() == "precious"
