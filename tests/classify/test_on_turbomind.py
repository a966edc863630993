"""Opening a model on TurboMind: what cannot run is refused early, in an order that wastes nobody's time.

No GPU is needed. Where a later check is the subject, the functions that ask for the driver and for LMDeploy answer as
on a machine that has both; no engine is ever reached.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.engines.turbomind import gpus as gpus_module
from fastinfer.engines.turbomind import importing, opening
from fastinfer.engines.turbomind.gpus import Gpu, gpus
from fastinfer.errors import EngineUnavailableError, ModelLoadError, ModelNotFoundError, PresetError, PromptTooLongError
from tiny_checkpoints import CONFIGS, PROCESSORS, write_checkpoint

pytestmark = pytest.mark.usefixtures("bare_account")

THREE = tuple(Gpu(index, "NVIDIA H200", 150_754_820_096, (9, 0)) for index in range(3))


def has_gpu() -> bool:
    try:
        return bool(gpus())
    except EngineUnavailableError:
        return False


no_gpu = pytest.mark.skipif(has_gpu(), reason="there is an NVIDIA GPU")


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver says that there are three GPUs."""
    monkeypatch.setattr(gpus_module, "gpus", lambda: THREE)


@pytest.fixture
def ready(three_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And LMDeploy can be imported, until the engine is opened."""
    monkeypatch.setattr(importing, "import_lmdeploy", lambda: None)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """``folder(name, **changes)``: a checkpoint with the published config.json of that name."""

    def write(name: str = "internvl", **changes: Any) -> Path:
        processor = PROCESSORS.get(name, PROCESSORS["qwen2_vl"])
        return write_checkpoint(tmp_path / name, {**CONFIGS[name], **changes}, preprocessor_config=processor)

    return write


@no_gpu
@pytest.mark.parametrize("options", [{}, {"model": "nobody/nothing"}, {"labels": ["cat", "dog"]}, {"devices": [7]}])
def test_without_a_gpu_it_says_so_before_anything_else(options: dict[str, Any]) -> None:
    with pytest.raises(EngineUnavailableError, match="NVIDIA") as error:
        fastinfer.classifier("prod", **options)
    assert error.value.hint


@no_gpu
def test_without_a_gpu_no_large_library_is_loaded_to_say_so(run_python: Callable[..., Any]) -> None:
    code = """
import sys, fastinfer
try:
    fastinfer.classifier("prod", model="nobody/nothing")
except fastinfer.errors.EngineUnavailableError:
    pass
loaded = {"torch", "transformers", "lmdeploy", "huggingface_hub", "llama_cpp"} & set(sys.modules)
assert not loaded, loaded
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.usefixtures("three_gpus")
def test_without_lmdeploy_it_says_so_before_a_model_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdeploy", None)
    with pytest.raises(EngineUnavailableError, match="LMDeploy") as error:
        fastinfer.classifier("prod", model="/no/such/folder")
    assert isinstance(error.value.__cause__, ImportError)
    assert error.value.hint is not None
    assert "pip install" in error.value.hint


@pytest.mark.usefixtures("ready")
def test_a_folder_that_is_not_there_is_not_found() -> None:
    with pytest.raises(ModelNotFoundError, match="/no/such/folder"):
        fastinfer.classifier("prod", model="/no/such/folder")


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("name", ["org/repo:Q4_K_M", "model.gguf", "embedded"])
def test_a_gguf_model_is_refused_with_the_preset_that_runs_it(name: str) -> None:
    with pytest.raises(ModelLoadError, match="in GGUF format; TurboMind reads") as error:
        fastinfer.classifier("prod", model=name)
    assert error.value.hint is not None
    assert "preset 'embedded'" in error.value.hint


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("architecture", ["LlavaForConditionalGeneration", "Qwen3VLForConditionalGeneration"])
def test_an_architecture_that_turbomind_lacks_is_refused_and_never_runs_on_a_slower_engine(
    architecture: str, folder: Callable[..., Path]
) -> None:
    with pytest.raises(EngineUnavailableError, match=f"{architecture}, which TurboMind does not run") as error:
        fastinfer.classifier("prod", model=folder(architectures=[architecture]))
    assert error.value.hint is not None
    assert "Qwen2_5_VLForConditionalGeneration" in error.value.hint


@pytest.mark.usefixtures("ready")
def test_a_model_of_text_only_is_refused(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "text", CONFIGS["internvl"]["text_config"])
    with pytest.raises(ModelLoadError, match="text is a Qwen2ForCausalLM without a vision encoder") as error:
        fastinfer.classifier("prod", model=model)
    assert error.value.hint


@pytest.mark.usefixtures("ready")
def test_a_models_own_code_is_run_only_when_asked_for(folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelLoadError, match="Python code of its own"):
        fastinfer.classifier("prod", model=folder("internvl_chat"))


@pytest.mark.usefixtures("ready")
def test_a_gpu_that_is_not_there_is_named(folder: Callable[..., Path]) -> None:
    with pytest.raises(PresetError, match="no GPU 5 here") as error:
        fastinfer.classifier("prod", model=folder(), devices=[0, 5])
    assert error.value.hint is not None
    assert "2 (NVIDIA H200)" in error.value.hint
    with pytest.raises(PresetError, match="no GPU 3 here"):
        fastinfer.classifier("prod", model=folder(), tp=4)


@pytest.mark.usefixtures("ready")
def test_a_model_is_not_split_over_gpus_that_its_heads_do_not_divide_by(folder: Callable[..., Path]) -> None:
    with pytest.raises(PresetError, match="28 attention heads of internvl cannot be split over tp = 3"):
        fastinfer.classifier("prod", model=folder(), tp=3)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(("tiles", "enough"), [(1, 512), (6, 7 * 256 + 256)])
def test_a_session_that_no_image_fits_is_refused_with_a_length_for_all_its_tiles(
    tiles: int, enough: int, folder: Callable[..., Path]
) -> None:
    model = folder()
    with pytest.raises(PromptTooLongError, match="256 tokens") as error:
        fastinfer.classifier("prod", model=model, session_len=256, max_tiles=tiles)
    assert error.value.hint is not None
    assert f"Raise session_len to {enough};" in error.value.hint


@pytest.mark.usefixtures("ready")
def test_strict_refuses_every_value_that_the_engine_would_change(folder: Callable[..., Path]) -> None:
    with pytest.raises(PresetError) as error:
        fastinfer.classifier("prod", model=folder(), strict=True)
    for field in ("session_len", "max_prefill_token_num", "vision_max_batch_size", "image_tiles"):
        assert field in str(error.value)


@pytest.mark.usefixtures("ready")
def test_after_all_checks_lmdeploy_is_asked_for(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdeploy", None)
    for options in ({}, {"tp": 2}, {"devices": [2, 0]}, {"max_tiles": 6, "session_len": 4096}):
        with pytest.raises(EngineUnavailableError, match="LMDeploy"):
            fastinfer.classifier("prod", model=folder(), labels=["cat", "dog"], **options)


@no_gpu
@pytest.mark.usefixtures("ready")
def test_a_torch_that_cannot_use_the_gpu_is_refused(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(opening, "import_lmdeploy", lambda: None)
    with pytest.raises(EngineUnavailableError, match="cannot use the GPU that the driver sees") as error:
        fastinfer.classifier("prod", model=folder())
    assert torch.__version__ in error.value.message
    assert error.value.hint
