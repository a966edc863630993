"""CUDA graphs are turned off for the process where llama.cpp must not use them, and only where there is CUDA."""

from __future__ import annotations

import os

import pytest

from fastinfer.engines.llama import devices


@pytest.mark.parametrize(("names", "concerned"), [(("CUDA0",), True), (("Metal",), False), ((), False), (None, False)])
def test_cuda_graphs_are_turned_off_where_there_is_cuda(monkeypatch, names, concerned):
    monkeypatch.delenv("GGML_CUDA_DISABLE_GRAPHS", raising=False)
    monkeypatch.setattr(devices, "gpu_names", lambda: names)
    assert devices.turn_cuda_graphs_off() is concerned
    assert ("GGML_CUDA_DISABLE_GRAPHS" in os.environ) is concerned
    monkeypatch.delenv("GGML_CUDA_DISABLE_GRAPHS", raising=False)
