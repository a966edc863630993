"""Images inside messages: from OpenAI's parts to a source that ``fastinfer.images.load_image`` reads."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from PIL import Image

from fastinfer.errors import MessageError
from fastinfer.images.source import ImageSource, is_array

__all__ = ["image_source"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ACCEPTED = "Pass a base64 data: URL, a path, bytes, a PIL image or a numpy array."


def image_source(part: Mapping[str, Any], where: str) -> ImageSource:
    """The image of an ``image_url`` or ``image`` part; nothing is opened or decoded but base64.

    Args:
        part: a mapping whose ``"type"`` is ``"image_url"`` or ``"image"``.
        where: how errors call it.

    Raises:
        MessageError: the part has no image, its base64 is damaged, or it is a URL that would have to be downloaded.
    """
    kind = part["type"]
    if kind not in part:
        raise MessageError(f'{where} has no "{kind}".', hint=_ACCEPTED)
    value = part[kind]
    if kind == "image_url" and isinstance(value, Mapping):
        if "url" not in value:
            raise MessageError(f'{where}: its "image_url" has no "url".', hint=_ACCEPTED)
        value = value["url"]
    if isinstance(value, str):
        return _from_text(value, where)
    if isinstance(value, (bytes, bytearray, memoryview, os.PathLike, Image.Image)) or is_array(value):
        return cast("ImageSource", value)
    raise MessageError(f"{where}: its image is of type {type(value).__name__}.", hint=_ACCEPTED)


def _from_text(text: str, where: str) -> ImageSource:
    if not text:
        raise MessageError(f"{where}: its image is an empty text.", hint=_ACCEPTED)
    if text[:5].lower() != "data:":
        if _URL.match(text):
            shown = text if len(text) <= 80 else f"{text[:77]}..."
            raise MessageError(
                f"{where}: URLs are not opened ({shown}).", hint="Download the image first and pass its bytes or path."
            )
        return text
    header, comma, payload = text.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise MessageError(f"{where}: its data: URL is not base64.", hint="Use the form data:image/png;base64,<data>.")
    try:
        data = base64.b64decode(b"".join(unquote_to_bytes(payload).split()), validate=True)
    except ValueError as error:
        raise MessageError(
            f"{where}: the base64 of its data: URL is damaged ({error}).", hint="Encode the file again."
        ) from error
    if not data:
        raise MessageError(f"{where}: its data: URL is empty.", hint=_ACCEPTED)
    return data
