"""The presets of native builds: all there in every kind, for the architectures they name, and pinned to one version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import fastinfer

TARGETS = ["cpu", "cuda-a100", "cuda-ada", "cuda-h100", "cuda-blackwell", "vulkan", "metal"]
ARCHITECTURES = {
    "cuda-a100": "80-real",
    "cuda-ada": "89-real",
    "cuda-h100": "90-real",
    "cuda-blackwell": "100-real;120-real",
}


@pytest.fixture(scope="module")
def presets(checkout) -> dict[str, Any]:
    return json.loads((checkout / "CMakePresets.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def variables(presets) -> Callable[[str], dict[str, str]]:
    """What a preset sets: its own, then what it inherits, of which the first in the list goes before the next."""
    named = {preset["name"]: preset for preset in presets["configurePresets"]}

    def of(name: str) -> dict[str, str]:
        parents = named[name].get("inherits", [])
        found: dict[str, str] = {}
        for parent in [parents] if isinstance(parents, str) else reversed(parents):
            found |= of(parent)
        return found | named[name].get("cacheVariables", {})

    return of


@pytest.mark.parametrize("kind", ["configure", "build", "workflow"])
def test_every_target_has_a_preset_of_every_kind_plain_and_for_benchmarks(cmake, kind):
    done = cmake(f"--list-presets={kind}")
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r'^  "([\w-]+)"', done.stdout, re.MULTILINE)) == {*TARGETS, *(f"bench-{t}" for t in TARGETS)}


def test_a_workflow_configures_and_builds_the_preset_of_its_name(presets):
    for build in presets["buildPresets"]:
        assert build["configurePreset"] == build["name"]
    for workflow in presets["workflowPresets"]:
        assert workflow["steps"] == [{"type": kind, "name": workflow["name"]} for kind in ("configure", "build")]


@pytest.mark.parametrize("target", ARCHITECTURES)
def test_a_gpu_generation_is_compiled_for_its_architecture_alone(variables, target):
    found = variables(target)
    assert found["CMAKE_CUDA_ARCHITECTURES"] == ARCHITECTURES[target]
    assert found["GGML_CUDA"] == found["GGML_CUDA_FA"] == "ON"


@pytest.mark.parametrize("target", ARCHITECTURES)
def test_flash_attention_is_compiled_for_the_cache_of_every_chat_preset(variables, target):
    pairs = variables(target)["GGML_CUDA_FA_QUANTS"].split(";")
    documented = {f"{p.type_k}-{p.type_v}" for p in fastinfer.presets(kind="chat") if p.flash_attn}
    assert "q8_0-q8_0" in documented
    assert documented <= set(pairs)


@pytest.mark.parametrize("target", [t for t in TARGETS if t not in {"cpu", "metal"}])
def test_only_a_build_for_this_machine_uses_what_its_processor_alone_has(variables, target):
    assert variables(target)["GGML_NATIVE"] == "OFF"
    assert variables(target)["GGML_AVX2"] == "ON"
    assert variables("cpu")["GGML_NATIVE"] == "ON"


@pytest.mark.parametrize("target", TARGETS)
def test_a_benchmark_build_differs_by_its_tools_alone(variables, target):
    plain, bench = variables(target), variables(f"bench-{target}")
    assert bench.items() - plain.items() == {("FASTINFER_TOOLS", "ON"), ("LLAMA_USE_PREBUILT_UI", "OFF")}
    assert plain.items() <= bench.items()


def test_wheels_of_different_targets_have_different_versions(variables):
    assert len({variables(target)["FASTINFER_VARIANT"] for target in TARGETS}) == len(TARGETS)


def test_the_pinned_archive_is_the_oldest_version_that_the_package_takes(checkout):
    (version,) = re.findall(r'"llama-cpp-python>=([\d.]+),', (checkout / "pyproject.toml").read_text("utf-8"))
    pinned = (checkout / "native/llama-cpp-python.sha256").read_text("utf-8")
    assert re.fullmatch(rf"[0-9a-f]{{64}}  llama_cpp_python-{re.escape(version)}\.tar\.gz\n", pinned)
