"""A conversation on a terminal: lines in, replies out, and commands that begin with a slash."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastinfer.cli import output
from fastinfer.cli.replies import status, write
from fastinfer.errors import EngineDeadError, FastInferError

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM
    from fastinfer.chat.results import Reply

__all__ = ["Conversation", "ask", "opening_messages"]

_PROMPT, _MORE = "> ", ". "
_SLOTS = (
    output.Column("Slot", justify="right"),
    output.Column("State"),
    output.Column("Prompt tokens", justify="right"),
    output.Column("Replied", justify="right"),
    output.Column("Room", justify="right"),
)


def opening_messages(system: str | None) -> list[dict[str, Any]]:
    """What a conversation begins with."""
    return [{"role": "system", "content": system}] if system else []


def ask(prompt: str) -> str:
    """One line from the terminal, with editing and history where Python has readline.

    Raises:
        EOFError: Ctrl-D.
        KeyboardInterrupt: Ctrl-C.
    """
    with suppress(ImportError):
        import readline  # noqa: F401  input() uses it once it is imported
    if output.on_terminal():
        return input(prompt)
    sys.stderr.write(prompt)  # stdout goes to a file or program, which gets the replies alone
    sys.stderr.flush()
    return input()


class Conversation:
    """One conversation with a model, from the first line to the last.

    Args:
        llm: what ``fastinfer.llm`` returned.
        system: the system message, or None.
        options: passed on to ``llm.stream``.
        read: gives a line for a prompt, as :func:`ask`.
        debug: let errors out, which end the conversation; else they are shown and it goes on.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        read: Callable[[str], str] = ask,
        debug: bool = False,
    ) -> None:
        self._llm, self._system, self._options = llm, system, dict(options or {})
        self._read, self._debug = read, debug
        self._turns: list[dict[str, Any]] = []
        self._last: Reply | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/clear": self._clear,
            "/system": self._set_system,
            "/stats": self._stats,
        }

    def run(self) -> None:
        """Answer lines until the user leaves.

        Raises:
            EngineDeadError: the engine has died; no other line could be answered.
        """
        leaving = False
        while True:
            try:
                line = self._line()
            except EOFError:
                output.note("")
                return
            except KeyboardInterrupt:
                if leaving:
                    output.note("")
                    return
                leaving = True
                output.note("\nCtrl-C again leaves; so do Ctrl-D and /exit.")
                continue
            leaving = False
            word, _, rest = line.partition(" ")
            if word in ("/exit", "/quit"):
                return
            if word in self._commands:
                self._commands[word](rest.strip())
            elif word.startswith("/") and word[1:].isalpha():
                output.note(f"There is no command {output.clean(word)}; /help lists them.")
            elif line:
                self._answer(line)

    def _line(self) -> str:
        """A line of the user; a backslash at its end continues it on the next."""
        line = self._read(_PROMPT)
        while line.endswith("\\"):
            line = f"{line[:-1]}\n{self._read(_MORE)}"
        return line.strip()

    def _answer(self, text: str) -> None:
        asked = {"role": "user", "content": text}
        messages = [*opening_messages(self._system), *self._turns, asked]
        try:
            reply = write(self._llm.stream(messages, **self._options))
        except KeyboardInterrupt:
            output.note("\nstopped")
            return
        except FastInferError as error:
            # A question without an answer is not kept: the next one may well be answered.
            if self._debug or isinstance(error, EngineDeadError):
                raise
            output.error(str(error))
            return
        self._last = reply
        if reply.text.strip():
            self._turns += [asked, reply.message]
        output.note(status(reply))

    def _help(self, _: str) -> None:
        output.note(
            "/clear        forget the conversation\n"
            "/system TEXT  set the system message; without TEXT remove it\n"
            "/stats        show the engine's slots and the last reply's speed\n"
            "/exit         leave; so does Ctrl-D\n"
            "Ctrl-C stops a reply. A backslash at the end of a line continues it on the next."
        )

    def _clear(self, _: str) -> None:
        self._turns.clear()
        output.note("The conversation is forgotten.")

    def _set_system(self, text: str) -> None:
        self._system = text or None
        output.note("The system message is set." if text else "There is no system message now.")

    def _stats(self, _: str) -> None:
        with output.rows(_SLOTS) as add:
            for slot in self._llm.slots():
                add(*map(str, _slot_cells(slot)))
        output.note(f"last reply: {status(self._last)}" if self._last is not None else "no reply yet")


def _slot_cells(slot: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        slot["id"],
        "busy" if slot["is_processing"] else "idle",
        slot.get("n_prompt_tokens", 0),
        slot.get("next_token", {}).get("n_decoded", 0),
        slot["n_ctx"],
    )
