from __future__ import annotations

import pytest

from fastinfer.models.filenames import choose_model, choose_projector, models, parts, quantisation


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("model-Q4_K_M.gguf", "Q4_K_M"),
        ("folder/model.q8_0.gguf", "Q8_0"),
        ("Seed-OSS-36B-Instruct-UD-Q5_K_XL.gguf", "UD-Q5_K_XL"),
        ("Q2_K/model-Q2_K-00001-of-00002.gguf", "Q2_K"),
        ("model-BF16.GGUF", "BF16"),
        ("model-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("model-IQ3_XXS.gguf", "IQ3_XXS"),
        ("Q4.gguf", "Q4"),
        ("model.gguf", None),
        ("faq8.gguf", None),
        ("gemma-270m-it.gguf", None),
    ],
)
def test_the_quantisation_is_the_last_word_of_the_name(name: str, label: str | None) -> None:
    assert quantisation(name) == label


def test_parts_belong_together() -> None:
    all_three = tuple(f"x/m-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3))
    assert [parts(name) for name in all_three] == [all_three] * 3
    assert models(reversed(all_three)) == [all_three[0]]


@pytest.mark.parametrize("name", ["m.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-1-of-2.gguf", "m"])
def test_other_names_are_no_parts(name: str) -> None:
    assert parts(name) == (name,)


def test_what_is_no_model_is_left_out() -> None:
    names = ["b.gguf", "a-mmproj.gguf", "MMPROJ-x.gguf", "imatrix.gguf", "mtp-b.gguf", "README.md", "a.GGUF"]
    assert models(names) == ["a.GGUF", "b.gguf"]


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (["m-F16.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"], None, "m-Q4_K_M.gguf"),
        (["m-F16.gguf", "m-Q8_0.gguf"], None, "m-Q8_0.gguf"),
        (["m-Q6_K.gguf", "m-F16.gguf"], None, "m-F16.gguf"),
        (["other.gguf"], None, "other.gguf"),
        (["mmproj-F16.gguf"], None, None),
        ([], None, None),
        (["m-F16.gguf", "m-q6_k.gguf"], "Q6_K", "m-q6_k.gguf"),
        (["m-F16.gguf", "m-Q6_K.gguf"], "q6_k", "m-Q6_K.gguf"),
        (["m-BF16.gguf", "m-F16.gguf"], "f16", "m-F16.gguf"),
        (["m-BF16.gguf"], "f16", None),
        (["m-Q4_K_M.gguf"], "Q4_K", None),
        (["m-IQ4_XS.gguf"], "Q4_XS", None),
        (["m-UD-Q5_K_XL.gguf", "m-Q5_K_M.gguf"], "Q5_K_XL", "m-UD-Q5_K_XL.gguf"),
        (["m-UD-Q5_K_XL.gguf", "m-Q5_K_XL.gguf"], "Q5_K_XL", "m-Q5_K_XL.gguf"),
        (["m-UD-Q5_K_XL.gguf", "m-Q5_K_XL.gguf"], "UD-Q5_K_XL", "m-UD-Q5_K_XL.gguf"),
        (["m-Q8_0-v2.gguf", "m-Q4_0.gguf"], "Q8_0", "m-Q8_0-v2.gguf"),
        (["Q8_0/m.gguf", "Q4_0/m.gguf"], "q4_0", "Q4_0/m.gguf"),
        (
            ["Q8_0/m-Q8_0-00002-of-00002.gguf", "Q8_0/m-Q8_0-00001-of-00002.gguf"],
            "Q8_0",
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
        ),
        (["b-Q8_0.gguf", "a-Q8_0.gguf"], "Q8_0", "a-Q8_0.gguf"),
        (["m-Q8_0.gguf"], "Q8.0", None),
    ],
)
def test_choice_of_the_model(names: list[str], wanted: str | None, chosen: str | None) -> None:
    assert choose_model(names, wanted) == chosen
    assert choose_model(names[::-1], wanted) == chosen


@pytest.mark.parametrize(
    ("model", "names", "chosen"),
    [
        (
            "m-Q4_K_M.gguf",
            ["mmproj-F32.gguf", "mmproj-Q8_0.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"],
            "mmproj-F16.gguf",
        ),
        ("m-Q4_K_M.gguf", ["mmproj-F32.gguf", "mmproj-Q8_0.gguf", "mmproj-BF16.gguf"], "mmproj-BF16.gguf"),
        ("m-Q4_K_M.gguf", ["mmproj-F32.gguf", "mmproj-Q8_0.gguf"], "mmproj-Q8_0.gguf"),
        ("m-Q4_K_M.gguf", ["mmproj.gguf", "mmproj-F32.gguf"], "mmproj-F32.gguf"),
        ("m-Q8_0.gguf", ["mmproj-m-Q8_0.gguf", "mmproj-m-f16.gguf"], "mmproj-m-f16.gguf"),
        ("ab-Q8_0.gguf", ["a-mmproj-F16.gguf", "ab-mmproj-Q8_0.gguf"], "ab-mmproj-Q8_0.gguf"),
        ("llama-1-Q8_0.gguf", ["llama-10-mmproj-F16.gguf", "llama-1-mmproj-F32.gguf"], "llama-1-mmproj-F32.gguf"),
        ("m.gguf", ["mmproj-b.gguf", "mmproj-a.gguf"], "mmproj-a.gguf"),
        ("Q8_0/m-Q8_0.gguf", ["mmproj-F16.gguf", "Q8_0/mmproj-F32.gguf"], "Q8_0/mmproj-F32.gguf"),
        ("Q8_0/m-Q8_0.gguf", ["mmproj-F16.gguf", "other/mmproj-F32.gguf"], "mmproj-F16.gguf"),
        ("m.gguf", ["other/mmproj-F16.gguf", "mmproj.txt"], None),
        ("mmproj.gguf", ["mmproj.gguf"], None),
    ],
)
def test_choice_of_the_projector(model: str, names: list[str], chosen: str | None) -> None:
    assert choose_projector(model, names) == chosen
    assert choose_projector(model, names[::-1]) == chosen
