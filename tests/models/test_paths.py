from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import fastinfer.models
from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models import resolve_gguf

EMBEDDED = Path(fastinfer.models.__file__).parent / "embedded"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def put(folder: Path, content: bytes, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the package was checked out without its model")
def test_the_embedded_model(folder: Path) -> None:
    (folder / "embedded").mkdir()
    found = resolve_gguf("embedded")
    assert (found.name, found.revision, found.source) == ("embedded", None, "package")
    assert (found.model, found.projector) == (EMBEDDED / "embedded.gguf", EMBEDDED / "embedded-mmproj.gguf")


@pytest.mark.parametrize("name", ["embedded:Q8_0", "embedded@main"])
def test_the_embedded_model_comes_in_one_version(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="Its name is 'embedded'"):
        resolve_gguf(name)


@pytest.mark.parametrize("name", ["m.gguf", "./m.gguf", "~/m.gguf", "sub/../m.gguf", "{folder}/m.gguf", "./", ".", "~"])
def test_a_path(folder: Path, model: bytes, name: str) -> None:
    (folder / "sub").mkdir()
    put(folder, model, "m.gguf")
    found = resolve_gguf(name.format(folder=folder))
    assert found.model.samefile(folder / "m.gguf")
    assert found.model.is_absolute()
    assert (found.name, found.projector, found.revision, found.source) == (str(found.model), None, None, "path")
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "other"  # type: ignore[misc]


def test_a_path_object_and_a_file_without_the_ending(folder: Path, model: bytes) -> None:
    put(folder, model, "blob")
    assert resolve_gguf(Path("blob")).model == folder / "blob"


def test_a_path_goes_before_the_hub(folder: Path, model: bytes) -> None:
    put(folder, model, "org/repo/m-Q4_0.gguf", "org/other:Q8_0@main")
    assert resolve_gguf("org/repo").model == folder / "org/repo/m-Q4_0.gguf"
    if sys.platform != "win32":
        assert resolve_gguf("org/other:Q8_0@main").source == "path"


def test_the_projector_beside_a_model(folder: Path, model: bytes, projector: bytes) -> None:
    put(folder, model, "a-Q8_0.gguf", "b-Q8_0.gguf")
    put(folder, projector, "mmproj-a-F32.gguf", "mmproj-a-f16.gguf", "mmproj-b-F32.gguf")
    assert resolve_gguf("a-Q8_0.gguf").projector == folder / "mmproj-a-f16.gguf"
    assert resolve_gguf("b-Q8_0.gguf").projector == folder / "mmproj-b-F32.gguf"


def test_any_part_stands_for_the_model(folder: Path, model: bytes, gguf, projector: bytes) -> None:
    names = [f"m-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    put(folder, model, names[0])
    put(folder, gguf(None), *names[1:])
    put(folder, projector, "m-mmproj.gguf")
    for name in [".", *names]:
        found = resolve_gguf(name)
        assert (found.model, found.projector) == (folder / names[0], folder / "m-mmproj.gguf")
    put(folder, b"<html>", names[2])
    with pytest.raises(ModelLoadError, match=r"00003-of-00003.*web page"):
        resolve_gguf(".")
    (folder / names[0]).unlink()
    for name in [".", *names[1:]]:
        with pytest.raises(ModelLoadError, match=r"1 of the model's 3 parts are missing: m-Q8_0-00001-of-00003\.gguf"):
            resolve_gguf(name)


def test_a_folder_with_no_model_or_several(folder: Path, model: bytes, projector: bytes) -> None:
    put(folder, projector, "mmproj.gguf")
    put(folder, b"", "README.md")
    with pytest.raises(ModelNotFoundError, match="no model in GGUF format"):
        resolve_gguf(str(folder))
    put(folder, model, *(f"m{number}.gguf" for number in range(7)))
    with pytest.raises(ModelNotFoundError, match=r"7 models: m0\.gguf, m1\.gguf, .*m4\.gguf and 2 more"):
        resolve_gguf(str(folder))


def test_files_of_the_wrong_kind(folder: Path, model: bytes, projector: bytes, gguf) -> None:
    put(folder, projector, "a/mmproj.gguf", "b/m.gguf")
    put(folder, model, "c/m.gguf", "c/mmproj.gguf")
    put(folder, gguf(None), "d/m.gguf")
    for name, words in {
        "a/mmproj.gguf": "a projector",
        "b": "a projector",
        "c": "mmproj.gguf: a model",
        "d": "no architecture",
    }.items():
        with pytest.raises(ModelLoadError, match=words):
            resolve_gguf(name)


def test_damaged_files_are_named(folder: Path, model: bytes, projector: bytes) -> None:
    put(folder, model, "m.gguf")
    put(folder, projector[:100], "mmproj.gguf")
    with pytest.raises(ModelLoadError, match=r"mmproj\.gguf: not a usable GGUF file"):
        resolve_gguf("m.gguf")


@pytest.mark.parametrize(
    "name",
    [
        "./seed-36b.gguf",
        "seed-36b.gguf",
        "../{folder}/seed-36b",
        "{absolute}/seed-36b",
        "~/seed-36b",
        "./seed/x",
        "a/b/c",
    ],
)
def test_a_missing_path_is_not_looked_for_on_the_hub(
    folder: Path, model: bytes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    put(folder, model, "Seed-36B.gguf", "unlike.gguf")
    name = name.format(folder=folder.name, absolute=folder)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_gguf(name)
    message = str(caught.value)
    assert f"Model {name!r}: there is no such file or folder" in message
    if "seed-36b" in name:
        assert "there is Seed-36B.gguf, unlike.gguf." in message
    else:
        assert "The folder it would be in is not there" in message


@pytest.mark.parametrize(
    "name", [r"models\m", r"C:\m", "C:/m.gguf", "word", "~nobody-of-this-name/m", "a\0b", "x" * 5000]
)
def test_other_names_are_no_models(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no such file or folder"):
        resolve_gguf(name)


@pytest.mark.parametrize(
    "name", ["org/repo@../../x", "org/repo:a/b", "org/repo@", "org/repo:", "../repo", "org/x.gguf:Q4_0"]
)
def test_names_that_only_resemble_a_repository(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelNotFoundError):
        resolve_gguf(name)


def test_a_path_has_no_revision(folder: Path, model: bytes) -> None:
    put(folder, model, "m.gguf")
    with pytest.raises(ModelNotFoundError, match="leave '@main' out"):
        resolve_gguf("./m.gguf@main")


def test_an_empty_name() -> None:
    with pytest.raises(ModelNotFoundError, match="is empty"):
        resolve_gguf("")


@pytest.mark.skipif(sys.platform == "win32" or getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_what_may_not_be_read(folder: Path, model: bytes) -> None:
    put(folder, model, "closed/m.gguf", "m.gguf")
    (folder / "m.gguf").chmod(0)
    (folder / "closed").chmod(0)
    try:
        for name in ("m.gguf", "closed", "closed/m.gguf"):
            with pytest.raises(ModelLoadError, match="cannot be read: Permission denied"):
                resolve_gguf(name)
    finally:
        (folder / "closed").chmod(0o700)


def test_a_link_to_nothing(folder: Path) -> None:
    try:
        (folder / "m.gguf").symlink_to("gone.gguf")
    except OSError:
        pytest.skip("links are not allowed here")
    with pytest.raises(ModelNotFoundError, match=r"m\.gguf: there is no such file"):
        resolve_gguf("m.gguf")


def test_the_import_loads_no_library_for_the_network() -> None:
    code = "import fastinfer.models, sys; assert not {'huggingface_hub', 'numpy', 'tqdm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
