"""Which engines get a process of their own: the caller's word, then the environment's, then the default."""

from __future__ import annotations

import pytest

from fastinfer.engines.isolated.policy import keeping
from fastinfer.errors import PresetError

pytestmark = pytest.mark.usefixtures("no_variable")


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv("FASTINFER_ISOLATE", raising=False)


def keep(isolate=None, step=None, load=None, *, on_gpu=False, by_default=False):
    return keeping(isolate, step, load, on_gpu=on_gpu, by_default=by_default)


@pytest.mark.parametrize(
    ("asked", "variable", "default", "expected"),
    [
        (True, None, False, True),
        (False, "1", True, False),
        (None, "1", False, True),
        (None, "0", True, False),
        (None, "", True, True),
        (None, None, True, True),
        (None, None, False, False),
    ],
)
def test_who_decides(asked, variable, default, expected, monkeypatch):
    if variable is not None:
        monkeypatch.setenv("FASTINFER_ISOLATE", variable)
    assert keep(asked, by_default=default).isolate is expected


def test_another_value_of_the_variable_is_refused(monkeypatch):
    monkeypatch.setenv("FASTINFER_ISOLATE", "yes")
    with pytest.raises(PresetError, match="FASTINFER_ISOLATE is 'yes'"):
        keep()


def test_a_step_on_a_cpu_has_more_time():
    assert keep().step_timeout > keep(on_gpu=True).step_timeout > 60
    assert keep(step=5).step_timeout == 5
    assert keep(True, load=7).patience.load == 7


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan"), "5", True])
def test_times_are_numbers_above_nothing(wrong):
    with pytest.raises(PresetError, match="step_timeout is"):
        keep(step=wrong)
    with pytest.raises(PresetError, match="load_timeout is"):
        keep(True, load=wrong)


def test_a_load_in_this_process_cannot_be_limited():
    with pytest.raises(PresetError, match="load_timeout is for an engine in a process of its own"):
        keep(load=5)
