"""A fastinfer.toml: presets, each of which explains itself and can be written down again, or one error."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from fastinfer.errors import PresetError
from fastinfer.preset_library.files import KINDS, builtin_layer, names, read_layer
from fastinfer.preset_library.loader import preset_in
from fastinfer.preset_library.saving import preset_toml

__all__ = ["WORDS", "check", "seeds"]

WORDS = (
    *(b"[chat.a]\n", b"[classify.b]\n", b'extends = "prod"\n', b'extends = "a"\n', b'backend = "llama.cpp"\n'),
    *(b"n_ctx = 65536\n", b"devices = [0, 1]\n", b'prompt = "{labels} {image}"\n', b"temperature = nan\n", b"inf"),
    *(b"1979-05-27T07:32:00Z", b"0x7fffffffffffffff", b"1e400", b"'''", b'"""', b"\\u0000", b"\\ud800", b"[[chat]]"),
    *(b"{a = 1}", b"true", b"=", b".", b'"', b"\r\n", b"\xef\xbb\xbf", b"[" * 200),
)


def seeds() -> list[bytes]:
    """Files of presets that extend built-in ones, each other, and nothing."""
    return [
        b'[chat.mine]\nextends = "balanced"\nparallel = 2\nsummary = "Two at a time."\n',
        b'[chat.a]\nextends = "b"\nn_ctx = 65536\n[chat.b]\nextends = "prod"\ntemperature = 0.5\n',
        b'[classify.mine]\nextends = "prod"\nmax_batch_size = 64\ndevices = [0, 1]\ntp = 2\n',
        b'[classify.embedded]\nextends = "embedded"\nprompt = "One of {labels}: {image}"\n',
        b'chat = {a = {extends = "embedded", top_k = 7}}\n',
        b'[classify.whole]\nbackend = "llama.cpp"\nn_ctx = 2048\n',
    ]


@cache
def _place() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "fastinfer.toml"


def check(data: bytes) -> None:
    """A preset that is read can be explained, compared, written as TOML and read again as the same preset."""
    file = _place()
    file.write_bytes(data)
    try:
        layer = read_layer(file, str(file))
    except PresetError as error:
        assert str(file) in error.message
        return
    for kind in KINDS:
        for name in layer.tables.get(kind, {}):
            layers = [layer, builtin_layer()]
            assert name in names(layers, kind)
            try:
                preset = preset_in(layers, kind, name)
            except PresetError as error:
                assert str(file) in error.message
                continue
            assert preset.replace() == preset
            assert len(preset.explain().rows) >= len(preset.to_dict()["parameters"])
            if name:
                file.write_text(preset_toml(preset), encoding="utf-8")
                again = preset_in([read_layer(file, str(file)), builtin_layer()], kind, name)
                assert again.parameters == preset.parameters
                assert again.fingerprint == preset.fingerprint
