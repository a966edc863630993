"""The bare configuration of a preset for TurboMind: LMDeploy's own objects, for the model where that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastinfer.engines.turbomind import configs
from fastinfer.errors import ModelLoadError
from fastinfer.preset_library import Preset, preset, presets
from lmdeploy_classes import real_classes
from tiny_checkpoints import CONFIGS, write_checkpoint

PROD = preset("prod", kind="classify")
TURBOMIND = [p for p in presets("classify") if p.backend == "turbomind"]


@pytest.fixture(autouse=True)
def lmdeploy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real classes, which need no torch."""
    classes = real_classes()
    monkeypatch.setattr(configs, "import_lmdeploy", lambda: classes)
    return classes


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with a model whose attention heads are 64 wide, saved in 32 bits."""
    published = CONFIGS["internvl"]
    text = {**published["text_config"], "num_attention_heads": 56, "torch_dtype": "float32"}
    return write_checkpoint(tmp_path / "model", {**published, "text_config": text})


@pytest.mark.parametrize("each", TURBOMIND, ids=lambda each: each.name)
def test_a_preset_is_lmdeploys_own_two_objects(each: Preset, lmdeploy: Any) -> None:
    config, vision = each.build()
    assert type(config) is lmdeploy.TurbomindEngineConfig
    assert type(vision) is lmdeploy.VisionConfig
    assert config.quant_policy == each.quant_policy
    assert (config.cache_max_entry_count, config.cache_block_seq_len, config.max_batch_size) == (0.2, 64, 256)
    assert (config.session_len, config.max_prefill_token_num) == (32_768, 8192)
    assert (config.dtype, config.devices, config.tp, config.enable_metrics) == ("auto", [0], 1, False)
    assert vision.max_batch_size == 32


def test_a_model_of_the_hub_is_not_fetched_for_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("looked for the model")

    monkeypatch.setattr("fastinfer.models.resolve_checkpoint", fetch)
    PROD.build()
    PROD.build(model="org/repo@main")


def test_a_model_that_is_a_folder_decides_what_depends_on_it(checkpoint: Path) -> None:
    config, _ = PROD.build(model=checkpoint)
    assert (config.quant_policy, config.dtype) == (8, "bfloat16")
    config, _ = preset("prod-exact").replace(dtype="float16").build(model=str(checkpoint))
    assert (config.quant_policy, config.dtype) == (0, "float16")


def test_the_model_named_by_the_environment_decides_it_too(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINFER_CLASSIFY_MODEL", str(checkpoint))
    assert PROD.build()[0].quant_policy == 8


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        PROD.build(model=tmp_path / "empty")


def test_several_replicas_have_the_configuration_of_the_first() -> None:
    config, _ = PROD.replace(devices=[2, 3, 0, 1], tp=2).build()
    assert (config.devices, config.tp) == ([2, 3], 2)


def test_without_lmdeploy_the_error_says_what_to_install(run_python: Any) -> None:
    code = """
import sys, fastinfer
sys.modules["torch"] = None
try:
    fastinfer.preset("prod", kind="classify").build()
except fastinfer.errors.EngineUnavailableError as error:
    print(error)
"""
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "it needs torch, which is not there. Install it with all it needs: pip install" in done.stdout
