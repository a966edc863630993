"""A client that leaves while its long prompt is read: how long the slot stays taken, and what the next one waits.

    python -m benchmarks.reliability.cancelled_prompt --binaries build/bench-cpu/bin

One slot each, llama-server and fastinfer with the same context, batches and threads, in turn. The prompt of the one
that leaves fills most of the context; it leaves half a second after it asked. A short question comes right behind it.
"""

from __future__ import annotations

# Before anything that imports numpy: a build with a C++ library of its own crashes loading a model otherwise.
import llama_cpp  # noqa: F401  isort: skip

import argparse
import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastinfer
from fastinfer.models.embedded_chat import embedded_chat

from ..chat.profile import PROFILES
from ..chat.prompts import Prompts
from ..chat.server import LlamaServer
from ..common import save, spread
from . import trying

TEMPLATE = Path(__file__).parents[1] / "chat/plain.jinja"
SHORT = "What is the capital of France?"
_REPLY = 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.cancelled_prompt", description=__doc__)
    parser.add_argument("--binaries", type=Path, required=True, help="the folder with llama-server")
    parser.add_argument("--model", type=Path, help="a GGUF file; else the extra embedded-chat's")
    parser.add_argument("--tokens", type=int, default=6000, help="of the prompt that is left")
    parser.add_argument("--leave", type=float, default=0.5, help="seconds after which its client leaves")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=PROFILES["embedded"].threads)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/reliability_cancelled_prompt.json"))
    return parser.parse_args()


class Server:
    """llama-server with one slot, and a client whose connection can be closed."""

    def __init__(self, server: LlamaServer, stream: bool) -> None:
        self._port = int(server.command[server.command.index("--port") + 1])
        self._stream = stream

    def leave(self, prompt: str, after: float) -> None:
        """Ask, and close the connection while the prompt is read."""
        connection = self._ask(prompt, 64, self._stream)
        time.sleep(after)
        connection.close()

    def busy(self) -> bool:
        """Whether the slot is taken, by ``/slots``."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection.request("GET", "/slots")
        slots = json.loads(connection.getresponse().read())
        connection.close()
        return bool(slots[0]["is_processing"])

    def answer(self) -> None:
        """A short question, waited for."""
        connection = self._ask(SHORT, _REPLY, False)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        if response.status != 200 or not answer["choices"][0]["message"]["content"]:
            raise RuntimeError(f"llama-server answered {response.status}: {answer}")

    def stay(self, prompt: str) -> None:
        """Ask, and wait for a token."""
        connection = self._ask(prompt, 1, False)
        connection.getresponse().read()
        connection.close()

    def _ask(self, prompt: str, tokens: int, stream: bool) -> http.client.HTTPConnection:
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        sent = json.dumps({**body, "stream": stream, "ignore_eos": True})
        connection.request("POST", "/v1/chat/completions", sent, {"Content-Type": "application/json"})
        return connection


class Ours:
    """fastinfer with one slot."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def leave(self, prompt: str, after: float) -> None:
        """Ask, and close the stream while the prompt is read."""
        stream = self._llm.stream(prompt, max_tokens=64, temperature=0.0, ignore_eos=True)
        time.sleep(after)
        stream.close()

    def stay(self, prompt: str) -> None:
        """Ask, and wait for a token."""
        self._llm.chat(prompt, max_tokens=1, temperature=0.0)

    def busy(self) -> bool:
        """Whether the slot is taken."""
        return bool(self._llm.slots()[0]["is_processing"])

    def answer(self) -> None:
        """A short question, waited for."""
        if not self._llm.chat(SHORT, max_tokens=_REPLY, temperature=0.0, ignore_eos=True).text:
            raise RuntimeError("fastinfer answered nothing")


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def left_alone(side: Server | Ours, prompt: str, leave: float) -> float:
    """Seconds that the slot stays taken after its client has left."""
    side.leave(prompt, leave)
    begun = time.perf_counter()
    while side.busy():
        time.sleep(0.01)
    return time.perf_counter() - begun


def next_one(side: Server | Ours, prompt: str, leave: float) -> float:
    """Seconds to the answer of a short question that comes right after the client has left."""
    side.leave(prompt, leave)
    return seconds(side.answer)


def whole_prompt(side: Server | Ours, prompt: str) -> float:
    """Seconds to the answer of a short question while nobody leaves: it waits for the long prompt to be read."""
    threads = [threading.Thread(target=side.stay, args=(prompt,))]
    threads[0].start()
    time.sleep(0.5)
    waited = seconds(side.answer)
    threads[0].join()
    return waited


def main() -> None:
    a = arguments()
    model = a.model or embedded_chat().model
    profile = replace(PROFILES["embedded"], slots=1, threads=a.threads)
    prompts = Prompts(model)
    measured: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        server = LlamaServer(a.binaries, model, profile, TEMPLATE, a.output.with_suffix(".server.log"), 120.0)
        stack.callback(server.close)
        llm = stack.enter_context(
            fastinfer.llm(model=str(model), parallel=1, n_threads=profile.threads, chat_template=str(TEMPLATE))
        )
        sides: dict[str, Server | Ours] = {
            "llama_server_stream": Server(server, stream=True),
            "llama_server_whole_answer": Server(server, stream=False),
            "fastinfer": Ours(llm),
        }
        for side in sides.values():
            side.answer()
        for number in range(a.rounds):
            for name in list(sides)[:: 1 if number % 2 else -1]:
                side = sides[name]
                # Never the same text twice, or the cache would have it.
                figures = {
                    "slot_taken_after_leaving": left_alone(side, prompts.text(a.tokens), a.leave),
                    "next_answer_after_leaving": next_one(side, prompts.text(a.tokens), a.leave),
                    "next_answer_with_an_idle_slot": seconds(side.answer),
                    "next_answer_while_nobody_leaves": whole_prompt(side, prompts.text(a.tokens)),
                }
                print(name, {what: round(value, 2) for what, value in figures.items()}, file=sys.stderr, flush=True)
                for what, value in figures.items():
                    measured.setdefault(name, {}).setdefault(what, []).append(value)
        figures_of_all = {
            "model": Path(model).name,
            "llama_server": {**server.info, "command": re.sub(r"/\S*/", "", server.info["command"])},
            "prompt_tokens": a.tokens,
            "leaves_after_seconds": a.leave,
            "rounds": a.rounds,
            "seconds": {name: {what: spread(each) for what, each in found.items()} for name, found in measured.items()},
        }
    save("reliability_cancelled_prompt", trying.command("cancelled_prompt"), figures_of_all, a.output)


if __name__ == "__main__":
    main()
