"""What TurboMind cannot run is refused before it is loaded, with a remedy; what it can run is let through."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastinfer.engines.turbomind.gpus import Gpu
from fastinfer.engines.turbomind.pictures import preparation_for
from fastinfer.engines.turbomind.pipeline import PIPELINE_ARCHITECTURES
from fastinfer.engines.turbomind.preflight import (
    TEXT_MODELS,
    check_architecture,
    check_gpus,
    check_image_tokens,
    check_model,
)
from fastinfer.engines.turbomind.prompt import PLACES
from fastinfer.engines.turbomind.settings import EngineSettings, effective_settings
from fastinfer.errors import EngineUnavailableError, ModelLoadError, PresetError, PromptTooLongError
from fastinfer.models import CheckpointInfo, describe_checkpoint
from fastinfer.preset_library import TurbomindClassifyParameters, preset
from lmdeploy_classes import installed_folder
from tiny_checkpoints import CONFIGS, PROCESSORS, write_checkpoint

H200 = Gpu(0, "NVIDIA H200", 150_754_820_096, (9, 0))
V100 = Gpu(1, "Tesla V100", 16 * 2**30, (7, 0))
P100 = Gpu(2, "Tesla P100", 16 * 2**30, (6, 0))

Described = Callable[..., CheckpointInfo]


@pytest.fixture
def described(tmp_path: Path) -> Described:
    """``described(name, **changes)``: what is found in a folder with the published config.json of that name."""

    def describe(name: str, **changes: Any) -> CheckpointInfo:
        config = {**CONFIGS[name], **changes}
        patch = config["vision_config"].get("patch_size", 14)
        processor = PROCESSORS.get(name, {**PROCESSORS["qwen2_vl"], "patch_size": patch})
        return describe_checkpoint(write_checkpoint(tmp_path / name, config, preprocessor_config=processor))

    return describe


def made(**changes: Any) -> EngineSettings:
    parameters = preset("prod", kind="classify").replace(**changes).parameters
    assert isinstance(parameters, TurbomindClassifyParameters)
    return effective_settings(parameters, None, devices=(0,))[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_published_models_are_let_through(name: str, described: Described) -> None:
    info = described(name)
    check_model(info, trust_remote_code=True)
    assert check_gpus([H200], [0], info, tp=1)
    check_image_tokens(info, made(), info.image_tokens or 0)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("internvl", "InternS1ForConditionalGeneration"), ("qwen3_5", "Qwen3_5MoeForConditionalGeneration")],
)
def test_so_are_models_that_turbomind_reads_with_the_same_code(
    name: str, architecture: str, described: Described
) -> None:
    info = described(name, architectures=[architecture])
    check_model(info, trust_remote_code=True)
    limits = {"dtype": "bfloat16", "max_tiles": 1, "min_pixels": 0, "max_pixels": 0}
    prepared, same = preparation_for(info, **limits), preparation_for(described(name), **limits)
    assert prepared is not None
    assert same is not None
    assert type(prepared) is type(same)
    assert prepared.tokens(448, 336) == same.tokens(448, 336)


def test_an_architecture_that_turbomind_lacks_is_refused_and_the_known_ones_are_listed(described: Described) -> None:
    info = replace(described("internvl"), architecture="Gemma3ForConditionalGeneration")
    folder = write_checkpoint(
        info.folder.parent / "gemma", {"architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {}}
    )
    for name, check in (
        ("internvl", lambda: check_model(info, trust_remote_code=True)),
        ("gemma", lambda: check_architecture(folder)),
    ):
        with pytest.raises(EngineUnavailableError, match=f"{name} is a Gemma3ForConditionalGeneration") as error:
            check()
        assert error.value.hint is not None
        for known in PLACES:
            assert known in error.value.hint


@pytest.mark.parametrize(
    "config", [CONFIGS["internvl"], {"architectures": ["LlamaForCausalLM"]}, {"vision_config": {}}]
)
def test_only_a_vision_language_model_is_refused_by_its_architecture_alone(
    config: dict[str, Any], tmp_path: Path
) -> None:
    check_architecture(write_checkpoint(tmp_path / "model", config))


@pytest.mark.parametrize(
    ("architectures", "words"),
    [(["Phi3ForCausalLM"], "is a Phi3ForCausalLM"), (None, "has no class in config.json")],
)
def test_so_is_a_language_model_that_turbomind_lacks_within_a_family_that_it_has(
    architectures: list[str] | None, words: str, described: Described
) -> None:
    info = described("internvl", text_config={**CONFIGS["internvl"]["text_config"], "architectures": architectures})
    with pytest.raises(EngineUnavailableError, match=words) as error:
        check_model(info, trust_remote_code=False)
    assert error.value.hint is not None
    assert "Qwen2ForCausalLM" in error.value.hint


def test_a_model_of_text_only_is_refused(described: Described) -> None:
    with pytest.raises(ModelLoadError, match="without a vision encoder") as error:
        check_model(replace(described("internvl"), vision=None), trust_remote_code=False)
    assert error.value.hint


@pytest.mark.parametrize("architecture", ["InternVLChatModel", "InternS1ForConditionalGeneration"])
def test_code_that_comes_with_a_model_is_run_only_when_asked_for(architecture: str, described: Described) -> None:
    info = replace(described("internvl_chat"), architecture=architecture)
    with pytest.raises(ModelLoadError, match="Python code of its own") as error:
        check_model(info, trust_remote_code=False)
    assert error.value.hint is not None
    assert "trust_remote_code=True" in error.value.hint
    check_model(info, trust_remote_code=True)


NAMING_CODE = {
    "tokenizer_config.json": {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}},
    "processor_config.json": {"processor_class": "Own", "auto_map": {"AutoProcessor": "own.Own"}},
    "preprocessor_config.json": {
        **PROCESSORS["qwen2_vl"],
        "image_processor_type": "Own",
        "auto_map": {"AutoImageProcessor": "own.Own"},
    },
    "video_preprocessor_config.json": {"auto_map": {"AutoVideoProcessor": "own.Own"}},
}


@pytest.fixture
def with_code(tmp_path: Path) -> Callable[[str], Path]:
    """``with_code(file)``: a checkpoint of which this file names code, and the code, which leaves a trace if run."""

    def write(file: str) -> Path:
        config = {**CONFIGS["qwen2_vl"]}
        if file == "config.json":
            config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
        folder = write_checkpoint(tmp_path / "qwen2_vl", config, preprocessor_config=PROCESSORS["qwen2_vl"])
        if file in NAMING_CODE:
            (folder / file).write_text(json.dumps(NAMING_CODE[file]), encoding="utf-8")
        (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Own: pass\n")
        return folder

    return write


@pytest.mark.parametrize("file", NAMING_CODE)
def test_code_of_a_tokenizer_or_processor_is_refused_before_anything_could_import_it(
    file: str, with_code: Callable[[str], Path], tmp_path: Path
) -> None:
    info = describe_checkpoint(with_code(file))
    assert info.code_beside == (file,)
    with pytest.raises(ModelLoadError, match=f"Python code of its own, named by {file}") as error:
        check_model(info, trust_remote_code=False)
    assert error.value.hint is not None
    assert "trust_remote_code=True" in error.value.hint
    check_model(info, trust_remote_code=True)
    assert not (tmp_path / "ran").exists()


def test_transformers_runs_no_code_of_a_checkpoint_that_it_is_not_told_to_trust(
    with_code: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoConfig, AutoTokenizer

    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoConfig.from_pretrained(with_code("config.json"), trust_remote_code=False)
    with pytest.raises((ValueError, OSError)):
        AutoTokenizer.from_pretrained(with_code("tokenizer_config.json"), trust_remote_code=False)
    assert not (tmp_path / "ran").exists()


def test_lmdeploy_hands_on_what_it_is_told_of_trust() -> None:
    # Nowhere on TurboMind's way is code of a checkpoint trusted unless the caller does.
    folder = installed_folder()
    trusting = [
        f"{file.relative_to(folder)}:{node.lineno}"
        for part in ("turbomind", "vl", "serve", "hf_configs", "archs.py", "model.py", "tokenizer.py", "pipeline.py")
        for file in ([folder / part] if part.endswith(".py") else sorted((folder / part).rglob("*.py")))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and isinstance(node.value, ast.Constant)
        if node.value.value is not False
    ]
    assert trusting == []


def test_code_that_transformers_does_not_need_is_no_reason_to_refuse(described: Described) -> None:
    check_model(described("qwen2_vl", auto_map={"AutoModel": "modeling.Model"}), trust_remote_code=False)


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "compressed-tensors", "mxfp4"])
def test_quantised_weights_that_turbomind_reads_are_let_through(method: str, described: Described) -> None:
    check_model(described("internvl", quantization_config={"quant_method": method}), trust_remote_code=False)


def test_other_quantised_weights_are_refused(described: Described) -> None:
    info = described("internvl", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(EngineUnavailableError, match="quantised as 'bitsandbytes'") as error:
        check_model(info, trust_remote_code=False)
    assert error.value.hint is not None
    assert "awq" in error.value.hint


@pytest.mark.parametrize(("part", "words"), [("text", "has attention heads 96"), ("vision", "has vision attention")])
def test_heads_without_a_kernel_are_refused(part: str, words: str, described: Described) -> None:
    info = described("internvl")
    info = replace(info, **{part: replace(getattr(info, part), head_dim=96)})
    with pytest.raises(EngineUnavailableError, match=words) as error:
        check_model(info, trust_remote_code=False)
    assert error.value.hint


@pytest.mark.parametrize(("part", "words"), [("text", "has a hidden size of 3580"), ("vision", "has a vision hidden")])
def test_widths_that_are_no_multiple_of_eight_are_refused(part: str, words: str, described: Described) -> None:
    info = described("internvl")
    info = replace(info, **{part: replace(getattr(info, part), hidden=3580)})
    with pytest.raises(EngineUnavailableError, match=words) as error:
        check_model(info, trust_remote_code=False)
    assert error.value.hint


def test_a_gpu_that_is_not_there_is_named_and_so_are_those_that_are(described: Described) -> None:
    with pytest.raises(PresetError, match="no GPU 3 here") as error:
        check_gpus([H200, V100], [0, 3], described("internvl"), tp=1)
    assert error.value.hint is not None
    assert "0 (NVIDIA H200), 1 (Tesla V100)" in error.value.hint
    assert "CUDA_VISIBLE_DEVICES" in error.value.hint


def test_a_gpu_that_is_too_old_is_refused_only_where_it_is_asked_for(described: Described) -> None:
    info = described("internvl")
    with pytest.raises(EngineUnavailableError, match=r"GPU 2, Tesla P100, has compute capability 6\.0") as error:
        check_gpus([H200, V100, P100], [0, 2], info, tp=1)
    assert error.value.hint
    assert check_gpus([H200, V100, P100], [0], info, tp=1)


def test_all_gpus_have_to_compute_in_bfloat16_for_it_to_be_used(described: Described) -> None:
    info = described("internvl")
    assert check_gpus([H200, V100], [0], info, tp=1) is True
    assert check_gpus([H200, V100], [0, 1], info, tp=1) is False
    assert check_gpus([H200, V100], [1], info, tp=1) is False


@pytest.mark.parametrize(("tp", "fits"), [(1, True), (2, True), (4, True), (3, False), (8, False), (28, True)])
def test_layers_are_split_only_where_the_heads_can_be(tp: int, fits: bool, described: Described) -> None:
    info = described("internvl")  # 28 heads, 4 of keys and values
    present = [replace(H200, index=index) for index in range(tp)]
    if fits:
        check_gpus(present, range(tp), info, tp=tp)
        return
    with pytest.raises(PresetError, match=f"28 attention heads of internvl cannot be split over tp = {tp}") as error:
        check_gpus(present, range(tp), info, tp=tp)
    assert error.value.hint


@pytest.mark.parametrize("session_len", [1, 64, 256])
def test_a_limit_that_one_image_fills_is_refused_with_one_that_will_do(session_len: int, described: Described) -> None:
    info = described("internvl")
    with pytest.raises(
        PromptTooLongError, match=f"256 tokens with internvl, and session_len is {session_len}"
    ) as error:
        check_image_tokens(info, made(session_len=session_len), 256)
    assert (error.value.tokens, error.value.limit) == (256, session_len)
    assert error.value.hint is not None
    assert "Raise session_len to 512" in error.value.hint
    check_image_tokens(info, made(session_len=512), 256)


def test_the_advice_counts_all_tiles_of_an_image(described: Described) -> None:
    with pytest.raises(PromptTooLongError) as error:
        check_image_tokens(described("internvl"), made(session_len=200), 7 * 256)
    assert error.value.hint is not None
    assert "Raise session_len to 2048" in error.value.hint


def test_images_of_any_size_are_left_to_each_request(described: Described) -> None:
    check_image_tokens(described("qwen2_vl"), made(session_len=1), 0)


@pytest.fixture
def supported() -> dict[str, str]:
    """LMDeploy's own table: a model's class and TurboMind's name for it."""
    tree = ast.parse((installed_folder() / "turbomind" / "supported_models.py").read_text("utf-8"))
    table = next(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUPPORTED_ARCHS"
    )
    assert isinstance(table, ast.Call)
    return {str(item.arg): ast.literal_eval(item.value) for item in table.keywords}


def test_the_architectures_are_all_those_with_images_that_lmdeploy_gives_turbomind(supported: dict[str, str]) -> None:
    assert set(PLACES) <= set(supported)
    left = {name for name in supported if name.endswith("ForConditionalGeneration")} - set(PLACES)
    assert left == set(PIPELINE_ARCHITECTURES)


def test_the_language_models_are_those_that_lmdeploy_gives_turbomind(supported: dict[str, str]) -> None:
    assert {name for name in supported if name.endswith("ForCausalLM")} == TEXT_MODELS
