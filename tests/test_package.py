"""The package from outside: light to import, quiet, typed, and with errors that travel."""

from __future__ import annotations

import inspect
import json
import pickle
from importlib.resources import files

import pytest

import fastinfer
from fastinfer import errors

HEAVY = [
    "llama_cpp", "torch", "lmdeploy", "numpy", "PIL", "pydantic", "huggingface_hub", "typer", "tqdm", "asyncio",
]  # fmt: skip

CLASSES = [getattr(errors, name) for name in errors.__all__]


def make(cls):
    if cls is errors.PromptTooLongError:
        return cls("too long", tokens=9, limit=8, hint="shorten it")
    return cls("what happened", hint="what to do")


def test_importing_loads_none_of_the_heavy_modules_and_prints_nothing(run_python):
    code = """
import json, logging, sys, warnings
warnings.simplefilter("error")
import fastinfer
assert logging.getLogger().handlers == [], logging.getLogger().handlers
print(json.dumps(sorted(sys.modules)))
"""
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = json.loads(done.stdout)
    assert [name for name in HEAVY if name in loaded] == []


def test_importing_is_fast(run_python):
    code = "import time; t = time.process_time(); import fastinfer; print(time.process_time() - t)"
    assert min(float(run_python(code).stdout) for _ in range(3)) < 0.15


def test_reading_the_presets_loads_no_engine(run_python):
    code = """
import sys, fastinfer
fastinfer.presets(), fastinfer.preset("prod", kind="classify").explain()
assert not {"llama_cpp", "torch", "lmdeploy"} & set(sys.modules)
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_public_name_loads_an_engine(run_python):
    code = """
import fastinfer, sys
for name in fastinfer.__all__:
    getattr(fastinfer, name)
    assert not {"llama_cpp", "torch"} & set(sys.modules), name
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", fastinfer.__all__)
def test_every_public_name_is_there(name):
    assert getattr(fastinfer, name) is not None


@pytest.mark.parametrize("name", fastinfer.__all__)
def test_every_public_name_is_documented_and_typed(name):
    value = getattr(fastinfer, name)
    if name == "__version__":
        assert isinstance(value, str)
        return
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


def test_dir_lists_the_public_names_and_nothing_else():
    assert dir(fastinfer) == sorted(fastinfer.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'klassifier'"):
        _ = fastinfer.klassifier


def test_type_checkers_are_told_that_the_package_is_typed():
    assert files("fastinfer").joinpath("py.typed").is_file()


def test_the_names_for_the_type_checker_are_those_that_are_loaded(run_python):
    code = """
import fastinfer
for name in fastinfer.__all__:
    getattr(fastinfer, name)
assert set(fastinfer.__all__) <= set(vars(fastinfer))
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_survives_pickling_with_all_it_knows(cls):
    error = make(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_says_what_happened_and_what_to_do(cls):
    error = make(cls)
    assert str(error) == f"{error.message} {error.hint}"
    assert isinstance(error, errors.FastInferError)
    assert cls.__doc__


def test_an_error_without_advice_is_its_message():
    assert str(errors.EngineError("what happened")) == "what happened"
    assert errors.EngineError("what happened").hint is None


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (errors.EngineUnavailableError, errors.EngineError),
        (errors.EngineOutOfMemoryError, errors.EngineError),
        (errors.EngineDeadError, errors.EngineError),
        (errors.LabelError, ValueError),
        (errors.MessageError, ValueError),
        (errors.SchemaError, ValueError),
        (errors.RequestTimeoutError, TimeoutError),
    ],
)
def test_errors_are_also_what_python_would_raise(cls, base):
    assert issubclass(cls, base)


def test_the_errors_of_the_contract_are_all_there():
    promised = """PresetError ModelNotFoundError ModelLoadError EngineUnavailableError EngineOutOfMemoryError
    EngineDeadError ImageDecodeError LabelError PromptTooLongError QueueFullError RequestTimeoutError
    RequestCancelledError MessageError SchemaError"""
    assert set(promised.split()) <= set(errors.__all__)
