"""Which files of a folder are images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fastinfer.images.folder import IMAGE_SUFFIXES, image_names, images_below
from fastinfer.images.formats import DEFAULT_FORMATS

#: Forms of JPEG and BMP that Pillow counts apart.
READ = {*DEFAULT_FORMATS, "MPO", "DIB"}
#: Floating-point numbers, which are no pixels.
LEFT_OUT = {".pfm"}


def test_images_are_files_in_the_formats_that_are_read() -> None:
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in READ}
    assert known - LEFT_OUT <= IMAGE_SUFFIXES


def test_they_are_found_at_any_depth_in_any_case_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpeg", "a/deep/x.webp", "notes.txt", ".hidden.png", ".thumbnails/t.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert images_below(tmp_path) == [tmp_path / name for name in ("a/deep/x.webp", "a/z.jpeg", "b.PNG")]


def test_names_come_as_paths_are_sorted_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    for name in ("a.d/x.png", "a/b.png", "a/b/c.png", "a b.png", "a.png", "B/é.jpg", "a/.b/c.png", "none/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link.png").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "a", target_is_directory=True)
    found = [path for path in tmp_path.rglob("*") if path.suffix in IMAGE_SUFFIXES and ".b" not in path.parts]
    expected = sorted(path.relative_to(tmp_path).parts for path in found if "linked" not in path.parts)
    assert [Path(name).parts for name in image_names(tmp_path)] == expected


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(image_names(tmp_path / "missing"))
