"""LMDeploy's own configuration objects, made with the real classes of the installed 0.18."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType
from typing import Any

import pytest

from fastinfer.engines.turbomind import configs
from fastinfer.engines.turbomind.configs import engine_config, generation_config, vision_config
from fastinfer.engines.turbomind.flags import FLAGS, FURTHER_FIELDS
from fastinfer.engines.turbomind.settings import EngineSettings, effective_settings
from fastinfer.errors import EngineUnavailableError
from fastinfer.preset_library import TurbomindClassifyParameters, preset
from lmdeploy_classes import real_classes

#: No value is the default of LMDeploy's class, so that one that did not arrive would show.
UNUSUAL = EngineSettings(
    dtype="float16",
    model_format="awq",
    tp=2,
    devices=(3, 1),
    session_len=999,
    max_batch_size=3,
    in_flight=5,
    slots=7,
    cache_max_entry_count=0.25,
    cache_block_seq_len=192,
    quant_policy=8,
    max_prefill_token_num=555,
    enable_prefix_caching=True,
    cache_prompt="all",
    log_level="INFO",
    vision_max_batch_size=5,
    request_limit=111,
)
NOT_LMDEPLOYS = {"log_level", "vision_max_batch_size", "request_limit", "max_batch_size", "in_flight", "slots"}


@pytest.fixture(autouse=True)
def lmdeploy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The real classes, which need no torch."""
    classes = real_classes()
    monkeypatch.setattr(configs, "import_lmdeploy", lambda: classes)
    return classes


def set_fields(config: Any) -> set[str]:
    """The fields that differ from a configuration that was given nothing."""
    return {name for name, value in vars(config).items() if value != getattr(type(config)(), name, None)}


def test_every_setting_arrives_in_the_engines_configuration() -> None:
    made = engine_config(UNUSUAL)
    expected = {name: value for name, value in dataclasses.asdict(UNUSUAL).items() if name not in NOT_LMDEPLOYS}
    assert {name: getattr(made, name) for name in expected} == {**expected, "devices": [3, 1]}
    assert made.max_batch_size == 7
    assert made.enable_metrics is False
    assert vision_config(UNUSUAL).max_batch_size == 5


def test_the_configuration_is_set_in_exactly_the_fields_that_the_tables_name() -> None:
    named = {flag.target for flag in FLAGS if flag.goes_to == "engine"} | {item.target for item in FURTHER_FIELDS}
    assert set_fields(engine_config(UNUSUAL)) == named
    assert set_fields(vision_config(UNUSUAL)) == {flag.target for flag in FLAGS if flag.goes_to == "vision"}


def test_the_prod_preset_is_configured_as_documented() -> None:
    parameters = preset("prod", kind="classify").parameters
    assert isinstance(parameters, TurbomindClassifyParameters)
    made = engine_config(effective_settings(parameters, None, devices=(0,))[0])
    documented = {"max_batch_size": 256, "cache_max_entry_count": 0.2, "cache_block_seq_len": 64, "quant_policy": 4}
    derived = {"session_len": 32_768, "max_prefill_token_num": 8192, "model_format": None, "devices": [0], "tp": 1}
    assert {name: getattr(made, name) for name in documented} == documented
    assert {name: getattr(made, name) for name in derived} == derived


def test_a_configuration_holds_no_field_that_lmdeploy_does_not_have(lmdeploy: ModuleType) -> None:
    made = (engine_config(UNUSUAL), vision_config(UNUSUAL), generation_config(max_new_tokens=1, read_logits=True))
    for config in made:
        assert set(vars(config)) <= {field.name for field in dataclasses.fields(type(config))}


def test_a_field_that_lmdeploy_does_not_have_is_an_error_that_names_it(lmdeploy: ModuleType) -> None:
    @dataclasses.dataclass
    class Older:
        max_images: int = 1

    lmdeploy_older = ModuleType("lmdeploy")
    lmdeploy_older.__dict__.update(vars(lmdeploy), VisionConfig=Older, __version__="0.18.9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "import_lmdeploy", lambda: lmdeploy_older)
        with pytest.raises(EngineUnavailableError, match=r"VisionConfig of LMDeploy 0\.18\.9 has no field max_batch_s"):
            vision_config(UNUSUAL)
        del lmdeploy_older.__dict__["VisionConfig"]
        with pytest.raises(EngineUnavailableError, match=r"has no field max_batch_size\..*lmdeploy>=0\.18,<0\.19"):
            vision_config(UNUSUAL)


def test_lmdeploy_itself_would_accept_such_a_field_silently(lmdeploy: ModuleType) -> None:
    lmdeploy.TurbomindEngineConfig(no_such_field=1)


@pytest.mark.parametrize(("read_logits", "output"), [(True, "generation"), (False, None)])
def test_requests_to_the_pipeline_take_the_likeliest_token(read_logits: bool, output: str | None) -> None:
    made = generation_config(max_new_tokens=3, read_logits=read_logits)
    assert (made.max_new_tokens, made.do_sample) == (3, False)
    assert (made.ignore_eos, made.output_logits) == (read_logits, output)


def test_reading_the_classes_imports_neither_lmdeploy_nor_torch(run_python: Any) -> None:
    helpers = [path for path in sys.path if path.endswith("helpers")]
    code = f"""
import sys
sys.path += {helpers!r}
from lmdeploy_classes import real_classes
assert real_classes().TurbomindEngineConfig(tp=2).tp == 2
assert not {{"lmdeploy", "torch"}} & set(sys.modules)
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
