from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from cli_text import unboxed


@pytest.mark.parametrize("kind", ["classify", "chat", None])
def test_presets_are_listed(run: Any, kind: Any) -> None:
    options = ["--kind", kind] if kind else []
    known = fastinfer.presets(kind)
    result = run("presets", *options)
    assert result.exit_code == 0
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:5] for row in rows] == [[p.name, p.kind, p.backend, p.model, p.source] for p in known]
    assert all(p.summary.startswith(row[5]) and row[5].endswith(".") for p, row in zip(known, rows, strict=True))

    result = run("presets", "--json", *options)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [p.to_dict() for p in known]


def test_own_presets_are_listed(run: Any) -> None:
    Path("fastinfer.toml").write_text('[chat.mine]\nextends = "balanced"\nsummary = "Mine. All mine."\n', "utf-8")
    (row,) = (line.split("\t") for line in run("presets").stdout.splitlines() if line.startswith("mine"))
    assert "fastinfer.toml" in row[4]
    assert row[5] == "Mine."


def test_a_faulty_file_is_one_line(run: Any) -> None:
    Path("fastinfer.toml").write_text("[chat.mine]\nn_ctx = 3\n", "utf-8")
    result = run("presets")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


COMMAND = "llama-server -m model.gguf -c 4096 -fa on --host 0.0.0.0 --api-key sk-1"


def test_a_command_is_imported_and_exported(run: Any) -> None:
    result = run("presets", "import", "mine", COMMAND)
    assert result.exit_code == 0
    assert result.stdout == f"chat preset mine saved in {Path('fastinfer.toml').absolute()}\n"
    remarks = [str(remark) for remark in fastinfer.from_command(COMMAND).command.remarks]
    assert result.stderr.splitlines() == remarks
    assert remarks[0].startswith("--host 0.0.0.0: There is no HTTP server")
    saved = fastinfer.preset("mine")
    assert saved.parameters == fastinfer.from_command(COMMAND).parameters
    assert "sk-1" not in result.stderr + Path("fastinfer.toml").read_text("utf-8")
    assert run("presets", "export", "mine").stdout == f"{saved.to_command()}\n"
    assert run("presets").stdout.count("\nmine\tchat\tllama.cpp\tmodel.gguf\t") == 1


def test_the_command_comes_as_words_from_a_file_or_from_standard_input(run: Any) -> None:
    Path("start.sh").write_text("# the server\nllama-server \\\n  -m model.gguf \\\n  -t $(nproc)\n", "utf-8")
    script = Path("start.sh").read_bytes()
    ways: list[tuple[tuple[str, ...], bytes | None]] = [
        (("--from-file", "start.sh"), None),
        (("--from-file", "-"), script),
        (("-",), script),
        (("--", "llama-server", "-m", "model.gguf", "-t", "$(nproc)"), None),
    ]
    for way, stdin in ways:
        result = run("presets", "import", "mine", "--overwrite", *way, stdin=stdin)
        assert result.exit_code == 0, result.stderr
        assert fastinfer.preset("mine").model == "model.gguf"


def test_a_dry_run_prints_the_table_and_writes_nothing(run: Any) -> None:
    result = run("presets", "import", "photos", "--dry-run", "--", "lmdeploy", "serve", "api_server", "org/repo")
    assert result.exit_code == 0
    assert result.stdout.startswith("[classify.photos]\nsummary = ")
    assert '\nmodel = "org/repo"\n' in result.stdout
    assert not Path("fastinfer.toml").exists()
    (row,) = run("presets", "import", "photos", "--dry-run", "--json", COMMAND).stdout.splitlines()
    assert json.loads(row) == {"path": None, "preset": fastinfer.from_command(COMMAND, name="photos").to_dict()}


def test_an_import_writes_into_another_file_and_over_nothing_unasked(run: Any) -> None:
    result = run("presets", "import", "mine", "--to", "other.toml", "--json", COMMAND)
    assert json.loads(result.stdout)["path"] == str(Path("other.toml").absolute())
    before = Path("other.toml").read_bytes()
    result = run("presets", "import", "mine", "--to", "other.toml", f"{COMMAND} --top-k 5")
    assert result.exit_code == 1
    assert "has a chat preset 'mine' already" in result.stderr
    assert Path("other.toml").read_bytes() == before
    assert run("presets", "import", "mine", "--to", "other.toml", "--overwrite", f"{COMMAND} --top-k 5").exit_code == 0
    assert b"top_k = 5" in Path("other.toml").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "mine", "llama-server --lora x"),
        ("import", "mine", "llama-server --nonsense"),
        ("import", "mine", "--from-file", "missing.sh"),
        ("import", "", COMMAND),
        ("export", "blanced"),
        ("export", "balanced", "--program", "lmdeploy serve api_server"),
    ],
)
def test_faults_of_import_and_export_are_one_line(run: Any, arguments: tuple[str, ...]) -> None:
    result = run("presets", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not Path("fastinfer.toml").exists()


def test_an_import_needs_one_command(run: Any) -> None:
    assert run("presets", "import", "mine").exit_code == 2
    assert run("presets", "import", "mine", "--from-file", "start.sh", COMMAND).exit_code == 2
    assert run("presets", "export", "prod").exit_code == 2


def test_an_export_names_the_program_and_is_json_where_asked(run: Any) -> None:
    expected = fastinfer.preset("prod", kind="classify").to_command()
    assert run("presets", "export", "prod", "--kind", "classify").stdout == f"{expected}\n"
    result = run("presets", "export", "balanced", "--program", "./llama-server", "--json")
    assert json.loads(result.stdout)["command"].startswith("./llama-server --hf-repo ")


def test_explain(run: Any) -> None:
    explanation = fastinfer.preset("balanced").explain()
    result = run("explain", "balanced")
    assert result.exit_code == 0
    assert result.stdout == f"{explanation}\n"
    assert json.loads(run("explain", "balanced", "--json").stdout) == explanation.to_dict()
    expected = str(fastinfer.preset("prod", kind="classify").explain())
    assert run("explain", "prod", "--kind", "classify").stdout == f"{expected}\n"


def test_a_name_that_both_kinds_have_needs_the_kind(run: Any) -> None:
    result = run("explain", "prod")
    assert result.exit_code == 2
    assert "--kind classify or --kind chat" in unboxed(result.stderr)


def test_a_wrong_name_brings_the_nearest(run: Any) -> None:
    result = run("explain", "blanced")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: There is no preset 'blanced'. Did you mean 'balanced'?")
    assert run("explain", "prod", "--kind", "nonsense").exit_code == 2


def test_a_terminal_gets_tables(on_terminal: Any) -> None:
    code, written = on_terminal(80, "explain", "balanced")
    assert code == 0
    assert "Field and value" in written
    code, written = on_terminal(80, "presets")
    assert code == 0
    assert "chat, llama.cpp, unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL" in written
