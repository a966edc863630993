"""Questions whose greedy answers do not hang on a hair, each with its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .ledger import Ledger, WrongContent

#: Repeating a beginning or counting makes even a small model sure.
ASKED = (
    "What is the capital of France?",
    "What is two plus two?",
    "What colour is the sky?",
    "Count from one to five.",
    "What is the capital of Italy?",
    "What is the capital of Germany?",
    "Which day comes after Monday?",
    "What is the opposite of hot?",
    "How many days has a week?",
    "Say the alphabet.",
    "Who wrote Hamlet?",
    "Is ice cold?",
    "Repeat after me: one two three four five six seven eight nine ten.",
    "Continue: Monday, Tuesday, Wednesday,",
    "What do bees make?",
    "Name a planet.",
)
#: Longest answer in tokens, and the fewest that are worth asking for.
_LONGEST, _SHORTEST = 40, 3
_FEWEST = 4
GREEDY: dict[str, Any] = {"temperature": 0.0, "repeat_penalty": 1.0}
#: A grammar that leaves two answers, so that every reply ends and parses.
CHOICE = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


def add(a: int, b: int) -> int:
    """Add two whole numbers.

    Args:
        a: the one.
        b: the other.
    """
    return a + b


@dataclass(frozen=True)
class Asked:
    """A conversation and the reply that it had alone, up to where it is clear.

    Attributes:
        messages: the conversation.
        options: of the chat, ``max_tokens`` among them.
        text: the reply.
        logprobs: of its tokens.
        calls: tools that it asked for, in words.
    """

    messages: Any
    options: dict[str, Any]
    text: str
    logprobs: tuple[float, ...]
    calls: str

    def check(self, reply: Any, ledger: Ledger) -> None:
        """Raise WrongContent where a reply is another one."""
        self.check_text(reply.text)
        if _calls(reply) != self.calls:
            raise WrongContent(f"{self.messages!r} asked for the tools {_calls(reply)}, not {self.calls}")
        if reply.logprobs is not None:
            for one, other in zip(reply.logprobs, self.logprobs, strict=True):
                ledger.notice("difference_of_a_logprob", abs(one.logprob - other))

    def check_text(self, text: str) -> None:
        """Raise WrongContent where a text is another one."""
        if text != self.text:
            raise WrongContent(f"{self.messages!r} was answered {text!r}, not {self.text!r}")

    def check_beginning(self, text: str) -> None:
        """Raise WrongContent where what there is of a reply is not how it begins."""
        if not self.text.startswith(text):
            raise WrongContent(f"{self.messages!r} was answered {text!r}, which does not begin {self.text!r}")


def ask_all(llm: Any, gap: float) -> list[Asked]:
    """The questions, asked one at a time before anything else runs, each cut off where the model wavers.

    What shares a batch with a chat moves its log-probabilities a little. A greedy reply can therefore only be held to
    its text as long as the second-best token is further away than that.

    Args:
        llm: the model.
        gap: how much likelier the best token must be than the second, as a difference of natural logarithms.

    Raises:
        SystemExit: the model is sure of too little.
    """
    found = [clear for messages in _conversations() if (clear := _clear(llm, messages, {}, gap)) is not None]
    if len(found) < _FEWEST:
        raise SystemExit(f"only {len(found)} replies have {_SHORTEST} tokens or more that lead by {gap}; lower --gap")
    return found


def with_tools(llm: Any, gap: float) -> Asked | None:
    """A chat that offers a tool, where the model's template has a place for it and its answer is clear."""
    try:
        return _clear(llm, "Use the tool to add 17 and 25.", {"tools": [add]}, gap)
    except ValueError:  # MessageError: the template has none
        return None


def _conversations() -> list[Any]:
    system = {"role": "system", "content": "You are brief. " * 20}
    first = [{"role": "user", "content": ASKED[0]}, {"role": "assistant", "content": "The capital of France is Paris."}]
    turns = [[system, *first, {"role": "user", "content": question}] for question in ASKED[1:7]]
    return [*ASKED, *turns]


def _clear(llm: Any, messages: Any, options: dict[str, Any], gap: float) -> Asked | None:
    asked = {**GREEDY, **options, "max_tokens": _LONGEST}
    reply = llm.chat(messages, logprobs=2, **asked)
    wavering = (at for at, token in enumerate(reply.logprobs) if token.top[0][1] - token.top[1][1] < gap)
    clear = next(wavering, len(reply.logprobs))
    if clear < _SHORTEST:
        return None
    asked["max_tokens"] = clear
    reply = llm.chat(messages, logprobs=2, **asked)
    return Asked(messages, asked, reply.text, tuple(token.logprob for token in reply.logprobs), _calls(reply))


def _calls(reply: Any) -> str:
    return str([(call.name, call.arguments) for call in reply.tool_calls])
