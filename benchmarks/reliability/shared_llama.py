"""One model asked by several threads at once: llama-cpp-python's ``Llama``, and ``fastinfer.llm``.

    python -m benchmarks.reliability.shared_llama --output benchmarks/results/reliability_shared_llama.json

Every try is a process of its own, whose threads ask questions at once and compare the texts with those that fastinfer
gives one at a time; with one thread ``Llama`` is held to the same. The questions and lengths are those whose greedy
tokens lead clearly (``benchmarks/soak/chats.py``), so that what shares a batch cannot change them.
"""

from __future__ import annotations

# Before anything that imports numpy: a build with a C++ library of its own crashes loading a model otherwise.
import llama_cpp  # isort: skip

import argparse
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastinfer
from fastinfer.models.embedded_chat import embedded_chat

from ..common import save
from ..soak.chats import GREEDY, ask_all
from . import trying

TEMPLATE = Path(__file__).parents[1] / "chat/plain.jinja"
_GAP = 0.5
#: A thread each, so that nothing waits for a core that other work has.
_OPEN = {"n_ctx": 2048, "n_threads": 1}
_QUESTIONS, _TOKENS = 6, 8
#: Questions of each thread.
_EACH = 4

Ask = Callable[[str, int], str]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.shared_llama", description=__doc__)
    parser.add_argument("--model", help="a GGUF file; else the extra embedded-chat's")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--limit", type=float, default=300, help="seconds of a try before it counts as hanging")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/reliability_shared_llama.json"))
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def questions(model: str) -> list[tuple[str, int, str]]:
    """Questions with the tokens to generate, and the text that fastinfer gives alone."""
    with fastinfer.llm(model=model, chat_template=str(TEMPLATE), **_OPEN) as llm:
        asked = [one for one in ask_all(llm, _GAP) if isinstance(one.messages, str)][:_QUESTIONS]
        lengths = [min(_TOKENS, one.options["max_tokens"]) for one in asked]
        return [
            (one.messages, tokens, llm.chat(one.messages, max_tokens=tokens, **GREEDY).text)
            for one, tokens in zip(asked, lengths, strict=True)
        ]


def open_llama(model: str) -> Ask:
    """The bare object as its documentation shows it."""
    llama = llama_cpp.Llama(model, **_OPEN, verbose=False)

    def ask(question: str, tokens: int) -> str:
        prompt = f"User: {question}\nAssistant:"
        answer = llama.create_completion(prompt, max_tokens=tokens, **GREEDY)
        return str(answer["choices"][0]["text"])

    return ask


def open_ours(model: str) -> Ask:
    """The same model and prompt."""
    llm = fastinfer.llm(model=model, chat_template=str(TEMPLATE), **_OPEN)

    def ask(question: str, tokens: int) -> str:
        return llm.chat(question, max_tokens=tokens, **GREEDY).text

    return ask


def child(what: dict[str, Any]) -> None:
    """One try."""
    ask = {"llama": open_llama, "fastinfer": open_ours}[what["side"]](what["model"])
    asked = what["questions"]
    start = threading.Barrier(what["threads"])

    def work(number: int) -> list[str]:
        start.wait()
        ended = []
        for at in range(_EACH):
            question, tokens, text = asked[(number + at) % len(asked)]
            try:
                ended.append("right" if ask(question, tokens) == text else "wrong")
            except Exception as error:  # noqa: BLE001  what is raised is what is asked
                ended.append(f"error: {type(error).__name__}: {str(error)[:80]}")
        return ended

    with ThreadPoolExecutor(what["threads"]) as pool:
        counts = Counter(end for ends in pool.map(work, range(what["threads"])) for end in ends)
    errors = [end for end in counts if end.startswith("error")]
    outcome = "wrong" if counts["wrong"] else ": ".join(errors[0].split(": ")[:2]) if errors else "right"
    trying.tell({"outcome": outcome, "texts": dict(counts)})


def tried(side: str, threads: int, tries: int, common: dict[str, Any], limit: float) -> dict[str, Any]:
    """Many tries of one kind, in short."""
    what = {**common, "side": side, "threads": threads}
    outcomes: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    said: dict[str, str] = {}
    for _ in range(tries):
        one = trying.run(__spec__.name, what, limit)
        outcomes[one.outcome] += 1
        texts.update((one.found or {}).get("texts", {}))
        if one.outcome != "right" and one.outcome not in said:
            said[one.outcome] = one.said
        print(f"{side}, {threads} threads: {one.outcome} after {one.seconds} s", file=sys.stderr, flush=True)
    return {"tries": tries, "outcomes": dict(outcomes), "texts_of_tries_that_ended": dict(texts), "said": said}


def main() -> None:
    a = arguments()
    if a.child is not None:
        child(a.child)
        return
    model = a.model or str(embedded_chat().model)
    asked = questions(model)
    common = {"model": model, "questions": asked}
    few = max(1, a.tries // 4)
    figures: dict[str, Any] = {
        "model": Path(model).name,
        "questions": len(asked),
        "questions_a_thread": _EACH,
        "llama": {str(n): tried("llama", n, tries, common, a.limit) for n, tries in ((2, a.tries), (1, few))},
        "fastinfer": {str(n): tried("fastinfer", n, few, common, a.limit) for n in (2, 8, 64)},
    }
    save("reliability_shared_llama", trying.command("shared_llama"), figures, a.output)


if __name__ == "__main__":
    main()
