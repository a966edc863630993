from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.errors import ModelLoadError
from fastinfer.models import TensorPlace, describe_checkpoint, read_tensor
from fastinfer.models.safetensors import check_weight_files, read_header, weights_of
from tiny_checkpoints import CONFIGS, safetensors_file, write_checkpoint

TENSORS = {
    "a": ("BF16", (3, 5)),
    "b": ("F16", (2, 2)),
    "c": ("F32", (7,)),
    "d": ("I32", ()),
    "e": ("U8", (0, 4)),
}
SOUND = safetensors_file(TENSORS)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "model.safetensors"


def fault(file: Path, data: bytes) -> str:
    file.write_bytes(data)
    with pytest.raises(ModelLoadError) as caught:
        read_header(file)
    assert caught.value.message.startswith(f"{file}: not a usable safetensors file: ")
    assert caught.value.hint
    return caught.value.message


def with_header(text: str | bytes, data: bytes = b"") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw + data


def test_what_a_header_says(scratch: Path) -> None:
    scratch.write_bytes(SOUND)
    places = read_header(scratch)
    begin = len(SOUND) - 30 - 8 - 28 - 4
    assert places == {
        "a": TensorPlace(scratch, "a", "BF16", (3, 5), begin, 30),
        "b": TensorPlace(scratch, "b", "F16", (2, 2), begin + 30, 8),
        "c": TensorPlace(scratch, "c", "F32", (7,), begin + 38, 28),
        "d": TensorPlace(scratch, "d", "I32", (), begin + 66, 4),
        "e": TensorPlace(scratch, "e", "U8", (0, 4), len(SOUND), 0),
    }


def test_files_of_the_safetensors_library_are_read_as_it_reads_them(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    generator = np.random.default_rng(0)
    arrays = {
        "half": generator.standard_normal((4, 6)).astype(np.float16),
        "single": generator.standard_normal((5, 3)).astype(np.float32),
        "row": generator.standard_normal(11).astype(np.float32),
        "number": np.array(2.5, np.float16),
        "whole": generator.integers(0, 9, (2, 3)),
    }
    file = tmp_path / "model.safetensors"
    library.save_file(arrays, file, metadata={"format": "np"})
    places = read_header(file)
    assert set(places) == set(arrays)
    for name, array in arrays.items():
        assert places[name].shape == array.shape
        if name != "whole":
            read = read_tensor(places[name])
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)


def test_bfloat16_comes_as_its_bits(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    numbers = np.array([[0.0, 1.0, -2.5], [3.0, 0.5, -0.125]], np.float32)
    head = safetensors_file({"a": ("BF16", (2, 3))})[:-12]
    file.write_bytes(head + (numbers.view(np.uint32) >> 16).astype("<u2").tobytes())
    read = read_tensor(read_header(file)["a"])
    assert (read.dtype, read.shape, read.flags.writeable) == (np.uint16, (2, 3), False)
    np.testing.assert_array_equal((read.astype(np.uint32) << 16).view(np.float32), numbers)


def test_what_cannot_be_read_as_numbers(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors_file({"a": ("F8_E4M3", (4, 4)), "b": ("BF16", (4, 4))}))
    places = read_header(file)
    with pytest.raises(ModelLoadError, match="'a' is of the format F8_E4M3"):
        read_tensor(places["a"])
    for damage in (lambda: file.write_bytes(b"short"), file.unlink):
        damage()
        with pytest.raises(ModelLoadError, match=r"model\.safetensors: tensor 'b' cannot be read"):
            read_tensor(places["b"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\x08\0\0", "its header cannot be"),
        (struct.pack("<Q", 1 << 40) + b"{}", f"its header cannot be {1 << 40} bytes long"),
        (b"<!doctype html><html></html>", "its header cannot be"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n", "its header cannot be"),
        (with_header("{"), "no sound JSON"),
        (with_header(b'{"\xff": 1}'), "no sound JSON"),
        (with_header("[" * 100_000), "no sound JSON"),
        (with_header("[]"), "no JSON object"),
        (with_header('{"a": 1, "a": 2}'), "gives 'a' twice"),
        (SOUND[:-1], "the file at byte"),
        (SOUND + b"\0", "the file at byte"),
    ],
)
def test_a_file_that_is_none(scratch: Path, data: bytes, words: str) -> None:
    assert words in fault(scratch, data)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (None, "something else than format, shape and place"),
        ({"dtype": "BF16", "shape": [3, 5]}, "something else"),
        ({"dtype": 1, "shape": [3, 5], "data_offsets": [0, 30]}, "something else"),
        ({"dtype": "BF16", "shape": [3, 5], "data_offsets": [0, 30], "more": 1}, "something else"),
        ({"dtype": "BF16", "shape": [3, 5], "data_offsets": [0, 10, 30]}, "something else"),
        ({"dtype": "BF16", "shape": 15, "data_offsets": [0, 30]}, "something else"),
        ({"dtype": "BF16", "shape": [3, -5], "data_offsets": [0, 30]}, "impossible shape"),
        ({"dtype": "BF16", "shape": [3, 5.0], "data_offsets": [0, 30]}, "impossible shape"),
        ({"dtype": "BF16", "shape": [True, 15], "data_offsets": [0, 30]}, "impossible shape"),
        ({"dtype": "BF16", "shape": [1] * 65, "data_offsets": [0, 2]}, "impossible shape"),
        ({"dtype": "BF16", "shape": [3, 5], "data_offsets": [30, 0]}, "from byte 30 to byte 0"),
        ({"dtype": "BF16", "shape": [3, 5], "data_offsets": [-30, 0]}, "from byte -30"),
        ({"dtype": "BF16", "shape": [3, 5], "data_offsets": [False, 30]}, "from byte False"),
        ({"dtype": "BF16", "shape": [3, 6], "data_offsets": [0, 30]}, "of shape [3, 6] in BF16 does not take 30"),
        ({"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}, "does not take 1 bytes"),
        ({"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}, "'b' does not follow on another"),
        ({"dtype": "BF16", "shape": [3, 6], "data_offsets": [0, 36]}, "'b' overlaps another"),
        ({"dtype": "BF16", "shape": [0], "data_offsets": [9, 9]}, "does not follow"),
    ],
)
def test_a_header_that_lies(scratch: Path, entry: Any, words: str) -> None:
    message = fault(scratch, safetensors_file(TENSORS, a=entry))
    assert words in message


def test_a_format_of_the_future_is_taken_at_its_word(scratch: Path) -> None:
    data = safetensors_file(TENSORS, a={"dtype": "F99", "shape": [3, 5], "data_offsets": [0, 30]})
    scratch.write_bytes(data)
    assert read_header(scratch)["a"].dtype == "F99"


@settings(max_examples=examples(150), deadline=None)
@given(st.integers(0, len(SOUND)), st.binary(min_size=0, max_size=12), st.integers(0, 12))
def test_damage_anywhere_is_an_error_or_keeps_to_the_file(scratch: Path, at: int, put: bytes, cut: int) -> None:
    scratch.write_bytes(SOUND[:at] + put + SOUND[at + cut :])
    try:
        places = read_header(scratch)
    except ModelLoadError:
        return
    size = scratch.stat().st_size
    assert all(8 <= place.offset <= place.offset + place.nbytes <= size for place in places.values())


def write_shards(folder: Path, index: dict[str, str], files: dict[str, list[str]]) -> None:
    folder.mkdir(exist_ok=True)
    for name, tensors in files.items():
        (folder / name).write_bytes(safetensors_file(dict.fromkeys(tensors, ("BF16", (2,)))))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_the_index_says_where_each_tensor_is(tmp_path: Path) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    write_shards(tmp_path, {"a": first, "b": second}, {first: ["a"], second: ["b", "a"], "other.safetensors": ["c"]})
    assert check_weight_files(tmp_path) == (tmp_path / first, tmp_path / second)
    found = weights_of(tmp_path)
    assert {name: place.file.name for name, place in found.items()} == {"a": first, "b": second}
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["internvl"]))
    assert describe_checkpoint(tmp_path).weight_bytes == 8


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    write_shards(tmp_path, dict(zip("abc", names, strict=True)), dict(zip(names, "abc", strict=True)))
    assert len(weights_of(tmp_path)) == 3
    (tmp_path / names[1]).unlink()
    with pytest.raises(ModelLoadError, match=r"1 of the 3 files .* missing: model-00002-of-00003\.safetensors\."):
        check_weight_files(tmp_path)
    (tmp_path / names[2]).unlink()
    with pytest.raises(ModelLoadError, match=r"2 of the 3 files .* missing: .* and others"):
        check_weight_files(tmp_path)


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": "model.safetensors", "z": "model.safetensors"}, {"model.safetensors": ["a"]})
    with pytest.raises(ModelLoadError, match=r"model\.safetensors: has no tensor 'z'"):
        weights_of(tmp_path)


@pytest.mark.parametrize(
    "weight_map",
    [None, {}, [], {"a": 1}, {"a": "model.bin"}, {"a": "../model.safetensors"}, {"a": "C:\\m.safetensors"}],
)
def test_an_index_names_safetensors_files_of_its_own_folder(tmp_path: Path, weight_map: Any) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelLoadError, match=r"index\.json: weight_map"):
        check_weight_files(tmp_path)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "consolidated.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["model-b.safetensors", "model-a.safetensors"], ["model-a.safetensors", "model-b.safetensors"]),
        (["weights.safetensors", "training_args.bin"], ["weights.safetensors"]),
    ],
)
def test_without_an_index_the_files_are_chosen_by_name(tmp_path: Path, names: list[str], chosen: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert [file.name for file in check_weight_files(tmp_path)] == chosen


@pytest.mark.parametrize("names", [["pytorch_model.bin"], ["pytorch_model.bin", "extra.safetensors"], ["model.pth"]])
def test_weights_in_pytorchs_format_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ModelLoadError, match=rf"{names[0]}, are in PyTorch's format") as caught:
        check_weight_files(tmp_path)
    assert "save_pretrained" in str(caught.value)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="has no weights"):
        check_weight_files(tmp_path)


def test_a_damaged_shard_is_seen_before_native_code_sees_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, CONFIGS["internvl"])
    damages: list[Callable[[bytes], bytes]] = [lambda data: data[:-3], lambda data: b"GGUF" + data, lambda data: b""]
    for damage in damages:
        file = tmp_path / "model.safetensors"
        sound = file.read_bytes()
        file.write_bytes(damage(sound))
        with pytest.raises(ModelLoadError, match=r"model\.safetensors: not a usable safetensors file"):
            describe_checkpoint(tmp_path)
        file.write_bytes(sound)


@pytest.mark.parametrize("value", [b"{},", b"[],", b"0,", b'"",'])
def test_a_header_of_millions_of_values_is_refused_before_they_are_made(tmp_path: Path, value: bytes) -> None:
    header = b'{"__metadata__":[' + value * (30_000_000 // len(value)) + b"0]}"
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    begun = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ModelLoadError, match="more than 2097152 values"):
            read_header(tmp_path / "a.safetensors")
        assert tracemalloc.get_traced_memory()[1] < 2 * len(header) + 4_000_000
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begun < 5


def test_a_configuration_of_millions_of_values_is_refused_before_they_are_made(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", CONFIGS["qwen2_vl"])
    (folder / "config.json").write_bytes(b'{"architectures":[' + b"{}," * 5_000_000 + b"0]}")
    with pytest.raises(ModelLoadError, match=r"config\.json: over 2097152 values"):
        describe_checkpoint(folder)
