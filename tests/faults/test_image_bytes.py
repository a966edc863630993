"""Image bytes that are none, and decoders that fail: one ImageDecodeError for that item, its siblings untouched."""

from __future__ import annotations

import asyncio
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import fastinfer
from fastinfer.errors import ImageDecodeError
from fault_matrix import Fault, rows
from ways import all_classifications, stands_in_its_place

KIND = "image bytes"
#: A width that no other picture of these tests has, to tell those that Pillow is to fail on.
MARK = 33


def encoded(form, size=(64, 64)):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, form)
    return file.getvalue()


def bad(name, data, words):
    return Fault(KIND, f"{name}, every way in", data, ImageDecodeError, words)


def raised(error, words):
    """Pillow's decoder raises this for one of the images."""
    return Fault(KIND, f"Pillow raises {type(error).__name__}", error, ImageDecodeError, words, type(error))


FAULTS = (
    bad("empty", b"", "it is empty"),
    bad("garbage", bytes(range(256)) * 20, "no image of a known format"),
    bad("truncated JPEG", encoded("JPEG")[:-900], "truncated"),
    bad("truncated PNG", encoded("PNG")[:-2000], "truncated"),
    bad("header alone", encoded("PNG")[:40], ""),
    bad("decompression bomb", encoded("PNG")[:16] + struct.pack(">II", 60_000, 60_000) + encoded("PNG")[24:], ""),
    bad("FITS", b"SIMPLE  =                    T" + b" " * 3000, "FITS"),
    bad("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "EPS"),
    raised(OSError("broken data stream"), "broken data stream"),
    raised(SyntaxError("not a PNG file"), "not a PNG file"),
    raised(ValueError("bad transparency mask"), "bad transparency mask"),
    raised(MemoryError(), "not enough memory"),
    raised(NotImplementedError("unsupported bit depth"), "unsupported bit depth"),
    raised(OverflowError("cannot fit"), "cannot fit"),
    raised(EOFError(), "EOFError"),
    raised(struct.error("unpack requires a buffer"), "unpack requires"),
    raised(Image.DecompressionBombError("exceeds limit"), "too large"),
)  # fmt: skip


def data_of(number, fault):
    """The bytes of an image; of those that Pillow is to fail on, the size tells which."""
    return encoded("PNG", (MARK, 40 + number)) if isinstance(fault.inject, Exception) else fault.inject


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bad images, each under its row's number, and Pillow that fails as the rows say."""
    made, real = tmp_path_factory.mktemp("bad"), PngImagePlugin.PngImageFile.load

    def load(self):
        if self.size[0] == MARK:
            error = FAULTS[self.size[1] - 40].inject
            raise type(error)(*error.args)
        return real(self)

    for number, fault in enumerate(FAULTS):
        (made / f"bad {number:02}.png").write_bytes(data_of(number, fault))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PngImagePlugin.PngImageFile, "load", load)
        yield made


@pytest.fixture(scope="module")
def answers(clf, pictures, folder):
    """What comes out of every way for all rows at once, each image between two that are well."""
    images = [pictures[0], *(image for bad in sorted(folder.glob("bad*")) for image in (bad, pictures[1]))]

    async def ask():
        found = {way: results async for way, results in all_classifications(clf, images, raising=False)}
        for number, bad in enumerate(sorted(folder.glob("bad*"))):
            async for way, results in all_classifications(clf, [pictures[0], bad], returning=False):
                found[number, way] = results
        return found

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def lines(clf, pictures, folder):
    """The rows of a job over all of them."""
    pictures[0].save(folder / "a good one.png")
    pictures[1].save(folder / "z good one.png")
    done = fastinfer.run(folder, folder / "rows.jsonl", using=clf)
    return [json.loads(line) for line in done.output.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(**rows(FAULTS))
def test_it_fails_alone_whichever_way_it_comes(fault, answers, lines, good, same):
    number, errors = FAULTS.index(fault), []
    for way, found in answers.items():
        if isinstance(way, str):
            place, near = 2 * number + 1, found[2 * number : 2 * number + 3]
            assert len(found) == 2 * len(FAULTS) + 1
            errors.append(stands_in_its_place(way, near, [good[bool(number)], good[1]], 1, same))
            assert found[place] is errors[-1]
        elif way[0] == number:
            errors.append(stands_in_its_place(way[1], found, good[:2], 1, same))
    assert len(errors) == 8
    for error in errors:
        assert type(error) is fault.error
        assert f"bad {number:02}.png" in error.message
        assert fault.words in error.message
        assert error.hint
        if fault.cause is not None:
            assert type(error.__cause__) is fault.cause
    assert lines[number + 1]["error_type"] == fault.error.__name__
    assert fault.words in lines[number + 1]["error_message"]
    assert (lines[0]["label"], lines[-1]["label"]) == (good[0].label, good[1].label)


def test_afterwards_the_classifier_is_as_it_was(answers, lines, clf, pictures, good, same):
    for picture, expected in zip(pictures, good, strict=True):
        same(clf.classify(picture), expected)
