"""Images in, RGB out: one function that reads every accepted source and fails in one way.

:func:`load_image` reads a path, a ``data:`` URL, bytes, a Pillow image or a numpy array into a Pillow image of mode
``RGB``: orientation applied, transparency laid on white, wide samples scaled to 8 bits. What cannot be read raises
:class:`fastinfer.errors.ImageDecodeError` and nothing else. No network is opened, and no setting of Pillow is changed.
"""

from __future__ import annotations

from .convert import to_rgb_array
from .formats import DEFAULT_FORMATS
from .load import DEFAULT_MAX_PIXELS, load_image, load_rgb_array
from .source import ImageSource, describe_source

__all__ = [
    "DEFAULT_FORMATS",
    "DEFAULT_MAX_PIXELS",
    "ImageSource",
    "describe_source",
    "load_image",
    "load_rgb_array",
    "to_rgb_array",
]
