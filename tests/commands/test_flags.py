"""The tables of flags against the servers' own sources, where those are here, and the library's documentation."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from pathlib import Path

import pytest

from fastinfer.commands.flags import MODEL_PATH, Server, server_of
from fastinfer.engines.turbomind.flags import FLAGS
from fastinfer.preset_library import field_docs
from fastinfer.preset_library.schema import PARAMETER_CLASSES

LLAMA, LMDEPLOY = server_of("llama.cpp"), server_of("turbomind")

#: A checkout of llama.cpp of the version that the pinned llama-cpp-python builds.
LLAMA_CPP = os.environ.get("LLAMA_CPP_SOURCE", "")


def flags_of_llama_server(source: str) -> dict[str, int]:
    """Every flag that common/arg.cpp gives llama-server, and how many values follow it."""
    begin = source.index("common_params_context common_params_parser_init(common_params & params")
    body = source[begin : source.index("void common_params_add_preset_options")]
    vision = re.search(r"mmproj_examples = \{(.*?)\}", source, re.DOTALL)
    assert vision is not None
    found = {}
    for block in re.split(r"\badd_opt\(", body)[1:]:
        names = re.match(r"\s*common_arg\(\s*(?://[^\n]*\s*)*\{([^}]*)\}\s*,(?:\s*\{([^}]*)\}\s*,)?", block)
        if names is None:
            continue  # the lambda's own definition
        examples = re.search(r"set_examples\(\{([^}]*)\}\)", block)
        of = examples[1] if examples else vision[1] if "set_examples(mmproj_examples)" in block else "COMMON"
        excluded = re.search(r"set_excludes\(\{([^}]*)\}\)", block)
        if not re.search(r"SERVER|COMMON", of) or (excluded is not None and "SERVER" in excluded[1]):
            continue
        handler = re.search(r"\]\s*\((common_params\b[^)]*)\)", block)
        assert handler is not None, block[:80]
        count = 0 if names[2] else handler[1].count(",")
        for spelling in re.findall(r'"(-[^"]*)"', names[1] + (names[2] or "")):
            found[spelling] = count
    return found


def flags_of_api_server(cli: Path) -> dict[str, tuple[int, int | None]]:
    """Every argument of lmdeploy's api_server, and how many values follow it at least and at most."""
    serve = ast.parse((cli / "serve.py").read_text("utf-8"))
    helpers = {
        node.name: node for node in ast.walk(ast.parse((cli / "utils.py").read_text("utf-8"))) if hasattr(node, "name")
    }
    (start,) = (node for node in ast.walk(serve) if getattr(node, "name", "") == "add_parser_api_server")
    used = [ast.unparse(node.func) for node in ast.walk(start) if isinstance(node, ast.Call)]
    nodes = [start, *(helpers[name.rpartition(".")[2]] for name in used if name.startswith("ArgumentHelper."))]
    found = {}
    for call in (each for node in nodes for each in ast.walk(node) if isinstance(each, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            least, most = {"'+'": (1, None), "'*'": (0, None), None: (1, 1)}[options.get("nargs")]
            assert isinstance(call.args[0], ast.Constant)
            found[str(call.args[0].value)] = (0, 0) if options.get("action") == "'store_true'" else (least, most)
    return found


@pytest.mark.skipif(not LLAMA_CPP, reason="LLAMA_CPP_SOURCE names no checkout of llama.cpp")
def test_every_flag_of_llama_server_is_known_with_its_values() -> None:
    source = flags_of_llama_server((Path(LLAMA_CPP) / "common" / "arg.cpp").read_text("utf-8"))
    assert len(source) > 300
    assert {name: LLAMA.flags[name].most for name in source} == source
    assert {name for name, flag in LLAMA.flags.items() if not flag.older} == set(source)


@pytest.mark.skipif(importlib.util.find_spec("lmdeploy") is None, reason="lmdeploy is not installed")
def test_every_flag_of_api_server_is_known_with_its_values() -> None:
    spec = importlib.util.find_spec("lmdeploy")
    assert spec is not None
    assert spec.origin is not None
    source = flags_of_api_server(Path(spec.origin).parent / "cli")
    assert len(source) > 70
    known = {name: (flag.fewest, flag.most if flag.most < 100 else None) for name, flag in LMDEPLOY.flags.items()}
    assert {name: values for name, values in known.items() if name not in ("-h", "--help")} == source


@pytest.mark.parametrize("kind", [pair for pair in PARAMETER_CLASSES if pair != ("classify", "llama.cpp")])
def test_the_documented_flag_of_a_field_fills_it(kind: tuple[str, str]) -> None:
    server = server_of(kind[1])
    docs = field_docs(*kind)  # type: ignore[arg-type]
    for name, doc in docs.items():
        for spelling in re.findall(r"(?<!\S)-[\w-]+", doc.flag):
            assert server.flags[spelling].field == name
    assert server.fields == {name for name, doc in docs.items() if doc.flag}


def test_a_classification_preset_of_llama_cpp_shares_llama_server_s_flags() -> None:
    for name, doc in field_docs("classify", "llama.cpp").items():
        assert (name in LLAMA.fields) == bool(doc.flag)


def test_the_documented_flags_of_lmdeploy_have_one_reason() -> None:
    for documented in FLAGS:
        flag = LMDEPLOY.flags[documented.flag]
        assert flag.field == documented.field
        if not flag.field:
            assert flag.why == documented.why


@pytest.mark.parametrize("server", [LLAMA, LMDEPLOY], ids=["llama-server", "api_server"])
def test_each_flag_has_a_field_or_a_reason(server: Server) -> None:
    assert server in (LLAMA, LMDEPLOY)
    for name, flag in server.flags.items():
        assert name.startswith("-") or name == MODEL_PATH
        assert bool(flag.field) != flag.why.endswith(".")
        assert not flag.refused or flag.hint
        assert flag.refused or not flag.neutral
        assert 0 <= flag.fewest <= flag.most


def test_no_spelling_is_listed_twice() -> None:
    for server in (LLAMA, LMDEPLOY):
        flags = {id(flag): flag for flag in server.flags.values()}.values()
        spellings = [name for flag in flags for name in (*flag.spellings, *flag.opposites)]
        assert len(spellings) == len(server.flags)


def test_every_field_that_a_flag_fills_has_the_server_s_default() -> None:
    for server in (LLAMA, LMDEPLOY):
        assert set(server.defaults) | {"model"} == server.fields
        assert set(server.not_given) <= server.fields
