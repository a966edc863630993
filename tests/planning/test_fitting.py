"""Opening what may not fit: who is asked first, what is tried next, and what is said in the end."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import fastinfer
from fastinfer.errors import EngineOutOfMemoryError, ModelLoadError
from fastinfer.planning.fitting import OnOom, open_fitting
from fastinfer.preset_library import Preset
from fastinfer.provenance import Adjustment

#: Documented steps lead from here to n_ubatch 1024 and then to n_ctx 32768.
LARGE = fastinfer.preset("embedded", kind="chat").replace(n_ctx=65536, n_ubatch=2048, n_batch=2048, parallel=1)


class Opener:
    """Opens what is small enough, and keeps what it was asked for."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tried: list[tuple[int, int]] = []

    def __call__(self, preset: Preset, adjustments: tuple[Adjustment, ...]) -> dict[str, object]:
        self.tried.append((preset.n_ubatch, preset.n_ctx))
        if preset.n_ctx + preset.n_ubatch > self.most:
            raise EngineOutOfMemoryError(f"{preset.n_ctx} tokens are too many.", hint="Lower n_ctx.")
        return {each.field: each.used for each in adjustments}


def opened(opener: Opener, model: Path, on_oom: OnOom, *, plan_first: bool = False) -> dict[str, object]:
    return open_fitting(LARGE, str(model), opener, on_oom=on_oom, plan_first=plan_first)


def test_what_fits_is_opened_as_it_is(babbler: Path) -> None:
    opener = Opener(2**20)
    assert opened(opener, babbler, "raise") == {}
    assert opener.tried == [(2048, 65536)]


def test_steps_are_tried_one_after_the_other(babbler: Path) -> None:
    opener = Opener(40_000)
    used = opened(opener, babbler, "adapt")
    assert opener.tried == [(2048, 65536), (1024, 65536), (1024, 32768)]
    assert used == {"n_ctx": 32768, "n_ubatch": 1024}


def test_without_leave_nothing_is_tried_and_the_step_is_named(babbler: Path) -> None:
    opener = Opener(40_000)
    with pytest.raises(EngineOutOfMemoryError, match=r"65536 tokens.*Lower n_ctx.*n_ubatch 2048 -> 1024") as caught:
        opened(opener, babbler, "raise")
    assert opener.tried == [(2048, 65536)]
    assert isinstance(caught.value.__cause__, EngineOutOfMemoryError)


def test_when_no_step_is_small_enough_the_last_refusal_is_told(babbler: Path) -> None:
    opener = Opener(100)
    with pytest.raises(EngineOutOfMemoryError, match=r"16384 tokens are too many\. No documented step"):
        opened(opener, babbler, "adapt")
    assert opener.tried[-1] == (1024, 16384)


def test_what_cannot_be_planned_is_left_to_the_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF and nothing more")
    with caplog.at_level(logging.WARNING, "fastinfer.planning"):
        assert opened(Opener(2**20), damaged, "raise", plan_first=True) == {}
    assert "could not be planned" in caplog.text
    with pytest.raises(EngineOutOfMemoryError, match=r"65536 tokens are too many\. Lower n_ctx\.$"):
        opened(Opener(100), damaged, "adapt")


def test_other_errors_pass_through(babbler: Path) -> None:
    def broken(preset: Preset, adjustments: tuple[Adjustment, ...]) -> None:
        raise ModelLoadError("It is damaged.")

    with pytest.raises(ModelLoadError, match="It is damaged"):
        open_fitting(LARGE, str(babbler), broken, on_oom="adapt", plan_first=False)
