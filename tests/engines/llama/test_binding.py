"""What is taken from llama-cpp-python is named in one place and checked when it is loaded."""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path

import pytest

import fastinfer
from fastinfer.engines.llama import binding

SOURCES = Path(fastinfer.__file__).parent
USED = re.compile(r"\b(llama|mtmd)\.((?:llama|mtmd)_\w+)")


def used_names():
    found = {"llama": set(), "mtmd": set()}
    for path in SOURCES.rglob("*.py"):
        for module, name in USED.findall(path.read_text(encoding="utf-8")):
            found[module].add(name)
    return found


def required_names():
    return {
        "llama": set(binding.REQUIRED_FUNCTIONS[binding.llama]),
        "mtmd": set(binding.REQUIRED_FUNCTIONS[binding.mtmd]),
    }


#: Names that the binding itself uses to check and wrap the others.
OF_THE_BINDING = {"llama_log_callback", "llama_context_params", "mtmd_helper_post_decode_callback"}


@pytest.mark.parametrize("module", ["llama", "mtmd"])
def test_every_name_that_is_used_is_checked(module):
    assert used_names()[module] - OF_THE_BINDING <= required_names()[module]


@pytest.mark.parametrize("module", ["llama", "mtmd"])
def test_every_name_that_is_checked_is_used(module):
    assert required_names()[module] <= used_names()[module]


def test_only_the_binding_imports_llama_cpp():
    importing = re.compile(r"^\s*(?:import|from)\s+llama_cpp\b", re.MULTILINE)
    found = {path.name for path in SOURCES.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))}
    assert found == {"binding.py"}


def test_the_installed_version_is_one_that_is_supported():
    release = tuple(int(part) for part in binding.VERSION.split(".")[:3])
    assert (0, 3, 36) <= release < (0, 4)


def test_the_fields_of_the_context_are_there():
    fields = {name for name, *_ in binding.llama.llama_context_params._fields_}
    assert set(binding.REQUIRED_CONTEXT) <= fields
    assert set(binding.REQUIRED_MODEL) <= {name for name, *_ in binding.llama.llama_model_params._fields_}


FAULTS = {
    "a missing function": ("del llama_cpp.llama_memory_seq_cp", "It lacks llama_memory_seq_cp"),
    "a missing function of mtmd": ("del mtmd_cpp.mtmd_batch_encode", "It lacks mtmd_batch_encode"),
    "two missing": ("del llama_cpp.llama_decode, mtmd_cpp.mtmd_free", "It lacks llama_decode, mtmd_free"),
    "a version too old": ("llama_cpp.__version__ = '0.3.35'", "llama-cpp-python 0.3.35 is not supported"),
    "a version too new": ("llama_cpp.__version__ = '0.4.0'", "llama-cpp-python 0.4.0 is not supported"),
    "a missing field": (
        "S = llama_cpp.llama_context_params\n"
        "T = type('T', (), {'_fields_': [f for f in S._fields_ if f[0] != 'kv_unified']})\n"
        "llama_cpp.llama_context_params = T",
        "It lacks llama_context_params.kv_unified",
    ),
    "no library": ("sys.modules['llama_cpp'] = None", "cannot be imported"),
}


@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=FAULTS)
def test_another_llama_cpp_is_refused_with_what_it_lacks(run_python, fault, words):
    code = f"""
import sys, llama_cpp
from llama_cpp import mtmd_cpp
{fault}
import fastinfer
try:
    fastinfer.classifier()
except fastinfer.errors.EngineUnavailableError as error:
    assert error.hint and "pip install" in error.hint, error.hint
    print(error)
"""
    done = run_python(code)
    assert words in done.stdout, done.stderr
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("level", "python"), [(1, "DEBUG"), (2, "DEBUG"), (3, "INFO"), (4, "ERROR"), (5, "DEBUG")])
def test_ggmls_log_levels_become_pythons(caplog, level, python):
    with caplog.at_level(logging.DEBUG, logger="fastinfer.llama"):
        binding._forward(level, "Grüße\n".encode(), None)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (python, "Grüße")


def test_the_levels_are_those_of_the_header_that_comes_with_the_library():
    import sysconfig

    header = Path(sysconfig.get_paths()["purelib"], "include", "ggml.h")
    if not header.exists():
        pytest.skip("llama-cpp-python was installed without its headers")
    numbers = dict(re.findall(r"GGML_LOG_LEVEL_(\w+)\s*=\s*(\d)", header.read_text(encoding="utf-8")))
    assert (numbers["INFO"], numbers["WARN"], numbers["ERROR"], numbers["CONT"]) == ("2", "3", "4", "5")


def test_the_cache_types_are_ggmls():
    import sysconfig

    context = importlib.import_module("fastinfer.engines.llama.context")
    header = Path(sysconfig.get_paths()["purelib"], "include", "ggml.h")
    if not header.exists():
        pytest.skip("llama-cpp-python was installed without its headers")
    numbers = {k.lower(): int(v) for k, v in re.findall(r"GGML_TYPE_(\w+)\s*=\s*(\d+)", header.read_text())}
    assert {name: numbers[name] for name in context.CACHE_TYPES} == context.CACHE_TYPES
