"""No file or variable of this machine has a say in what a command becomes."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def working_directory(bare_account: Path) -> Path:
    return bare_account
