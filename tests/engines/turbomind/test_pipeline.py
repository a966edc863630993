"""What the pipeline's engine uses of LMDeploy is there, in the installed version; none of it is executed."""

from __future__ import annotations

import ast

import pytest

from fastinfer.engines.turbomind.pipeline import PIPELINE_ARCHITECTURES
from fastinfer.engines.turbomind.prompt import PLACES
from lmdeploy_classes import installed_folder


def class_in(file: str, name: str) -> ast.ClassDef:
    """A class of the installed LMDeploy."""
    tree = ast.parse((installed_folder() / file).read_text("utf-8"))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)


def method(of: ast.ClassDef, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    return next(
        node for node in of.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    )


def parameters(of: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {argument.arg for argument in (*of.args.args, *of.args.kwonlyargs)}


def test_only_models_without_a_place_for_images_of_their_own_are_left_to_it() -> None:
    assert set(PIPELINE_ARCHITECTURES).isdisjoint(PLACES)


@pytest.mark.parametrize("architecture", PIPELINE_ARCHITECTURES)
def test_lmdeploy_gives_these_models_to_turbomind_and_has_it_encode_their_images(architecture: str) -> None:
    assert f"{architecture}=" in (installed_folder() / "turbomind" / "supported_models.py").read_text("utf-8")
    source = (installed_folder() / "vl" / "model" / "qwen3_5.py").read_text("utf-8")
    assert f"'{architecture}'" in source
    assert "_turbomind_native_vision = True" in source


def test_a_response_has_what_is_read_of_it() -> None:
    fields = {node.target.id for node in class_in("messages.py", "Response").body if isinstance(node, ast.AnnAssign)
              and isinstance(node.target, ast.Name)}  # fmt: skip
    assert {"error_code", "error_message", "finish_reason", "input_token_len", "logits", "token_ids"} <= fields


def test_a_prompt_that_is_too_long_has_the_code_that_is_looked_for() -> None:
    codes = ast.unparse(class_in("serve/core/exceptions.py", "ErrorCode"))
    assert "= 'context_length_exceeded'" in codes


def test_what_is_asked_of_the_pipeline_is_passed_on() -> None:
    pipeline = class_in("pipeline.py", "Pipeline")
    assert {"prompts", "gen_config"} <= parameters(method(pipeline, "infer"))
    taken = parameters(method(class_in("serve/core/async_engine.py", "AsyncEngine"), "preprocess"))
    assert {"chat_template_kwargs", "mm_processor_kwargs"} <= taken
    assert "vision_config" in parameters(method(class_in("serve/core/vl_async_engine.py", "VLAsyncEngine"), "__init__"))
