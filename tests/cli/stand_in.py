"""A chat model that answers from a script, for what ``fastinfer chat`` itself does.

Run as a program it is the command line with this model behind it: ``python stand_in.py chat ...``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from fastinfer.chat.results import ChatTimings, Piece, Reply, Usage
from fastinfer.errors import EngineDeadError, PromptTooLongError
from fastinfer.interrupts import slices
from fastinfer.provenance import Adjustment, Provenance

PROVENANCE = Provenance(
    engine="stand-in",
    model="script",
    preset="embedded",
    fingerprint="0" * 16,
    device="CPU",
    kernel_path="none",
    adjustments=(Adjustment("parallel", 8, 1, "it has one"),),
)


class Stream:
    """Pieces, and a reply at the end."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces, self._seen, self.closed = pieces, [], False

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        if self.closed:
            raise StopIteration
        piece = next(self._pieces)
        self._seen.append(piece)
        return piece

    def close(self) -> None:
        self.closed = True

    @property
    def reply(self) -> Reply:
        text = "".join(piece for piece in self._seen if piece.kind == "text")
        reasoning = "".join(piece for piece in self._seen if piece.kind == "reasoning")
        if self.closed:
            return Reply(text, reasoning, "cancelled", provenance=PROVENANCE)
        return Reply(
            text,
            reasoning,
            "length" if "long" in text else "stop",
            Usage(30, 20, len(self._seen)),
            ChatTimings(1.0, 41.0, 500.0, 12.34),
            provenance=PROVENANCE,
        )


class StandIn:
    """Does what the user's message says, else repeats it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments, self.options = arguments, options
        self.provenance = PROVENANCE
        self.asked: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []
        self.streams: list[Stream] = []
        self.closed = False

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def stream(self, messages: list[dict[str, Any]], **options: Any) -> Stream:
        self.asked.append((messages, options))
        self.streams.append(Stream(self._pieces(messages[-1]["content"])))
        return self.streams[-1]

    def chat(self, messages: list[dict[str, Any]], **options: Any) -> Reply:
        stream = self.stream(messages, **options)
        for _ in stream:
            pass
        return stream.reply

    def slots(self) -> list[dict[str, Any]]:
        busy = {"id": 0, "n_ctx": 512, "is_processing": True, "n_prompt_tokens": 30, "next_token": {"n_decoded": 7}}
        return [busy, {"id": 1, "n_ctx": 512, "is_processing": False}]

    def _pieces(self, text: str) -> Iterator[Piece]:
        if text == "fail":
            raise PromptTooLongError("The prompt is too long.", tokens=9, limit=8, hint="Shorten it.")
        if text == "die":
            raise EngineDeadError("The engine is dead.")
        if text == "interrupt":
            raise KeyboardInterrupt
        if text == "nothing":
            return
        if text == "think":
            yield Piece("\n", "reasoning")
            yield Piece("\nHm.\n", "reasoning")
            yield Piece(" Well.", "reasoning")
            yield Piece("\n\n")
        for word in text.split(" "):
            if word == "wait":
                yield Piece("waiting")
                for seconds in slices(60):
                    time.sleep(seconds)
            if word == "stop":
                raise KeyboardInterrupt
            yield Piece(f"{word} ")


if __name__ == "__main__":
    import fastinfer
    from fastinfer.cli import main

    fastinfer.llm = StandIn
    main()
