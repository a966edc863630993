"""Libraries of the extras: imported when they are needed, and missed with the command that installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastinfer.errors import FastInferError

__all__ = ["require"]


def require(module: str, *, extra: str, what: str) -> Any:
    """Import a module of an optional library.

    Args:
        module: its name, for example ``"pyarrow.parquet"``.
        extra: the extra of fastinfer that brings it.
        what: what it is needed for, to begin a sentence with, for example ``"Parquet"``.

    Raises:
        FastInferError: the library is not installed; says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # the library is there, and lacks something itself
        raise FastInferError(
            f"{what} needs {library}, which is not installed.", hint=f"Install it: pip install 'fastinfer[{extra}]'."
        ) from error
