from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastinfer.errors import PresetError
from fastinfer.preset_library import preset, presets, user_preset_files
from fastinfer.preset_library.files import _configuration_folder

Write = Callable[[str], Path]

COMPLETE = """
[classify.mine]
summary = '''Mine,
on two lines'''
backend = "llama.cpp"
model = "some.gguf"
n_ctx = 1024
n_batch = 512
n_ubatch = 512
n_gpu_layers = 0
flash_attn = false
type_k = "f16"
type_v = "f16"
"""


@pytest.fixture
def three_files(working_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A preset file at each of the three places, highest precedence first; all define ``[chat.mine]``."""
    files = [
        working_directory / "fastinfer.toml",
        tmp_path / "config" / "fastinfer" / "fastinfer.toml",
        tmp_path / "named.toml",
    ]
    for number, path in enumerate(files, start=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'[chat.mine]\nextends = "balanced"\nparallel = {number}\n', encoding="utf-8")
    monkeypatch.setenv("FASTINFER_PRESETS", str(files[2]))
    return files


def test_a_preset_may_extend_a_built_in_one(write_presets: Write) -> None:
    path = write_presets('[chat.mine]\nextends = "balanced"\nsummary = "Mine."\nn_ctx = 65536\n')
    mine = preset("mine")
    assert (mine.kind, mine.summary, mine.source) == ("chat", "Mine.", str(path))
    assert mine.parameters == preset("balanced").replace(n_ctx=65536).parameters


def test_a_preset_without_summary_has_that_of_the_preset_it_extends(write_presets: Write) -> None:
    write_presets('[chat.mine]\nextends = "balanced"\n')
    assert preset("mine").summary == preset("balanced").summary


def test_a_preset_may_give_its_engine_and_every_field_that_has_no_default(write_presets: Write) -> None:
    write_presets(COMPLETE)
    mine = preset("mine")
    assert (mine.backend, mine.n_ctx, mine.flash_attn, mine.vision_max_batch_size) == ("llama.cpp", 1024, False, 8)
    assert mine.summary == "Mine, on two lines"


def test_a_preset_with_neither_base_nor_engine_is_refused(write_presets: Write) -> None:
    write_presets("[chat.mine]\nn_ctx = 1024\n")
    with pytest.raises(PresetError, match=r"\[chat\.mine\]: neither extends nor backend is given"):
        preset("mine")


def test_a_preset_may_extend_a_preset_that_extends_another(write_presets: Write) -> None:
    write_presets('[chat.a]\nextends = "b"\nparallel = 2\n[chat.b]\nextends = "prod"\nn_ctx = 65536\n')
    assert (preset("a").parallel, preset("a").n_ctx, preset("a").n_ubatch) == (2, 65536, 2048)


def test_what_a_preset_changes_is_explained_against_the_built_in_values(write_presets: Write) -> None:
    write_presets('[chat.a]\nextends = "b"\nparallel = 2\n[chat.b]\nextends = "prod"\nn_ctx = 65536\n')
    changed = {row.field: row.documented for row in preset("a").replace(top_k=5).explain().rows if row.documented}
    assert changed == {"n_ctx": 32768, "parallel": 8, "top_k": 60}


@pytest.mark.parametrize(
    "text",
    [
        '[chat.a]\nextends = "b"\n[chat.b]\nextends = "a"\n',
        '[chat.a]\nextends = "b"\n[chat.b]\nextends = "c"\n[chat.c]\nextends = "b"\n',
    ],
)
def test_presets_that_extend_each_other_in_a_circle_are_refused(write_presets: Write, text: str) -> None:
    write_presets(text)
    with pytest.raises(PresetError, match=r"circle: 'b' extends|circle: 'a' extends 'b' extends 'a'"):
        preset("a")


def test_a_preset_that_extends_only_itself_is_refused(write_presets: Write) -> None:
    write_presets('[chat.a]\nextends = "a"\n')
    with pytest.raises(PresetError, match="extends 'a', which is no chat preset"):
        preset("a")


def test_a_preset_cannot_extend_one_of_the_other_kind(write_presets: Write) -> None:
    write_presets('[classify.a]\nextends = "balanced"\n')
    with pytest.raises(PresetError, match="extends 'balanced', which is no classify preset"):
        preset("a")


def test_a_wrong_base_is_answered_with_the_nearest(write_presets: Write) -> None:
    write_presets('[chat.a]\nextends = "balancd"\n')
    with pytest.raises(PresetError, match="Did you mean 'balanced'"):
        preset("a")


def test_a_preset_cannot_leave_the_engine_of_the_one_it_extends(write_presets: Write) -> None:
    write_presets('[classify.a]\nextends = "prod"\nbackend = "llama.cpp"\n')
    with pytest.raises(PresetError, match=r"backend 'llama.cpp' differs from that of 'prod'"):
        preset("a")


def test_a_user_preset_takes_the_place_of_the_built_in_one(write_presets: Write) -> None:
    path = write_presets('[classify.prod]\nextends = "prod"\nmax_batch_size = 64\n')
    prod = preset("prod", kind="classify")
    assert (prod.max_batch_size, prod.quant_policy, prod.source) == (64, 4, str(path))
    assert [(p.name, p.source) for p in presets("classify")] == [
        ("prod", str(path)),
        ("prod-exact", "built-in"),
        ("embedded", "built-in"),
    ]


def test_built_in_presets_do_not_follow_a_user_preset_of_their_base(write_presets: Write) -> None:
    write_presets('[classify.prod]\nextends = "prod"\nmax_batch_size = 64\n')
    assert preset("prod-exact").max_batch_size == 32


def test_presets_lists_user_presets_after_the_built_in_ones(write_presets: Write) -> None:
    write_presets(COMPLETE)
    assert [p.name for p in presets("classify")] == ["prod", "prod-exact", "embedded", "mine"]


def test_the_first_file_that_has_the_preset_wins(three_files: list[Path]) -> None:
    assert user_preset_files() == three_files
    for number, path in enumerate(three_files, start=1):
        assert (preset("mine").parallel, preset("mine").source) == (number, str(path))
        path.write_text("", encoding="utf-8")
    with pytest.raises(PresetError, match="no preset 'mine'"):
        preset("mine")


def test_a_preset_that_extends_its_own_name_means_the_next_file(three_files: list[Path]) -> None:
    three_files[0].write_text('[chat.mine]\nextends = "mine"\nn_ctx = 65536\n', encoding="utf-8")
    assert (preset("mine").n_ctx, preset("mine").parallel) == (65536, 2)


def test_a_file_is_not_changed_by_the_files_above_it(three_files: list[Path]) -> None:
    three_files[0].write_text('[chat.balanced]\nextends = "mine"\nn_ctx = 65536\n', encoding="utf-8")
    assert (preset("balanced").n_ctx, preset("balanced").parallel) == (65536, 2)
    assert preset("mine").n_ctx == 32768


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="the XDG folder is for Linux")
def test_without_xdg_the_configuration_folder_is_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "home" / ".config" / "fastinfer" / "fastinfer.toml"
    path.parent.mkdir(parents=True)
    path.write_text(COMPLETE, encoding="utf-8")
    for value in (None, "", "relative/path"):
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        if value is not None:
            monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert user_preset_files() == [path]


def test_each_platform_has_its_configuration_folder() -> None:
    home = Path.home()
    assert _configuration_folder("darwin", {}) == home / "Library" / "Application Support"
    assert _configuration_folder("win32", {"APPDATA": "roaming"}) == Path("roaming")
    assert _configuration_folder("win32", {}) == home / "AppData" / "Roaming"
    assert _configuration_folder("linux", {}) == home / ".config"


def test_an_account_without_home_has_no_configuration_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert _configuration_folder("linux", {}) is None
    assert preset("balanced").source == "built-in"


@pytest.mark.parametrize("there", [True, False])
def test_a_named_file_that_is_no_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    path = tmp_path / "named.toml"
    if there:
        path.mkdir()
    monkeypatch.setenv("FASTINFER_PRESETS", str(path))
    with pytest.raises(PresetError, match=r"FASTINFER_PRESETS names .*named.toml, which is not a file"):
        presets()


def test_a_named_file_in_the_home_of_nobody_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINFER_PRESETS", "~no-such-account/presets.toml")
    with pytest.raises(PresetError, match=r"names ~no-such-account/presets.toml, which is not a file"):
        presets()


def test_a_variable_that_is_empty_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINFER_PRESETS", "")
    assert user_preset_files() == []


def test_the_same_file_named_twice_counts_once(write_presets: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_presets('[chat.balanced]\nextends = "balanced"\n')
    monkeypatch.setenv("FASTINFER_PRESETS", str(path))
    assert user_preset_files() == [path]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("[chat.mine]\nn_ctx = \n", 2, 9),
        ("[chat.mine\n", 1, 11),
        ('[chat.mine]\nsummary = "open', 2, 16),
        ("[chat.mine]\n[chat.mine]\n", 2, 11),
    ],
)
def test_a_file_that_is_not_toml_is_an_error_with_line_and_column(
    write_presets: Write, text: str, line: int, column: int
) -> None:
    path = write_presets(text)
    with pytest.raises(PresetError) as caught:
        preset("balanced")
    assert f"{path}, line {line}, column {column}: not valid TOML" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_file_that_is_not_text_is_an_error_with_line_and_column(write_presets: Write) -> None:
    path = write_presets("")
    path.write_bytes(b"[chat.mine]\nsummary = '\xff'\n")
    with pytest.raises(PresetError, match="line 2, column 12: not UTF-8 text") as caught:
        presets()
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)


def test_a_file_that_cannot_be_read_is_an_error(write_presets: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_presets("")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PresetError, match="cannot be read: Permission denied") as caught:
        presets()
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_fault(write_presets: Write) -> None:
    write_presets("\ufeff" + COMPLETE)
    assert preset("mine").n_ctx == 1024


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[clasify.mine]\n", r"unknown table \[clasify\]; did you mean \[classify\]"),
        ("[vision.mine]\n", r"unknown table \[vision\]"),
        ("n_ctx = 5\n", r"unknown table \[n_ctx\].*\[classify.NAME\] or \[chat.NAME\]"),
        ("chat = 5\n", r"'chat' under \[chat\] is not a preset"),
        ("[chat]\nn_ctx = 5\n", r"'n_ctx' under \[chat\] is not a preset.*\[chat.NAME\]"),
        ("[[chat.mine]]\nn_ctx = 5\n", r"'mine' under \[chat\] is not a preset"),
    ],
)
def test_a_table_that_is_no_preset_is_an_error_at_once(write_presets: Write, text: str, said: str) -> None:
    path = write_presets(text)
    with pytest.raises(PresetError, match=said) as caught:
        preset("balanced")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", ["extends", "summary"])
def test_base_and_summary_must_be_text(write_presets: Write, key: str) -> None:
    write_presets(f"[chat.mine]\nbackend = 'llama.cpp'\n{key} = 5\n")
    with pytest.raises(PresetError, match=rf"\[chat\.mine\]: {key} is 5.*must be text"):
        preset("mine")


def test_every_fault_of_a_preset_is_in_one_error_with_its_file(write_presets: Write) -> None:
    path = write_presets(
        '[chat.mine]\nextends = "balanced"\nctx_size = 5\nparallel = 0\ntype_k = "q8"\nn_threads = "all"\n'
    )
    with pytest.raises(PresetError) as caught:
        preset("mine")
    message = str(caught.value)
    assert message.startswith(f"{path} [chat.mine]: 4 problems:")
    assert "ctx_size: no such field; did you mean n_ctx (whole number from 1 to 2^31-1)?" in message
    assert "parallel: 0 is not legal; legal: whole number from 1 to 254" in message
    assert "type_k: 'q8' is not legal; legal: 'f32', 'f16', 'bf16', 'q8_0'" in message
    assert "n_threads: 'all' is not legal; legal: whole number from 0 to 512; 0 = all cores" in message


def test_missing_fields_are_named_together(write_presets: Write) -> None:
    write_presets('[chat.mine]\nbackend = "llama.cpp"\nmodel = "x.gguf"\nn_ctx = 4096\n')
    with pytest.raises(PresetError) as caught:
        preset("mine")
    for field in ("n_batch", "n_ubatch", "type_k", "type_v", "flash_attn", "n_gpu_layers", "parallel"):
        assert f"{field}: missing; legal: " in str(caught.value)


def test_an_unknown_engine_is_answered_with_those_of_the_kind(write_presets: Write) -> None:
    write_presets('[classify.mine]\nbackend = "vllm"\n')
    with pytest.raises(PresetError, match=r"backend 'vllm' is not legal.*'turbomind' or 'llama.cpp'"):
        preset("mine")


def test_a_faulty_preset_does_not_stand_in_the_way_of_another(write_presets: Write) -> None:
    write_presets('[chat.bad]\nextends = "balanced"\nn_ctx = 0\n[chat.good]\nextends = "balanced"\n')
    assert preset("good").n_ctx == 32768
    with pytest.raises(PresetError, match=r"\[chat\.bad\]"):
        presets()
