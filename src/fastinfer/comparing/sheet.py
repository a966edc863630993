"""Disagreements as one picture."""

from __future__ import annotations

import base64
import io
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from fastinfer.comparing.results import Answer, ComparedImage, Comparison
from fastinfer.errors import ImageDecodeError
from fastinfer.images import ImageSource, load_image

__all__ = ["as_base64", "contact_sheet", "thumbnail"]

_ACROSS: Final = 4
_PICTURE: Final = 192
_MARGIN: Final = 12
_LINE: Final = 18
_TEXT_SIZE: Final = 13
_INK, _RIGHT, _WRONG, _EMPTY = "#202020", "#1a7f37", "#c01c28", "#d0d0d0"


def thumbnail(source: ImageSource) -> Image.Image:
    """A copy of an image that fits its place on the sheet, with the sides' ratio kept.

    Raises:
        ImageDecodeError: it cannot be read.
    """
    image = load_image(source)
    image.thumbnail((_PICTURE, _PICTURE))
    return image


def contact_sheet(comparison: Comparison, n: int) -> Image.Image:
    """See :meth:`fastinfer.comparing.Comparison.contact_sheet`.

    Raises:
        ValueError: ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    chosen = comparison.disagreements[:n]
    lines = 3 + any(image.truth is not None for image in chosen)
    wide, high = _PICTURE + 2 * _MARGIN, _PICTURE + 2 * _MARGIN + lines * _LINE
    rows = -(-len(chosen) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * wide, rows * high or 2 * _MARGIN + _LINE), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_SIZE)
    if not chosen:
        pen.text((_MARGIN, _MARGIN), "Both gave the same label to every image.", _INK, font)
    for place, image in enumerate(chosen):
        left, top = place % _ACROSS * wide + _MARGIN, place // _ACROSS * high + _MARGIN
        picture = comparison._thumbnails.get(image.name) or _read_again(image)
        if picture is None:
            pen.rectangle((left, top, left + _PICTURE, top + _PICTURE), outline=_EMPTY)
            pen.text((left + _MARGIN, top + _MARGIN), "no picture kept", _EMPTY, font)
        else:
            sheet.paste(picture, (left + (_PICTURE - picture.width) // 2, top + (_PICTURE - picture.height) // 2))
        for row, (text, colour) in enumerate(_caption(image)):
            shown = _shortened(text, font)
            pen.text((left, top + _PICTURE + row * _LINE + _MARGIN // 2), shown, colour, font)
    return sheet


def as_base64(image: Image.Image) -> str:
    """An image as a PNG file in base64."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _read_again(image: ComparedImage) -> Image.Image | None:
    if image.path is None:
        return None
    try:
        return thumbnail(image.path)
    except ImageDecodeError:  # moved or changed since
        return None


def _caption(image: ComparedImage) -> list[tuple[str, str]]:
    lines = [(image.name, _INK)]
    if image.truth is not None:
        lines.append((f"truth: {image.truth}", _INK))
    for letter, answer in (("a", image.a), ("b", image.b)):
        lines.append((f"{letter}: {answer}", _colour(answer, image.truth)))
    return lines


def _colour(answer: Answer, truth: str | None) -> str:
    if truth is None:
        return _INK
    return _RIGHT if answer.label == truth else _WRONG


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text on one line, as wide as a picture at most; its middle goes first, as both ends tell more."""
    text = " ".join(text.split())
    shown, kept = text, len(text) // 2
    while kept and font.getlength(shown) > _PICTURE:
        kept -= 1
        shown = f"{text[:kept]}...{text[len(text) - kept :]}"
    return shown
