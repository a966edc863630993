"""Presets are saved whole or not at all, and what else is in the file stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastinfer
from fastinfer.errors import PresetError
from fastinfer.preset_library import preset, save_preset
from fastinfer.preset_library.saving import preset_toml

OLD = b"""# My presets, in an order of mine.

[chat.mine]   # for the office
extends = 'balanced'
n_ctx = 16_384  # enough

[classify.photos]
extends = "prod"
summary = '''
[chat.mine] is not here'''

# the end
[chat.other]
extends="low-latency"

"""


@pytest.fixture
def file() -> Path:
    path = Path("fastinfer.toml")
    path.write_bytes(OLD)
    return path


def test_a_preset_is_saved_in_the_working_directory_and_found_again() -> None:
    made = preset("balanced").replace(n_ctx=16384, parallel=4)
    path = made.save(name="mine")
    assert path == Path("fastinfer.toml").absolute()
    assert path.read_text("utf-8") == '[chat.mine]\nextends = "balanced"\nn_ctx = 16384\nparallel = 4\n'
    found = preset("mine")
    assert (found.parameters, found.source, found.summary) == (made.parameters, str(path), made.summary)
    assert found.documented == preset("balanced").parameters
    assert preset_toml(made, name="mine") == path.read_text("utf-8")


@pytest.mark.parametrize("known", fastinfer.presets(), ids=lambda known: f"{known.kind} {known.name}")
def test_every_built_in_preset_can_be_saved(known: Any) -> None:
    save_preset(known, "some.toml", name="a name.with dots and 'quotes'")
    known.replace(model="other").save()
    assert preset(known.name, known.kind).model == "other"


def test_a_preset_from_a_command_is_saved_with_all_its_fields() -> None:
    made = fastinfer.from_command("""llama-server -m "it's \\"mine\\".gguf" --temp 1e-5""", name="mine")
    made.save()
    found = preset("mine")
    assert (found.parameters, found.summary, found.command) == (made.parameters, made.summary, None)
    found.replace(n_ctx=512, n_batch=512).save(name="less")
    assert preset("less").n_ctx == 512


def test_a_new_preset_leaves_every_byte_as_it_is(file: Path) -> None:
    preset("prod", kind="classify").replace(devices=[0, 1]).save(name="mine")
    assert file.read_bytes() == OLD + b'\n[classify.mine]\nextends = "prod"\ndevices = [0, 1]\n'


def test_an_overwritten_preset_leaves_the_rest_and_its_comments(file: Path) -> None:
    preset("balanced").replace(n_ctx=8192, top_k=5).save(name="mine", overwrite=True)
    assert file.read_bytes() == OLD.replace(b"n_ctx = 16_384  # enough\n", b"n_ctx = 8192  # enough\ntop_k = 5\n")
    assert preset("mine").top_k == 5


def test_a_name_is_taken_over_only_when_asked(file: Path) -> None:
    with pytest.raises(PresetError, match="has a chat preset 'mine' already"):
        preset("balanced").save(name="mine")
    assert file.read_bytes() == OLD


def test_a_built_in_name_that_a_file_below_has_is_not_extended(tmp_path: Path, monkeypatch: Any) -> None:
    below = tmp_path / "below.toml"
    below.write_text('[chat.balanced]\nextends = "balanced"\ntop_k = 7\n', "utf-8")
    built_in = preset("balanced")
    monkeypatch.setenv("FASTINFER_PRESETS", str(below))
    built_in.replace(n_ctx=8192).save(name="mine")
    assert preset("mine").top_k == built_in.top_k
    assert preset("mine").n_ctx == 8192


@pytest.mark.parametrize(
    "old",
    [
        b'\xef\xbb\xbf[chat.b]\r\nextends = "prod"\r\n# end',
        b'chat = { a = { extends = "prod" } }\n',
        b'chat.a.extends = "prod"\n',
        b'[chat]\na.extends = "prod"\na.n_ctx = 4096\n',
        b'[ "chat" . \'a\' ]\nextends = "prod"',
        b'[chat.z]\nextends = "prod"\n[classify.y]\nextends = "prod"\n[chat.a]\nextends = "prod"\n',
        b"",
        b"# nothing yet",
    ],
)
@pytest.mark.parametrize("name", ["a", "new"])
def test_any_form_of_toml_can_be_added_to(old: bytes, name: str) -> None:
    file = Path("fastinfer.toml")
    file.write_bytes(old)
    before = {known.name: known.parameters for known in fastinfer.presets("chat") if known.name != name}
    preset("low-latency").replace(top_k=5).save(name=name, overwrite=True)
    assert preset(name).parameters == preset("low-latency").replace(top_k=5).parameters
    assert {known.name: known.parameters for known in fastinfer.presets("chat") if known.name != name} == before
    new = file.read_bytes()
    assert all(line in new for line in old.split(b"\r\n" if b"\r\n" in old else b"\n") if line[:1] == b"#")
    assert b"\r\n" not in old or new.count(b"\n") == new.count(b"\r\n")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(min_size=1),
    model=st.text(min_size=1),
    prompt=st.text(alphabet=st.characters(exclude_characters="{}"), min_size=1),
)
def test_any_text_is_read_as_it_was_saved_or_refused(name: str, model: str, prompt: str) -> None:
    made = preset("embedded", kind="classify").replace(model=model, prompt=prompt)
    try:
        made.save(name=name, overwrite=True)
    except PresetError:
        assert not (name + model + prompt).isprintable()
        return
    assert preset(name, "classify").parameters == made.parameters


def test_damage_is_named_and_left_alone() -> None:
    for damaged in (b"[chat.mine\n", b"\xff\xfe", b"[chats.mine]\n", b"[chat]\nmine = 5\n", b"a\x00"):
        Path("fastinfer.toml").write_bytes(damaged)
        with pytest.raises(PresetError, match=r"fastinfer\.toml"):
            preset("balanced").save(name="mine")
        assert Path("fastinfer.toml").read_bytes() == damaged
    assert [path.name for path in Path().iterdir()] == ["fastinfer.toml"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    Path("folder.toml").mkdir()
    for path in ("folder.toml", "missing/fastinfer.toml", "a\0b.toml"):
        with pytest.raises(PresetError, match=r"cannot be written|not a file") as caught:
            preset("balanced").save(path)
        assert caught.value.hint
    assert [path.name for path in Path().iterdir()] == ["folder.toml"]
    with pytest.raises(PresetError, match="name is empty"):
        preset("balanced").save(name="")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_links_and_permissions_stay(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_bytes(OLD)
    real.chmod(0o640)
    file.unlink()
    file.symlink_to(real)
    preset("balanced").save(name="new")
    assert file.is_symlink()
    assert real.read_bytes().startswith(OLD + b"\n[chat.new]")
    assert real.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o027)
    try:
        assert preset("balanced").save("new.toml").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no folder that even root cannot write into")
def test_a_folder_that_takes_no_files_is_an_error() -> None:
    with pytest.raises(PresetError, match=r"/proc/fastinfer\.toml cannot be written") as caught:
        preset("balanced").save("/proc/fastinfer.toml")
    assert isinstance(caught.value.__cause__, OSError)


def test_no_room_leaves_the_old_file(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("resource", reason="Windows has no limit for a file's size")
    (tmp_path / "fastinfer.toml").write_bytes(OLD)
    code = """
import resource, fastinfer
made = fastinfer.from_command("llama-server -m model.gguf", name="new")
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))  # the old file fits, the new one does not
try:
    made.save()
except fastinfer.errors.PresetError as error:
    print(type(error.__cause__).__name__, error)
"""
    done = run_python(code)
    assert done.stdout.startswith("OSError "), done.stderr
    assert "cannot be written: File too large" in done.stdout
    assert (tmp_path / "fastinfer.toml").read_bytes() == OLD
    assert not list(tmp_path.glob(".fastinfer.toml*"))
