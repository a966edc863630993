"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from fastinfer.errors import FastInferError
from fastinfer.replacement import Replacement, replace_file, write_lines


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        replace_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_until_it_is_committed_the_old_one_is_there(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", b"old")
    with Replacement(tmp_path / "file") as new:
        new.stream.write(b"new")
        new.finish()
        assert (tmp_path / "file").read_bytes() == b"old"
        assert new.part.read_bytes() == b"new"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Replacement(tmp_path / "file") as new:
        new.stream.write(bytes(1 // 0))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.part").write_bytes(b"a long piece that was left behind")
    with Replacement(tmp_path / "file", name=".file.part") as new:
        new.stream.write(b"short")
        new.commit()
    assert (tmp_path / "file").read_bytes() == b"short"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="links and permissions of POSIX")
def test_a_link_stays_a_link_and_permissions_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "real").write_bytes(b"old")
    (folder / "real").chmod(0o640)
    (tmp_path / "link").symlink_to(folder / "real")
    replace_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (folder / "real").read_bytes() == b"new"
    assert stat.S_IMODE((folder / "real").stat().st_mode) == 0o640


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a file that can be replaced"):
        replace_file(tmp_path, b"")
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "no" / "folder", b"")
    if os.name == "posix":
        with pytest.raises(OSError, match="not a file that can be replaced"):
            replace_file(os.devnull, b"")


def test_lines_are_written_whole_or_the_error_says_why_not(tmp_path: Path) -> None:
    write_lines(tmp_path / "file", ["é", "second"])
    assert (tmp_path / "file").read_bytes() == "é\nsecond\n".encode()
    for wrong in (tmp_path, tmp_path / "no" / "folder", "a\0b"):
        with pytest.raises(FastInferError, match="cannot be written"):
            write_lines(wrong, [])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
