from __future__ import annotations

import re

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


def series(stem: str, labels: str) -> list[str]:
    """Files of a model in several quantisations."""
    return [f"{stem}{label}.gguf" for label in labels.split()]


def shards(stem: str, count: int) -> list[str]:
    return [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


#: The GGUF files of repositories as their makers name them.
REPOSITORIES = {
    "ggml-org/gemma-3-4b-it-GGUF": [*series("gemma-3-4b-it-", "Q4_K_M Q8_0 f16"), "mmproj-model-f16.gguf"],
    "ggml-org/Qwen2.5-VL-7B-Instruct-GGUF": [
        *series("Qwen2.5-VL-7B-Instruct-", "Q4_K_M Q8_0 f16"),
        *series("mmproj-Qwen2.5-VL-7B-Instruct-", "Q8_0 f16"),
    ],
    "ggml-org/SmolVLM-256M-Instruct-GGUF": [
        *series("SmolVLM-256M-Instruct-", "Q8_0 f16"),
        *series("mmproj-SmolVLM-256M-Instruct-", "Q8_0 f16"),
    ],
    "ggml-org/gpt-oss-120b-GGUF": shards("gpt-oss-120b-mxfp4", 3),
    "unsloth/Seed-OSS-36B-Instruct-GGUF": [
        *shards("BF16/Seed-OSS-36B-Instruct-BF16", 2),
        *series("Seed-OSS-36B-Instruct-", "IQ4_NL IQ4_XS Q2_K Q3_K_M Q4_0 Q4_K_M Q4_K_S Q5_K_M Q6_K Q8_0"),
        *series("Seed-OSS-36B-Instruct-", "UD-IQ1_M UD-IQ2_M UD-Q2_K_XL UD-Q4_K_XL UD-Q5_K_XL UD-Q8_K_XL"),
    ],
    "unsloth/gemma-3-27b-it-GGUF": [
        *shards("BF16/gemma-3-27b-it-BF16", 2),
        *series("gemma-3-27b-it-", "IQ4_XS Q4_0 Q4_1 Q4_K_M Q5_K_M Q8_0 UD-IQ1_S UD-Q4_K_XL UD-Q8_K_XL"),
        *series("mmproj-", "BF16 F16 F32"),
    ],
    "unsloth/Qwen3-VL-235B-A22B-Instruct-GGUF": [
        *shards("BF16/Qwen3-VL-235B-A22B-Instruct-BF16", 10),
        *shards("Q4_K_M/Qwen3-VL-235B-A22B-Instruct-Q4_K_M", 3),
        *shards("Q8_0/Qwen3-VL-235B-A22B-Instruct-Q8_0", 6),
        *shards("UD-Q4_K_XL/Qwen3-VL-235B-A22B-Instruct-UD-Q4_K_XL", 3),
        *series("mmproj-", "BF16 F16 F32"),
    ],
    "bartowski/google_gemma-3-27b-it-GGUF": [
        *shards("google_gemma-3-27b-it-bf16/google_gemma-3-27b-it-bf16", 2),
        *series("google_gemma-3-27b-it-", "IQ2_M IQ4_XS Q4_0 Q4_K_L Q4_K_M Q4_K_S Q6_K_L Q8_0"),
        *series("mmproj-google_gemma-3-27b-it-", "bf16 f16"),
    ],
    "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF": [
        *series("Meta-Llama-3.1-70B-Instruct-", "IQ1_M IQ4_XS Q2_K_L Q4_0_4_4 Q4_K_L Q4_K_M Q5_K_S"),
        *shards("Meta-Llama-3.1-70B-Instruct-Q6_K_L/Meta-Llama-3.1-70B-Instruct-Q6_K_L", 2),
        *shards("Meta-Llama-3.1-70B-Instruct-Q8_0/Meta-Llama-3.1-70B-Instruct-Q8_0", 2),
    ],
    "lmstudio-community/Qwen2.5-VL-7B-Instruct-GGUF": [
        *series("Qwen2.5-VL-7B-Instruct-", "Q3_K_L Q4_K_M Q6_K Q8_0"),
        "mmproj-model-f16.gguf",
    ],
    "Qwen/Qwen2.5-7B-Instruct-GGUF": [
        *shards("qwen2.5-7b-instruct-fp16", 4),
        "qwen2.5-7b-instruct-q2_k.gguf",
        *shards("qwen2.5-7b-instruct-q4_k_m", 2),
        *shards("qwen2.5-7b-instruct-q8_0", 3),
    ],
    "microsoft/Phi-3-mini-4k-instruct-gguf": series("Phi-3-mini-4k-instruct-", "fp16 q4"),
    "TheBloke/Llama-2-7B-GGUF": series("llama-2-7b.", "Q2_K Q3_K_M Q4_0 Q4_K_M Q5_0 Q8_0"),
    "mradermacher/Model-7B-i1-GGUF": series("Model-7B.i1-", "IQ1_M IQ4_XS Q4_0 Q4_K_M Q6_K"),
}


@pytest.mark.parametrize(
    ("repository", "wanted", "model", "projector"),
    [
        ("ggml-org/gemma-3-4b-it-GGUF", None, "gemma-3-4b-it-Q4_K_M.gguf", "mmproj-model-f16.gguf"),
        ("ggml-org/gemma-3-4b-it-GGUF", "F16", "gemma-3-4b-it-f16.gguf", "mmproj-model-f16.gguf"),
        (
            "ggml-org/Qwen2.5-VL-7B-Instruct-GGUF",
            None,
            "Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf",
            "mmproj-Qwen2.5-VL-7B-Instruct-f16.gguf",
        ),
        (
            "ggml-org/SmolVLM-256M-Instruct-GGUF",
            None,
            "SmolVLM-256M-Instruct-Q8_0.gguf",
            "mmproj-SmolVLM-256M-Instruct-f16.gguf",
        ),
        ("ggml-org/gpt-oss-120b-GGUF", None, "gpt-oss-120b-mxfp4-00001-of-00003.gguf", None),
        ("ggml-org/gpt-oss-120b-GGUF", "MXFP4", "gpt-oss-120b-mxfp4-00001-of-00003.gguf", None),
        ("unsloth/Seed-OSS-36B-Instruct-GGUF", None, "Seed-OSS-36B-Instruct-Q4_K_M.gguf", None),
        ("unsloth/Seed-OSS-36B-Instruct-GGUF", "Q5_K_XL", "Seed-OSS-36B-Instruct-UD-Q5_K_XL.gguf", None),
        ("unsloth/Seed-OSS-36B-Instruct-GGUF", "IQ4_NL", "Seed-OSS-36B-Instruct-IQ4_NL.gguf", None),
        (
            "unsloth/Seed-OSS-36B-Instruct-GGUF",
            "BF16",
            "BF16/Seed-OSS-36B-Instruct-BF16-00001-of-00002.gguf",
            None,
        ),
        ("unsloth/gemma-3-27b-it-GGUF", "UD-Q4_K_XL", "gemma-3-27b-it-UD-Q4_K_XL.gguf", "mmproj-F16.gguf"),
        ("unsloth/gemma-3-27b-it-GGUF", "bf16", "BF16/gemma-3-27b-it-BF16-00001-of-00002.gguf", "mmproj-F16.gguf"),
        (
            "unsloth/Qwen3-VL-235B-A22B-Instruct-GGUF",
            None,
            "Q4_K_M/Qwen3-VL-235B-A22B-Instruct-Q4_K_M-00001-of-00003.gguf",
            "mmproj-F16.gguf",
        ),
        (
            "unsloth/Qwen3-VL-235B-A22B-Instruct-GGUF",
            "UD-Q4_K_XL",
            "UD-Q4_K_XL/Qwen3-VL-235B-A22B-Instruct-UD-Q4_K_XL-00001-of-00003.gguf",
            "mmproj-F16.gguf",
        ),
        (
            "bartowski/google_gemma-3-27b-it-GGUF",
            "Q6_K_L",
            "google_gemma-3-27b-it-Q6_K_L.gguf",
            "mmproj-google_gemma-3-27b-it-f16.gguf",
        ),
        (
            "bartowski/google_gemma-3-27b-it-GGUF",
            "bf16",
            "google_gemma-3-27b-it-bf16/google_gemma-3-27b-it-bf16-00001-of-00002.gguf",
            "mmproj-google_gemma-3-27b-it-f16.gguf",
        ),
        (
            "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF",
            "Q8_0",
            "Meta-Llama-3.1-70B-Instruct-Q8_0/Meta-Llama-3.1-70B-Instruct-Q8_0-00001-of-00002.gguf",
            None,
        ),
        (
            "lmstudio-community/Qwen2.5-VL-7B-Instruct-GGUF",
            "Q6_K",
            "Qwen2.5-VL-7B-Instruct-Q6_K.gguf",
            "mmproj-model-f16.gguf",
        ),
        ("Qwen/Qwen2.5-7B-Instruct-GGUF", None, "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", None),
        ("microsoft/Phi-3-mini-4k-instruct-gguf", None, "Phi-3-mini-4k-instruct-fp16.gguf", None),
        ("microsoft/Phi-3-mini-4k-instruct-gguf", "Q4", "Phi-3-mini-4k-instruct-q4.gguf", None),
        ("TheBloke/Llama-2-7B-GGUF", None, "llama-2-7b.Q4_K_M.gguf", None),
        ("mradermacher/Model-7B-i1-GGUF", "Q4_K_M", "Model-7B.i1-Q4_K_M.gguf", None),
    ],
)
def test_of_well_known_repositories_the_model_is_the_one_that_llama_cpp_takes(
    repository: str, wanted: str | None, model: str, projector: str | None
) -> None:
    names = REPOSITORIES[repository]
    assert choose_model(names, wanted) == model
    assert choose_projector(model, names) == projector
    # llama.cpp's -hf: the first file whose path has the tag followed by a dot or a hyphen, of a split model its first
    # part; without a tag Q4_K_M, then Q8_0, then any.
    firsts = [name for name in sorted(names) if "mmproj" not in name and parts(name)[0] == name]
    tags = ("Q4_K_M", "Q8_0", ".") if wanted is None else (wanted,)
    found = [name for tag in tags for name in firsts if re.search(f"{tag}[.-]", name, re.IGNORECASE) or tag == "."]
    assert found[0] == model


def test_f16_does_not_stand_for_bf16() -> None:
    # llama.cpp's -hf takes the first file with "F16." or "F16-" in its path.
    names = ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf", "m-F16.gguf"]
    assert choose_model(names, "F16") == "m-F16.gguf"
