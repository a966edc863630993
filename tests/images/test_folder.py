"""Which files of a folder are images."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fastinfer.images.folder import IMAGE_SUFFIXES, images_below
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
