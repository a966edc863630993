"""A batch of chats on the runner: what comes back, what is computed again, and what a killed job ends with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import EngineDeadError, FastInferError, MessageError, PresetError
from fastinfer.jobs.bottleneck import PREFILL, REPLYING
from fastinfer.jobs.openai_batch import ENDPOINT, Batch, read_request
from fastinfer.jobs.opening import run_chat
from fastinfer.jobs.request import JobRequest

SOURCES = Path(fastinfer.__file__).parents[1]
#: Exact whatever shares a batch: no rounding in the cache, no flash attention, one thread.
EXACT: dict[str, Any] = {
    "n_ctx": 2048, "n_batch": 512, "n_ubatch": 512, "type_k": "f32", "type_v": "f32", "flash_attn": False,
    "n_threads": 1, "max_tokens": 8,
}  # fmt: skip
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
#: Runs a job one request at a time, writes each down at once, and says so.
CHILD = """
import json, sys
import fastinfer
from fastinfer.jobs import runner
from fastinfer.jobs.chat import ChatWork

def told(work, payloads, compute=ChatWork.compute):
    for number, result in enumerate(compute(work, payloads)):
        print(number, flush=True)
        yield result

runner._COMMIT_EVERY = 0
ChatWork.compute = told
fastinfer.run(sys.argv[1], sys.argv[2], model=sys.argv[3], **json.loads(sys.argv[4]))
"""

pytestmark = pytest.mark.usefixtures("bare_account")


@pytest.fixture(scope="module")
def llm(babbler: Path) -> Iterator[fastinfer.LLM]:
    """Four slots, for every test that does not close it."""
    with fastinfer.llm(model=babbler, parallel=4, **EXACT) as loaded:
        yield loaded


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(*bodies)``: a batch file of these bodies, named ``r0``, ``r1`` and so on; a str is a line as it is."""

    def write(*bodies: dict[str, Any] | str, name: str = "prompts.jsonl") -> Path:
        lines = [
            body
            if isinstance(body, str)
            else json.dumps({"custom_id": f"r{number}", "method": "POST", "url": ENDPOINT, "body": body})
            for number, body in enumerate(bodies)
        ]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path

    return write


def asking(text: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **options}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def answers(path: Path) -> list[str]:
    return [line["response"]["body"]["choices"][0]["message"]["content"] for line in read(path)]


def test_every_request_is_answered_with_its_own_options_in_order(
    llm: fastinfer.LLM, write: Any, tmp_path: Path
) -> None:
    bodies = [
        asking("hello"),
        asking("hello", temperature=0, max_tokens=20),
        asking("What is the name", seed=7, top_k=0, top_p=1, min_p=0, temperature=1.5),
        asking("hello world", stop=["a", "e"], max_completion_tokens=30),
        asking("hello world", logprobs=True, top_logprobs=2),
        asking("tool", response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
               max_tokens=200),
        *(asking(f"hello {number}") for number in range(20)),
    ]  # fmt: skip
    summary = fastinfer.run(write(*bodies), tmp_path / "replies.jsonl", using=llm)
    lines = read(summary.output)
    assert [line["custom_id"] for line in lines] == [f"r{number}" for number in range(len(bodies))]
    for body, line in zip(bodies, lines, strict=True):
        request = read_request(body)
        reply = llm.chat(request.messages, **request.options)
        completion = line["response"]["body"]
        (choice,) = completion["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (reply.text, reply.finish_reason)
        assert (choice["logprobs"] is not None) == ("logprobs" in body)
        assert completion["usage"]["total_tokens"] == reply.usage.total_tokens
        assert completion["model"] == llm.provenance.model
        assert completion["system_fingerprint"] == f"fp_{summary.configuration}"
    assert json.loads(answers(summary.output)[5])["ok"] in (True, False)
    assert (summary.ok, summary.total, summary.computed, summary.kind) == (True, 26, 26, "chat")


def test_all_slots_are_at_work(llm: fastinfer.LLM, write: Any, tmp_path: Path) -> None:
    def steps() -> float:
        return llm.metrics()["llamacpp:n_decode_total"]

    before = steps()
    bodies = [asking(f"hello {number}", ignore_eos=True, max_tokens=20) for number in range(16)]
    fastinfer.run(write(*bodies), tmp_path / "replies.jsonl", using=llm)
    assert steps() - before < 16 * 20 / 2


def test_what_is_wrong_with_a_line_is_said_in_its_place_and_its_siblings_are_untouched(
    llm: fastinfer.LLM, write: Any, tmp_path: Path
) -> None:
    same_id = json.dumps({"custom_id": "r0", "method": "POST", "url": ENDPOINT, "body": asking("hello")})
    path = write(
        asking("hello 0"),
        "{",
        same_id,
        asking("hello 3", nonsense=1),
        asking("hello 4", temperature=-1),
        {"messages": [{"role": "wizard", "content": "x"}]},
        asking("hello " * 3000),
        asking("hello 7", json_schema=SCHEMA, max_tokens=1),
        asking("hello 8", grammar="root ::= ("),
        asking("hello 9"),
    )
    summary = fastinfer.run(path, tmp_path / "replies.jsonl", using=llm)
    lines = read(summary.output)
    codes = [(line["error"] or {}).get("code") for line in lines]
    statuses = [(line["response"] or {}).get("status_code") for line in lines]
    assert codes == [None, "invalid_json_line", "duplicate_custom_id", *[None] * 4, "incomplete_reply", None, None]
    assert statuses == [200, None, None, 400, 400, 400, 400, None, 400, 200]
    assert lines[6]["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert [line["custom_id"] for line in lines] == ["r0", None, "r0", *(f"r{number}" for number in range(3, 10))]
    assert summary.errors_by_type == {"MessageError": 4, "PresetError": 1, "PromptTooLongError": 1, "SchemaError": 2}
    alone = fastinfer.run(
        write(asking("hello 0"), asking("hello 9"), name="two.jsonl"), tmp_path / "2.jsonl", using=llm
    )
    assert [lines[place]["response"]["body"] for place in (0, 9)] == [
        line["response"]["body"] for line in read(alone.output)
    ]


def test_a_request_that_runs_out_of_time_has_openais_code_for_it(
    llm: fastinfer.LLM, write: Any, tmp_path: Path
) -> None:
    request = JobRequest.of(write(asking("hello", max_tokens=1000)), tmp_path / "replies.jsonl", {"using": llm})
    summary = run_chat(request, options={"timeout": 1e-6})
    (line,) = read(summary.output)
    assert (line["response"], line["error"]["code"]) == (None, "request_timeout")
    assert summary.errors_by_type == {"RequestTimeoutError": 1}


def test_the_same_request_is_computed_once(llm: fastinfer.LLM, write: Any, tmp_path: Path) -> None:
    path = write(asking("hello"), asking("hello", model="m", user="u"), asking("hello", seed=1), asking("hello"))
    summary = fastinfer.run(path, tmp_path / "replies.jsonl", using=llm)
    lines = read(summary.output)
    assert (summary.computed, summary.duplicates) == (2, 2)
    assert lines[0]["response"]["body"] == lines[1]["response"]["body"] == lines[3]["response"]["body"]
    assert len({line["id"] for line in lines}) == len({line["response"]["request_id"] for line in lines}) == 4


def test_what_is_known_is_not_computed_again(llm: fastinfer.LLM, write: Any, tmp_path: Path) -> None:
    bodies = [asking(f"hello {number}") for number in range(5)]
    output = tmp_path / "replies.jsonl"
    fastinfer.run(write(*bodies, asking("hello", temperature=-1)), output, using=llm)
    before = output.read_bytes()
    again = fastinfer.run(write(*bodies, asking("hello", temperature=-1)), output, using=llm)
    assert (again.computed, again.reused, again.errors) == (0, 6, 1)
    assert output.read_bytes() == before
    retried = fastinfer.run(write(*bodies, asking("hello", temperature=-1)), output, using=llm, retry_errors=True)
    assert (retried.computed, retried.reused) == (1, 5)
    more = fastinfer.run(write(*bodies[::-1], asking("hello 9")), output, using=llm)
    assert (more.computed, more.reused) == (1, 5)


def test_options_and_a_system_message_hold_where_a_request_leaves_them_out(
    llm: fastinfer.LLM, write: Any, tmp_path: Path
) -> None:
    path = write(asking("hello"), asking("hello", max_tokens=9, seed=5))
    output = tmp_path / "replies.jsonl"
    request = JobRequest.of(path, output, {"using": llm})
    run_chat(request, options={"max_tokens": 3, "seed": 4}, system="Be kind.")
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    wanted = [llm.chat(messages, max_tokens=most, seed=seed).text for most, seed in ((3, 4), (9, 5))]
    assert answers(output) == wanted
    with pytest.raises(FastInferError, match="made by another configuration"):
        run_chat(request, options={"max_tokens": 4, "seed": 4}, system="Be kind.")
    with pytest.raises(PresetError, match="temperature"):
        run_chat(request, options={"temperature": -1})


def test_the_parts_of_a_job_are_the_lines_of_the_whole(llm: fastinfer.LLM, write: Any, tmp_path: Path) -> None:
    path = write(*(asking(f"hello {number}") for number in range(12)), "[]")
    whole = fastinfer.run(path, tmp_path / "replies.jsonl", using=llm)
    parts = [fastinfer.run(path, tmp_path / "replies.jsonl", using=llm, shard=(part, 3)) for part in (1, 2, 3)]
    lines = [line for part in parts for line in part.output.read_text("utf-8").splitlines()]
    assert all(part.total for part in parts)
    assert sorted(lines) == sorted(whole.output.read_text("utf-8").splitlines())
    first = fastinfer.run(path, tmp_path / "first.jsonl", using=llm, limit=2)
    assert [line["custom_id"] for line in read(first.output)] == ["r0", "r1"]


def test_a_job_that_was_killed_ends_with_the_bytes_of_one_that_was_not(
    babbler: Path, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(*(asking(f"hello {'world ' * (number % 4)}{number}", max_tokens=24) for number in range(60)), "{")
    changes = {**EXACT, "parallel": 1}
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(SOURCES))
    for until in (17, 11):
        arguments = [sys.executable, "-c", CHILD, str(path), str(killed), str(babbler), json.dumps(changes)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) == until:
                    process.kill()
            assert process.wait() == -signal.SIGKILL
        assert not killed.exists()
    resumed = fastinfer.run(path, killed, model=babbler, **changes)
    assert resumed.reused >= 28
    assert resumed.computed == 60 - resumed.reused
    fastinfer.run(path, whole, model=babbler, **changes)
    assert killed.read_bytes() == whole.read_bytes()


def test_what_the_job_waits_for_is_told_apart(llm: fastinfer.LLM, write: Any, tmp_path: Path) -> None:
    long = [asking(f"{number} hello" + " world" * 150, max_tokens=1) for number in range(8)]
    assert fastinfer.run(write(*long), tmp_path / "long.jsonl", using=llm).bottleneck == PREFILL
    short = [asking(str(number), max_tokens=40, ignore_eos=True) for number in range(8)]
    assert fastinfer.run(write(*short), tmp_path / "short.jsonl", using=llm).bottleneck == REPLYING


def test_another_model_in_the_requests_is_remarked_on_once(
    llm: fastinfer.LLM, write: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = llm.provenance.model
    path = write(asking("1", model=mine), asking("2", model="gpt-4o"), asking("3", model="gpt-4o"), asking("4"))
    fastinfer.run(path, tmp_path / "replies.jsonl", using=llm)
    (message,) = [record.getMessage() for record in caplog.records if record.name == "fastinfer.jobs.chat"]
    assert message == f"Line 2 of {path} names the model 'gpt-4o'; {mine!r} answers."


def test_an_engine_that_died_ends_the_job_and_what_was_done_is_kept(babbler: Path, write: Any, tmp_path: Path) -> None:
    output = tmp_path / "replies.jsonl"
    with fastinfer.llm(model=babbler, **EXACT) as dying:
        fastinfer.run(write(asking("hello 1")), output, using=dying)
        path = write(asking("hello 1"), asking("hello 2"))
        dying.close()
        with pytest.raises(EngineDeadError):
            fastinfer.run(path, output, using=dying)
    resumed = fastinfer.run(path, output, model=babbler, **EXACT)
    assert (resumed.reused, resumed.computed) == (1, 1)


def test_a_file_that_cannot_be_answered_is_refused_before_a_model_is_loaded(write: Any, tmp_path: Path) -> None:
    output = tmp_path / "replies.jsonl"
    for source, said in ((tmp_path / "missing.jsonl", "cannot be read"), (write(), "There are no requests")):
        with pytest.raises(MessageError, match=said):
            fastinfer.run(source, output, model=tmp_path / "no model.gguf")
    with pytest.raises(FastInferError, match=r"replies\.parquet"):
        fastinfer.run(write(asking("hello")), tmp_path / "replies.parquet", model=tmp_path / "no model.gguf")


def test_a_file_that_changes_while_it_is_read_is_noticed(write: Any) -> None:
    batch = Batch(write(asking("hello"), asking("hello")))
    lines = batch.lines()
    assert next(lines).custom_id == "r0"
    lines.close()
    write(asking("hello"))
    with pytest.raises(MessageError, match="was changed"):
        list(batch.lines())
