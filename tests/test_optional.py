"""Libraries of the extras: there, or missed with what installs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastinfer.errors import FastInferError
from fastinfer.optional import require


def test_a_library_that_is_there_is_given() -> None:
    assert require("json.decoder", extra="any", what="This") is sys.modules["json.decoder"]


def test_a_missing_one_is_an_error_with_the_command_that_installs_it() -> None:
    with pytest.raises(FastInferError, match=r"Parquet needs no_such_library.*pip install 'fastinfer\[tables\]'") as e:
        require("no_such_library.parquet", extra="tables", what="Parquet")
    assert isinstance(e.value.__cause__, ModuleNotFoundError)


def test_a_library_that_lacks_something_itself_says_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "half_there.py"
    package.write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        require("half_there", extra="tables", what="Parquet")
