"""``fastinfer chat --batch``: a file of requests to a file of responses."""

from __future__ import annotations

import json
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from cli_text import unboxed


@pytest.fixture
def small(babbler: Path) -> list[str]:
    """Options for that model, in a preset that answers fast."""
    Path("fastinfer.toml").write_text(
        '[chat.small]\nextends = "embedded"\nn_ctx = 1024\nn_batch = 256\nn_ubatch = 128\nn_threads = 1\n'
        "parallel = 2\nmax_tokens = 8\n",
        "utf-8",
    )
    return ["--preset", "small", "--model", str(babbler)]


def write(*questions: str, **options: Any) -> str:
    lines = [
        {
            "custom_id": f"r{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": question}], **options},
        }
        for number, question in enumerate(questions)
    ]
    Path("prompts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return "prompts.jsonl"


def read(name: str = "replies.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text("utf-8").splitlines()]


def test_every_request_is_answered_and_a_summary_says_how_it_went(run: Any, small: list[str]) -> None:
    result = run("chat", "--batch", write("hello", "world", "hello"), "-o", "replies.jsonl", *small)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "3 requests: 2 computed, 0 known from before, 1 copies of others, 0 with an error." in result.stderr
    assert "note" not in result.stderr
    assert [line["custom_id"] for line in read()] == ["r0", "r1", "r2"]
    again = run("chat", "--batch", "prompts.jsonl", "-o", "replies.jsonl", *small)
    assert "3 requests: 0 computed, 2 known from before" in again.stderr


def test_json_is_one_line(run: Any, small: list[str]) -> None:
    result = run("chat", "--batch", write("hello", model="gpt-4o"), "-o", "replies.jsonl", "--json", *small)
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    summary = json.loads(result.stdout)
    assert (summary["kind"], summary["total"], summary["errors"]) == ("chat", 1, 0)
    assert summary["output"] == "replies.jsonl"


def test_a_line_with_an_error_is_exit_code_1(run: Any, small: list[str]) -> None:
    path = Path(write("hello"))
    path.write_text(f"{path.read_text('utf-8')}\n{{", "utf-8")
    result = run("chat", "--batch", path, "-o", "replies.jsonl", *small)
    assert result.exit_code == 1
    assert "error: 2 of 3 requests could not be answered.\n" in result.stderr
    assert [line["error"] is None for line in read()] == [True, False, False]


def test_another_model_in_the_requests_is_noted(run: Any, small: list[str], babbler: Path) -> None:
    result = run("chat", "--batch", write("hello", "world", model="gpt-4o"), "-o", "replies.jsonl", *small)
    assert result.exit_code == 0
    assert f"note: Line 1 of prompts.jsonl names the model 'gpt-4o'; '{babbler}' answers.\n" in result.stderr
    assert result.stderr.count("note:") == 1


def test_options_hold_where_a_request_leaves_them_out(run: Any, small: list[str], babbler: Path) -> None:
    options = ["--max-tokens", "5", "--temperature", "0", "--system", "Be kind."]
    assert run("chat", "--batch", write("hello"), "-o", "replies.jsonl", *options, *small).exit_code == 0
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    with fastinfer.llm("small", model=babbler) as llm:
        wanted = llm.chat(messages, max_tokens=5, temperature=0)
    (line,) = read()
    assert line["response"]["body"]["choices"][0]["message"]["content"] == wanted.text
    changed = run("chat", "--batch", "prompts.jsonl", "-o", "replies.jsonl", "--max-tokens", "6", *small)
    assert (changed.exit_code, changed.stderr.count("\n")) == (1, 1)
    assert "made by another configuration" in changed.stderr
    assert run("chat", "--batch", "prompts.jsonl", "-o", "replies.jsonl", "--overwrite", *small).exit_code == 0


def test_a_part_and_a_beginning_of_a_batch(run: Any, small: list[str]) -> None:
    path = write(*map(str, range(9)))
    for part in ("1/2", "2/2"):
        assert run("chat", "--batch", path, "-o", "replies.jsonl", "--shard", part, *small).exit_code == 0
    parts = [read(f"replies-0000{part}-of-00002.jsonl") for part in (1, 2)]
    assert sum(map(len, parts)) == 9
    assert run("chat", "--batch", path, "-o", "replies.jsonl", "--limit", "2", *small).exit_code == 0
    assert [line["custom_id"] for line in read()] == ["r0", "r1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "prompts.jsonl"], "give --output FILE too"),
        (["-o", "replies.jsonl", "hello"], "give --batch FILE too"),
        (["hello", "--batch", "prompts.jsonl", "-o", "replies.jsonl"], "not both"),
        (["hello", "--limit", "2"], "--limit is for jobs"),
        (["hello", "--retry-errors"], "--retry-errors is for jobs"),
        (["--batch", "prompts.jsonl", "-o", "replies.jsonl", "--shard", "3/2"], "3/2"),
    ],
)
def test_what_is_not_understood_exits_with_2(run: Any, arguments: list[str], said: str) -> None:
    result = run("chat", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in unboxed(result.stderr)


def test_a_file_that_is_not_there_is_one_line(run: Any) -> None:
    result = run("chat", "--batch", "nowhere.jsonl", "-o", "replies.jsonl", "--model", "no model.gguf")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "nowhere.jsonl cannot be read" in result.stderr


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(run: Any, start: Any, small: list[str]) -> None:
    path = write(*map(str, range(150)), max_tokens=60, ignore_eos=True)
    command = ["chat", "--batch", path, "-o", "replies.jsonl", *small]
    process = start(*command)
    journal, end = Path("replies.jsonl.journal-wal"), time.monotonic() + 30
    # Its tables take 30,000 bytes, and a result about a thousand.
    while not (journal.exists() and journal.stat().st_size > 35_000):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert f"to go on: {shlex.join(['fastinfer', 'chat'])}".encode() in errors
    assert b"Traceback" not in errors
    assert not Path("replies.jsonl").exists()
    result = run(*command, "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["reused"] > 0
    assert summary["reused"] + summary["computed"] == len(read()) == 150


def test_the_engine_may_have_a_process_of_its_own(run: Any, small: list[str]) -> None:
    asked = write("hello", "world")
    assert run("chat", "--batch", asked, "-o", "apart.jsonl", "--isolate", "--seed", "1", *small).exit_code == 0
    assert run("chat", "--batch", asked, "-o", "here.jsonl", "--seed", "1", *small).exit_code == 0
    assert [line["response"]["body"]["choices"] for line in read("apart.jsonl")] == [
        line["response"]["body"]["choices"] for line in read("here.jsonl")
    ]
