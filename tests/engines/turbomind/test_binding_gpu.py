"""What the binding uses of LMDeploy's internals is there, in the installed version."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu


def test_every_internal_name_that_is_used_exists():
    from lmdeploy import turbomind

    from fastinfer.engines.turbomind.binding import missing_names

    assert turbomind.is_available()
    assert missing_names(turbomind) == []


def test_a_missing_name_is_noticed():
    from types import SimpleNamespace

    from lmdeploy import turbomind

    from fastinfer.engines.turbomind.binding import missing_names

    moved = SimpleNamespace(
        _tm=SimpleNamespace(GenerationConfig=turbomind._tm.GenerationConfig), TurboMind=SimpleNamespace()
    )
    missing = missing_names(moved)
    assert "SessionParam" in missing
    assert "TurboMind.close()" in missing
