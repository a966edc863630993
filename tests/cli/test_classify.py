from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from cli_text import unboxed

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def lines(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_piped_output_is_lines_of_cells(run: Any, samples: Path) -> None:
    result = run("classify", samples / "7.png", samples / "tree.jpg")
    assert result.exit_code == 0
    assert result.stderr == ""
    seven, tree = lines(result.stdout)
    assert seven[:2] == [str(samples / "7.png"), "7"]
    assert tree[:2] == [str(samples / "tree.jpg"), "tree"]
    assert re.fullmatch(r"\d+\.\d%", tree[2])
    assert float(tree[3]) > 0
    assert tree[4] == ""


@pytest.mark.parametrize("labels", [None, ["tree", "car", "a tree"]])
def test_json_is_what_the_library_returns(run: Any, samples: Path, labels: list[str] | None) -> None:
    paths = [samples / "car.jpg", samples / "tree.jpg"]
    result = run("classify", "--json", *paths, *(["--labels", ", ".join(labels)] if labels else []))
    assert result.exit_code == 0
    with fastinfer.classifier(labels=labels) as clf:
        expected = [clf.classify(path) for path in paths]
    for path, got, want in zip(paths, records(result.stdout), expected, strict=True):
        assert got.pop("path") == str(path)
        theirs = json.loads(json.dumps(want.to_dict()))
        assert got.keys() == theirs.keys()
        assert list(got["probabilities"]) == list(theirs["probabilities"])
        assert got["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-4)
        assert got["confidence"] == pytest.approx(theirs["confidence"], abs=1e-4)
        for key in ("source", "label", "prompt_tokens", "provenance", "error"):
            assert got[key] == theirs[key]


def test_a_bad_image_leaves_the_others_alone(run: Any, samples: Path) -> None:
    Path("bad.png").write_bytes((samples / "7.png").read_bytes()[:300])
    arguments = ("classify", samples / "7.png", "bad.png", "missing.png", samples / "3.png")
    result = run(*arguments)
    assert result.exit_code == 1
    assert [row[1] for row in lines(result.stdout)] == ["7", "", "", "3"]
    assert "no such file" in lines(result.stdout)[2][4]
    assert result.stderr == "error: 2 of 4 images could not be classified.\n"

    result = run(*arguments, "--json")
    assert result.exit_code == 1
    errors = [record["error"] for record in records(result.stdout)]
    assert [error and error["type"] for error in errors] == [None, "ImageDecodeError", "ImageDecodeError", None]


def test_folders_are_searched_in_order(run: Any, samples: Path) -> None:
    for name in ("b/2.PNG", "b/10.png", "a.png", "b/.hidden.png", ".cache/x.png", "b/notes.txt", "b.d/c/e.png"):
        path = Path("in", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(samples / "7.png", path)
    Path("empty").mkdir()
    result = run("classify", samples / "3.png", "in", "empty", "--labels", "3,7")
    assert result.exit_code == 0
    names = [Path(row[0]).relative_to("in").as_posix() for row in lines(result.stdout)[1:]]
    assert names == ["a.png", "b/10.png", "b/2.PNG", "b.d/c/e.png"]
    assert {row[1] for row in lines(result.stdout)[1:]} == {"7"}
    assert result.stderr == "warning: no images in empty.\n"


def test_stdin_is_an_image(run: Any, samples: Path) -> None:
    result = run("classify", "-", samples / "3.png", stdin=(samples / "tree.jpg").read_bytes())
    assert result.exit_code == 0
    assert [row[:2] for row in lines(result.stdout)] == [["-", "tree"], [str(samples / "3.png"), "3"]]
    assert run("classify", "-", stdin=b"no image").exit_code == 1


@pytest.mark.parametrize(
    "content",
    [
        b"tree\n#1 car\nfish, blue\n",
        "\ufefftree\r\n\r\n#1 car\r\n  fish, blue  \r\n".encode(),
        b"\n\ntree\n#1 car\n\t\nfish, blue",
    ],
    ids=["plain", "byte order mark and Windows line ends", "blank lines, no end"],
)
def test_labels_files(run: Any, samples: Path, content: bytes) -> None:
    Path("labels.txt").write_bytes(content)
    result = run("classify", samples / "tree.jpg", "--labels-file", "labels.txt", "--json")
    assert result.exit_code == 0
    (record,) = records(result.stdout)
    assert record["label"] == "tree"
    assert set(record["probabilities"]) == {"tree", "#1 car", "fish, blue"}


def test_top(run: Any, samples: Path) -> None:
    arguments = ("classify", samples / "tree.jpg", "--labels", "car,tree,fish", "--labels", "key", "--top", "3")
    row = lines(run(*arguments).stdout)[0]
    assert row[1] == "tree"
    assert re.fullmatch(r"\w+ \d+\.\d%, \w+ \d+\.\d%", row[4])
    (record,) = records(run(*arguments, "--json").stdout)
    assert len(record["probabilities"]) == 3
    assert next(iter(record["probabilities"])) == record["label"] == "tree"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify"], "PATHS"),
        (["classify", "7.png", "--nonsense"], "--nonsense"),
        (["classify", "7.png", "--top", "0"], "--top"),
        (["classify", "."], "no images in ."),
        (["classify", "-", "-"], "give - once"),
        (["classify", "7.png", "--labels", " , "], "no labels in --labels"),
        (["classify", "7.png", "--labels", "a", "--labels-file", "labels.txt"], "not both"),
        (["classify", "7.png", "--labels-file", "missing.txt"], "cannot read the labels file missing.txt"),
        (["classify", "7.png", "--labels-file", "."], "cannot read the labels file ."),
        (["classify", "7.png", "--labels-file", "utf16.txt"], "not UTF-8"),
        (["classify", "7.png", "--labels-file", "blank.txt"], "no labels"),
        (["classfy"], "classfy"),
    ],
)
def test_what_is_not_understood_exits_with_2(run: Any, arguments: list[str], said: str) -> None:
    Path("utf16.txt").write_text("cat\n", encoding="utf-16")
    Path("blank.txt").write_text("\n \n", encoding="utf-8")
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in unboxed(result.stderr)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--preset", "embeded"], "Did you mean 'embedded'?"),
        (["--preset", "balanced"], "of kind 'classify'"),
        (["--model", "missing.gguf"], "missing.gguf"),
        (["--labels", "cat,cat"], "'cat' and 'cat' are the same"),
    ],
)
def test_what_cannot_start_is_one_line(run: Any, samples: Path, options: list[str], said: str) -> None:
    result = run("classify", samples / "7.png", *options)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_a_traceback_on_demand(run: Any, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("classify", samples / "7.png", "--preset", "nope")
    assert isinstance(run(*arguments, "--debug").exception, fastinfer.errors.PresetError)
    monkeypatch.setenv("FASTINFER_TRACEBACK", "0")
    assert run(*arguments).stderr.startswith("error: ")
    monkeypatch.setenv("FASTINFER_TRACEBACK", "1")
    assert isinstance(run(*arguments).exception, fastinfer.errors.PresetError)


def test_names_cannot_steer_the_terminal(run: Any, samples: Path) -> None:
    name = "a\tb\x1b[2J\n.png"
    try:
        shutil.copy(samples / "7.png", name)
    except OSError:
        pytest.skip("this file system has no such names")
    assert lines(run("classify", name).stdout)[0][:2] == ["a?b?[2J?.png", "7"]
    assert records(run("classify", name, "--json").stdout)[0]["path"] == name


def test_a_terminal_gets_a_table_and_a_bar(on_terminal: Any, samples: Path) -> None:
    folder = Path("a_rather_long_folder_name_that_does_not_fit", "[bold]")
    folder.mkdir(parents=True)
    shutil.copy(samples / "7.png", folder / "seven.png")
    code, written = on_terminal(
        60, "classify", folder, samples / "3.png", "missing.png", "--labels", "3,7", "--top", "2"
    )
    assert code == 1
    table = ANSI.sub("", written[written.index("Image ") :])
    assert "Probability" in table
    assert "2/3" in written or "3/3" in written
    assert max(map(len, table.splitlines())) <= 60
    first = "".join(line[2:].split("  ")[0].strip() for line in table.splitlines()[2:])
    assert str(folder / "seven.png") in first.replace(" ", "")
    assert "error: 1 of 3 images could not be classified." in table

    code, written = on_terminal(80, "classify", samples / "3.png", "--json")
    assert code == 0
    assert json.loads(written)["label"] == "3"


def test_a_terminal_is_no_image(on_terminal: Any) -> None:
    code, written = on_terminal(120, "classify", "-")
    assert code == 2
    assert "which is a terminal" in written


def test_the_engine_may_have_a_process_of_its_own(run: Any, samples: Path) -> None:
    apart, here = (
        json.loads(run("classify", samples / "7.png", "--labels", "3,7", "--json", *more).stdout)
        for more in (["--isolate"], [])
    )
    path = here["provenance"].pop("kernel_path")
    assert apart["provenance"].pop("kernel_path") == f"{path}, in a process of its own"
    assert apart["label"] == here["label"] == "7"
