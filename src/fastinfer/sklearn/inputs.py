"""From what scikit-learn calls X to a list of images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from fastinfer.errors import FastInferError
from fastinfer.images import ImageSource, describe_source

__all__ = ["as_images"]

_HINT = "X is a list, an array or a column of images: paths, bytes, PIL images, or numpy arrays HxWx3."


def as_images(X: Any) -> list[ImageSource]:  # noqa: N803 - scikit-learn's name
    """The images in X, in order. They are not read yet.

    Args:
        X: any iterable of what ``Classifier.classify`` takes, such as a list, a numpy array of objects or strings, an
            array (N, H, W, 3) of uint8, a pandas Series, or a data frame of one column.

    Raises:
        FastInferError: it is one image, a table of features, or no iterable.
    """
    if isinstance(X, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)):
        raise FastInferError(f"X is one image, {describe_source(X)}, not a list of images.", hint="Write [image].")
    if hasattr(X, "iloc") and X.ndim == 2:  # a data frame, which iterates over the names of its columns
        X = X.to_numpy()  # noqa: N806
    if isinstance(X, np.ndarray):
        X = _in_one_row(X)  # noqa: N806
    try:
        return list(X)
    except TypeError as error:
        raise FastInferError(f"X is a {type(X).__name__}, which holds no images.", hint=_HINT) from error


def _in_one_row(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim in (0, 2):
        raise FastInferError(f"X is an array of shape {array.shape}, which holds no images.", hint=_HINT)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        # Taken as N grey images, each row of a picture would be classified by itself.
        raise FastInferError(f"X is one image, an array of shape {array.shape}.", hint="Write X[None], or [X].")
    return array
