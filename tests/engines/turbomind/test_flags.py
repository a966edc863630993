"""Each documented option of LMDeploy's server is accounted for, checked against LMDeploy 0.18 itself."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import pytest

from fastinfer.engines.turbomind.flags import FLAGS, FURTHER_FIELDS, Flag
from fastinfer.preset_library import field_docs
from lmdeploy_classes import installed_folder, real_classes

DOCS = field_docs("classify", "turbomind")
TARGET_CLASSES = {"engine": "TurbomindEngineConfig", "vision": "VisionConfig"}


def test_no_option_is_listed_twice() -> None:
    assert max(Counter(flag.flag for flag in FLAGS).values()) == 1


def test_every_option_that_a_field_of_the_preset_documents_is_accounted_for() -> None:
    documented = {
        option: name for name, doc in DOCS.items() for option in re.findall(r"--[a-z-]+|model_path", doc.flag)
    }
    listed = {flag.flag: flag.field for flag in FLAGS}
    assert documented.items() <= listed.items()


@pytest.mark.parametrize(
    "option", ["--disable-fastapi-docs", "--server-name", "--server-port", "--api-keys", "--max-concurrent-requests"]
)
def test_every_documented_option_that_is_no_engine_field_is_accounted_for(option: str) -> None:
    (flag,) = [flag for flag in FLAGS if flag.flag == option]
    assert flag.goes_to in ("fastinfer", "none")


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.flag)
def test_an_option_goes_somewhere_or_says_why_not(flag: Flag) -> None:
    assert flag.why.endswith(".")
    assert (flag.target == "") == (flag.goes_to == "none")
    assert flag.field in {"", *DOCS}


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.flag)
def test_an_option_is_one_of_lmdeploys_server(flag: Flag) -> None:
    sources = "".join(
        (installed_folder() / "cli" / name).read_text(encoding="utf-8") for name in ("serve.py", "utils.py")
    )
    assert f"'{flag.flag}'" in sources


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.goes_to in TARGET_CLASSES], ids=lambda flag: flag.flag)
def test_an_options_target_is_a_real_field(flag: Flag) -> None:
    cls = getattr(real_classes(), TARGET_CLASSES[flag.goes_to])
    assert flag.target in {field.name for field in dataclasses.fields(cls)}


def test_further_fields_are_real_and_have_a_reason() -> None:
    real = {field.name for field in dataclasses.fields(real_classes().TurbomindEngineConfig)}
    assert {further.target for further in FURTHER_FIELDS} <= real
    assert all(further.value and further.why.endswith(".") for further in FURTHER_FIELDS)
