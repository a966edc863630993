from __future__ import annotations

import os
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinfer.models
from examples import examples
from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models import GgufTensor, check_gguf

Make = Callable[..., bytes]
EMBEDDED = sorted((Path(fastinfer.models.__file__).parent / "embedded").glob("*.gguf"))
F32, Q8_0 = 0, 8
UNKNOWN = ("n", (8,), 99, 0)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf") / "file.gguf"


@pytest.fixture(scope="session")
def check(scratch: Path) -> Callable[[bytes], fastinfer.models.GgufHeader]:
    def write_and_check(data: bytes) -> fastinfer.models.GgufHeader:
        scratch.write_bytes(data)
        return check_gguf(scratch)

    return write_and_check


def fault(check: Callable[[bytes], object], data: bytes) -> str:
    with pytest.raises(ModelLoadError) as caught:
        check(data)
    assert "file.gguf: " in str(caught.value)
    return str(caught.value)


def test_what_a_header_says(check: Callable[..., fastinfer.models.GgufHeader], gguf: Make, scratch: Path) -> None:
    data = gguf(metadata={"general.name": "Ä", "llama.rope": 0.5, "llama.flag": True, "n": 7, "long": "x" * (1 << 21)})
    header = check(data)
    assert (header.path, header.size, header.version) == (scratch, len(data), 3)
    assert (header.architecture, header.kind, header.tensor_count) == ("llama", "model", 3)
    assert header.metadata == {
        "general.architecture": "llama",
        "general.name": "Ä",
        "llama.rope": 0.5,
        "llama.flag": True,
        "n": 7,
    }
    assert header.array_lengths == {"tokenizer.ggml.tokens": 3, "llama.sizes": 3}
    assert header.tensors[1] == GgufTensor("b", (32, 2), "Q8_0", 128, 68)
    assert header.data_offset == len(data) - 240


@pytest.mark.parametrize("version", [2, 3])
def test_versions_that_are_read(check: Callable[..., fastinfer.models.GgufHeader], gguf: Make, version: int) -> None:
    assert check(gguf(version=version)).version == version


def test_kinds(check: Callable[..., fastinfer.models.GgufHeader], gguf: Make) -> None:
    assert check(gguf("clip")).kind == "mmproj"
    assert check(gguf("other", metadata={"general.type": "mmproj"})).kind == "mmproj"
    assert check(gguf(None)).architecture is None


@pytest.mark.skipif(not EMBEDDED, reason="the package was checked out without its model")
@pytest.mark.parametrize("path", EMBEDDED, ids=lambda path: path.name)
def test_the_embedded_files(path: Path) -> None:
    header = check_gguf(str(path))
    assert header.kind == ("mmproj" if "mmproj" in path.name else "model")
    assert header.tensor_count > 10
    last = header.tensors[-1]
    assert header.data_offset + last.offset + (last.size or 0) <= header.size


@pytest.mark.skipif(not EMBEDDED, reason="the package was checked out without its model")
@pytest.mark.parametrize("part", [0.0, 0.0001, 0.001, 0.01, 0.03, 0.2, 0.5, 0.9, 0.999])
def test_the_embedded_files_cut_short(check: Callable[..., object], part: float) -> None:
    for path in EMBEDDED:
        data = path.read_bytes()
        fault(check, data[: int(len(data) * part)])


def test_a_file_cut_short_anywhere(check: Callable[..., object], model: bytes) -> None:
    for length in range(len(model)):
        message = fault(check, model[:length])
        if length > 3:
            assert "the file ends at byte" in message or "but the file at byte" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html><html>", "it is a web page"),
        (b"version 1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(50), "ZIP archive or PyTorch"),
        (struct.pack("<Q", 99) + b'{"a": 1}', "safetensors"),
        (b"tjgg" + bytes(50), "before GGUF"),
        (b'{"error": "no"}', "JSON"),
        (b"\0" * 100, "begins with b'\\x00\\x00\\x00\\x00'"),
        (b"GGU", "begins with b'GGU'"),
    ],
)
def test_other_files(check: Callable[..., object], data: bytes, words: str) -> None:
    assert words in fault(check, data)


def raw(key: str, code: int, body: bytes = b"") -> dict[str, object]:
    return {key: struct.pack("<I", code) + body}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"version": 1}, "version 1"),
        ({"version": 4}, "version 4"),
        ({"version": 0}, "version 0"),
        ({"version": 3 << 24}, "big-endian"),
        ({"metadata": {"": 1}}, "empty"),
        ({"metadata": {"k" * 65536: 1}}, "too long"),
        ({"metadata": raw("k", 13)}, "unknown type 13"),
        ({"metadata": raw("k", 9, struct.pack("<IQ", 9, 1))}, "elements of the unknown type 9"),
        ({"metadata": raw("k", 9, struct.pack("<IQ", 8, 1 << 62))}, "within the value of 'k'"),
        ({"metadata": raw("k", 9, struct.pack("<IQ", 12, 1 << 61))}, "within the value of 'k'"),
        ({"metadata": raw("k", 8, struct.pack("<Q", (1 << 64) - 1))}, "within the value of 'k'"),
        ({"architecture": 5}, "general.architecture is not a text"),
        ({"metadata": {"general.alignment": 48}}, "alignment 48"),
        ({"metadata": {"general.alignment": 0}}, "alignment 0"),
        ({"metadata": {"general.alignment": "32"}}, "alignment '32'"),
        ({"metadata": raw("general.alignment", 10, struct.pack("<Q", 32))}, "not an unsigned 32-bit number"),
        ({"tensors": [("n" * 64, (1,), F32, 0)]}, "too long"),
        ({"tensors": [("n", (1,), F32, 0), ("n", (1,), F32, 32)]}, "given twice"),
        ({"tensors": [("n", (1, 1, 1, 1, 1), F32, 0)]}, "5 dimensions"),
        ({"tensors": [("n", (1 << 32, 1 << 32), F32, 0)]}, "impossible shape"),
        ({"tensors": [("n", (0, 1 << 63), F32, 0)]}, "impossible shape"),
        ({"tensors": [("n", (33,), Q8_0, 0)]}, "no multiple of 32"),
        ({"tensors": [("n", (8,), F32, 16)]}, "not where it has to be"),
        ({"tensors": [("n", (8,), F32, 32)]}, "not where it has to be"),
        ({"tensors": [("n", (8,), F32, 0), ("o", (8,), F32, 0)]}, "not where it has to be"),
        ({"tensors": [("n", (80,), F32, 0)]}, "incomplete: tensor 'n'"),
        ({"tensors": [("n", (1 << 60,), F32, 0)]}, "incomplete: tensor 'n'"),
        ({"tensors": [UNKNOWN, ("o", (8,), F32, 1 << 60)]}, "incomplete: tensor 'o'"),
        ({"tensors": [UNKNOWN, ("o", (8,), 99, 64), ("p", (8,), F32, 32)]}, "'p' is not where it has to be"),
        ({"tensors": [UNKNOWN, ("o", (8,), F32, 64), ("p", (8,), F32, 64)]}, "'p' is not where it has to be"),
        ({"tensors": [UNKNOWN, ("o", (8,), F32, 64), ("p", (8,), F32, 128)]}, "'p' is not where it has to be"),
    ],
)
def test_files_that_contradict_themselves(
    check: Callable[..., object], gguf: Make, parts: dict[str, object], words: str
) -> None:
    assert words in fault(check, gguf(**parts))


def test_a_key_given_twice(check: Callable[..., object], gguf: Make) -> None:
    assert "given twice" in fault(check, gguf(metadata={"ab": 1, "cd": 1}).replace(b"cd", b"ab"))


def test_a_number_format_not_known_here_is_no_fault(
    check: Callable[..., fastinfer.models.GgufHeader], gguf: Make
) -> None:
    header = check(gguf(tensors=[("n", (8,), 99, 0), ("o", (8,), F32, 64), ("p", (), F32, 96), ("q", (0,), F32, 128)]))
    assert [(tensor.type, tensor.size) for tensor in header.tensors] == [
        ("type 99", None),
        ("F32", 32),
        ("F32", 4),
        ("F32", 0),
    ]


def test_alignment_of_the_file(check: Callable[..., fastinfer.models.GgufHeader], gguf: Make) -> None:
    tensors = [("n", (1,), F32, 0), ("o", (1,), F32, 256)]
    header = check(gguf(metadata={"general.alignment": 256}, tensors=tensors, data=260, alignment=256))
    assert header.data_offset % 256 == 0


def test_text_that_is_not_utf8_is_no_fault(check: Callable[..., fastinfer.models.GgufHeader], gguf: Make) -> None:
    header = check(gguf(metadata={"general.name": struct.pack("<IQ", 8, 2) + b"\xff\xfe"}))
    assert header.metadata["general.name"] == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("tensors", "pairs", "rest"),
    [
        (1 << 63, 0, b""),
        (1 << 17, 0, b""),
        (0, 1 << 63, b""),
        (1 << 16, 0, b""),
        (0, 1 << 16, b""),
        (0, 1, struct.pack("<Q", 1 << 33)),
        (0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 1 << 25)),
        (0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 1 << 62)),
        (0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 12, 1 << 29)),
        (0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 0, 1 << 33)),
        (0, 1, struct.pack("<Q1sIQ", 1, b"k", 8, 1 << 33)),
    ],
)
def test_huge_numbers_in_a_huge_file_take_no_time_and_no_memory(
    scratch: Path, tensors: int, pairs: int, rest: bytes
) -> None:
    scratch.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + rest)
    os.truncate(scratch, 1 << 34)
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ModelLoadError):
            check_gguf(scratch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        os.truncate(scratch, 0)
    assert peak < 4_000_000
    assert time.perf_counter() - started < 5


def test_much_text_is_refused(scratch: Path) -> None:
    with scratch.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 100))
        for number in range(100):
            file.write(struct.pack("<Q2sIQ", 2, b"%02d" % number, 8, 1 << 20) + bytes(1 << 20))
    with pytest.raises(ModelLoadError, match="names and texts in its header"):
        check_gguf(scratch)


def outcome(check: Callable[[bytes], object], data: bytes) -> object:
    """The header, or None after a ModelLoadError; anything else passes through and fails the test."""
    try:
        return check(data)
    except ModelLoadError:
        return None


@settings(max_examples=examples(300), deadline=2000)
@given(data=st.data())
def test_changed_bytes_give_a_header_or_the_one_error(
    check: Callable[[bytes], object], model: bytes, data: st.DataObject
) -> None:
    changed = bytearray(model)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(model) - 1))
        new = data.draw(st.binary(min_size=1, max_size=8))
        changed[at : at + len(new)] = new
    outcome(check, bytes(changed))


@settings(max_examples=examples(200), deadline=2000)
@given(rest=st.binary(max_size=200), tensors=st.integers(0, 3), pairs=st.integers(0, 3))
def test_random_bytes_give_a_header_or_the_one_error(
    check: Callable[[bytes], object], rest: bytes, tensors: int, pairs: int
) -> None:
    outcome(check, b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + rest)
    outcome(check, rest)


def test_each_byte_changed(check: Callable[[bytes], object], model: bytes) -> None:
    for at in range(len(model)):
        for value in (0x00, 0x80, 0xFF):
            outcome(check, model[:at] + bytes([value]) + model[at + 1 :])


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="not a file"):
        check_gguf(tmp_path)
    for missing in (tmp_path / "a.gguf", tmp_path / "a\0b.gguf"):
        with pytest.raises(ModelNotFoundError, match="no such file") as caught:
            check_gguf(missing)
        assert caught.value.__cause__ is not None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelLoadError, match="not a file"):
        check_gguf(tmp_path / "pipe.gguf")
