"""The images of a conversation as an engine takes them."""

from __future__ import annotations

from collections.abc import Mapping

from fastinfer.engines.chat import PlacedImage
from fastinfer.errors import ImageDecodeError
from fastinfer.images import load_image, to_rgb_array
from fastinfer.prompts import Messages, Prompt

__all__ = ["holds_images", "load_pictures"]


def holds_images(messages: Messages) -> bool:
    """Messages, which may be wrong in any way, seem to have an image in them."""
    if isinstance(messages, str) or not isinstance(messages, (list, tuple)):
        return False
    contents = [m.get("content") for m in messages if isinstance(m, Mapping)]
    parts = [part for content in contents if isinstance(content, (list, tuple)) for part in content]
    return any(isinstance(part, Mapping) and part.get("type") in ("image", "image_url") for part in parts)


def load_pictures(prompt: Prompt) -> tuple[PlacedImage, ...]:
    """Read the images of a prompt; one that is there several times is read once.

    Raises:
        ImageDecodeError: one cannot be read; says which of them.
    """
    pixels = {}
    for number, source in enumerate(prompt.images, 1):
        if id(source) not in pixels:
            try:
                pixels[id(source)] = to_rgb_array(load_image(source))
            except ImageDecodeError as error:
                which = f"Image {number} of {len(prompt.images)} in the conversation"
                raise ImageDecodeError(f"{which}: {error.message}", hint=error.hint) from error
    placed = []
    at = 0
    for part in prompt.parts:
        if isinstance(part, int):
            placed.append(PlacedImage(at, pixels[id(prompt.images[part])]))
        else:
            at += len(part)
    return tuple(placed)
