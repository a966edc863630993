"""The GPUs that the driver sees, or the reason why there are none."""

from __future__ import annotations

import ctypes

import pytest

from fastinfer.engines.turbomind.gpus import gpus
from fastinfer.errors import EngineUnavailableError


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver")
def test_without_a_driver_the_library_that_is_missing_is_named() -> None:
    with pytest.raises(EngineUnavailableError, match=r"no NVIDIA driver .*libcuda\.so\.1|nvcuda\.dll") as error:
        gpus()
    assert isinstance(error.value.__cause__, OSError)
    assert error.value.hint is not None
    assert "embedded" in error.value.hint


@pytest.mark.skipif(not has_driver(), reason="there is no NVIDIA driver")
def test_with_a_driver_it_is_the_gpus_that_it_sees_in_order() -> None:
    try:
        found = gpus()
    except EngineUnavailableError:
        pytest.skip("the driver sees no GPU")
    assert [gpu.index for gpu in found] == list(range(len(found)))
    assert found
    for gpu in found:
        assert gpu.name
        assert gpu.memory > 2**30
        assert gpu.capability >= (3, 0)
