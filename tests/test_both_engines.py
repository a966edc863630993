"""Both engines in one process, asked by everyone at once: each gets the answer to its own question."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import EngineDeadError, ImageDecodeError, RequestTimeoutError

SETS = (
    ["red circle", "red square", "blue triangle"],
    ["circle", "square", "triangle", "line"],
    ["red", "green", "blue"],
)
QUESTIONS = [f"hello {'world ' * (i % 5)}{i}" for i in range(12)]
ASKED = {"seed": 3, "max_tokens": 4}
#: Exact whatever shares a batch: no rounding in the cache, no flash attention, one thread.
EXACT = {"n_ctx": 4096, "n_batch": 512, "n_ubatch": 512, "type_k": "f32", "type_v": "f32", "flash_attn": False,
         "n_threads": 1}  # fmt: skip
#: One thread each, which do not wait for each other when tests run beside other work.
TWO_WORKERS: dict[str, Any] = {"workers": 2, "n_threads": 1}
ENDLESS = {"max_tokens": 0, "ignore_eos": True}


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns every microsecond, where they would after five thousand."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@dataclass
class Both:
    """Both engines, and what each question was answered with when it was asked alone."""

    classifier: Any
    llm: Any
    pictures: list[Any]
    classes: dict[tuple[int, int], Any]
    texts: dict[str, str]
    same: Callable[..., None]

    def classify(self, chance: random.Random) -> None:
        picture, names = chance.randrange(len(self.pictures)), chance.randrange(len(SETS))
        answer = self.classifier.classify(self.pictures[picture], labels=SETS[names])
        self.same(answer, self.classes[picture, names])

    def classify_many(self, chance: random.Random) -> None:
        names = chance.randrange(len(SETS))
        chosen = chance.choices(range(len(self.pictures)), k=4)
        images = [self.pictures[at] for at in chosen]
        images.insert(2, b"no picture")
        answers = list(self.classifier.classify_many(images, labels=SETS[names], errors="return"))
        for answer in answers:
            if isinstance(answer.error, EngineDeadError):
                raise answer.error
        assert isinstance(answers.pop(2).error, ImageDecodeError)
        for at, answer in zip(chosen, answers, strict=True):
            self.same(answer, self.classes[at, names])

    def change_labels(self, chance: random.Random) -> None:
        # Others change them too: the answer has one of the sets, and is right for that one.
        self.classifier.labels = chance.choice(SETS)
        picture = chance.randrange(len(self.pictures))
        answer = self.classifier.classify(self.pictures[picture])
        names = [set(labels) for labels in SETS].index(set(answer.probabilities))
        self.same(answer, self.classes[picture, names])

    def chat(self, chance: random.Random) -> None:
        question = chance.choice(QUESTIONS)
        assert self.llm.chat(question, **ASKED).text == self.texts[question]

    def stream(self, chance: random.Random) -> None:
        question = chance.choice(QUESTIONS)
        assert "".join(self.llm.stream(question, **ASKED)) == self.texts[question]

    def chat_many(self, chance: random.Random) -> None:
        asked = chance.choices(QUESTIONS, k=5)
        replies = [reply.text for reply in self.llm.chat_many(asked, **ASKED)]
        assert replies == [self.texts[question] for question in asked]

    def lose_interest(self, chance: random.Random) -> None:
        stream = self.llm.stream(chance.choice(QUESTIONS), **ENDLESS)
        if chance.random() < 0.5:
            next(stream)
        if chance.random() < 0.5:
            stream.close()
        with pytest.raises(RequestTimeoutError):
            self.llm.chat(chance.choice(QUESTIONS), timeout=0.005, **ENDLESS)
        next(self.classifier.classify_many(self.pictures, labels=SETS[0]))

    def tasks(self, chance: random.Random) -> None:
        asyncio.run(self.gather(chance, images=2, chats=6))

    def look(self, _: random.Random) -> None:
        assert len(self.llm.slots()) == 4
        assert self.llm.metrics()["llamacpp:requests_processing"] <= 4
        assert "LLM" in repr(self.llm)
        assert "Classifier" in repr(self.classifier)
        assert self.llm.count_tokens("hello") > 0

    async def gather(self, chance: random.Random, *, images: int, chats: int) -> None:
        """So many at once in one event loop, each checked."""

        async def classify() -> None:
            picture, names = chance.randrange(len(self.pictures)), chance.randrange(len(SETS))
            answer = await self.classifier.aclassify(self.pictures[picture], labels=SETS[names])
            self.same(answer, self.classes[picture, names])

        async def chat(question: str) -> None:
            assert (await self.llm.achat(question, **ASKED)).text == self.texts[question]

        async def stream(question: str) -> None:
            text = "".join([piece async for piece in self.llm.astream(question, **ASKED)])
            assert text == self.texts[question]

        waiting = [classify() for _ in range(images)]
        waiting += [chance.choice((chat, stream))(chance.choice(QUESTIONS)) for _ in range(chats)]
        chance.shuffle(waiting)
        await asyncio.gather(*waiting)

    @property
    def ways(self) -> tuple[Callable[[random.Random], None], ...]:
        """Everything that threads do with the two."""
        return (
            *(self.classify, self.classify_many, self.change_labels, self.chat, self.stream, self.chat_many),
            *(self.lose_interest, self.tasks, self.look),
        )

    def all_at_once(self, threads: int, times: int, ending: type[Exception] | None = None) -> int:
        """Every thread does things in an order of its own; returns how many were done and right."""
        start = threading.Barrier(threads)

        def work(seed: int) -> int:
            chance, done = random.Random(seed), 0
            start.wait()
            for number in range(times):
                try:
                    self.ways[(seed + number) % len(self.ways)](chance)
                    done += 1
                except Exception as error:
                    if ending is None or not isinstance(error, ending):
                        raise
            return done

        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(work, range(threads)))

    def close_from(self, threads: int) -> None:
        """Close both from several threads at once."""
        with ThreadPoolExecutor(2 * threads) as pool:
            for closing in [pool.submit(one.close) for one in (self.llm, self.classifier) * threads]:
                closing.result(20)


@pytest.fixture(scope="module")
def model(babbler: Any) -> Iterator[Callable[[], Any]]:
    """Open the babbling model; no file or variable of this machine has a say in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FASTINFER_PRESETS", "FASTINFER_CHAT_MODEL", "FASTINFER_CLASSIFY_MODEL"):
            patch.delenv(name, raising=False)
        yield lambda: fastinfer.llm(model=babbler, **EXACT)


@pytest.fixture(scope="module")
def both(model: Any, pictures: Any, same: Any) -> Iterator[Both]:
    with model() as llm, fastinfer.classifier(labels=SETS[0], **TWO_WORKERS) as classifier:
        classes = {
            (picture, names): classifier.classify(image, labels=labels)
            for picture, image in enumerate(pictures)
            for names, labels in enumerate(SETS)
        }
        texts = {question: llm.chat(question, **ASKED).text for question in QUESTIONS}
        yield Both(classifier, llm, pictures, classes, texts, same)


@pytest.fixture
def another(both: Both, model: Any) -> Iterator[Callable[[], Both]]:
    """Both once more, to be closed."""
    made: list[Both] = []

    def make() -> Both:
        made.append(replace(both, classifier=fastinfer.classifier(labels=SETS[0], **TWO_WORKERS), llm=model()))
        return made[-1]

    yield make
    for one in made:
        one.close_from(1)


@pytest.mark.usefixtures("hasty")
def test_sixty_four_threads_do_everything_at_once(both: Both) -> None:
    assert both.all_at_once(64, 1) == 64


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_sixty_four_threads_do_everything_at_once_for_long(both: Both) -> None:
    assert both.all_at_once(64, 9) == 64 * 9


async def test_hundreds_of_tasks_at_once(both: Both) -> None:
    await both.gather(random.Random(1), images=40, chats=260)


@pytest.mark.slow
async def test_a_thousand_tasks_at_once(both: Both) -> None:
    for seed in range(3):
        await both.gather(random.Random(seed), images=500, chats=500)


def test_two_event_loops_in_two_threads(both: Both) -> None:
    def loop(seed: int) -> None:
        asyncio.run(both.gather(random.Random(seed), images=15, chats=60))

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(loop, seed) for seed in range(2)]:
            running.result(60)


def close_while_everything_runs(both: Both, after: float) -> None:
    """Close both meanwhile: whoever is at it gets the right answer or is told that the engine is closed."""
    done: list[int] = []
    working = threading.Thread(target=lambda: done.append(both.all_at_once(24, 6, EngineDeadError)))
    working.start()
    time.sleep(after)
    both.close_from(2)
    working.join(20)
    assert not working.is_alive()
    assert len(done) == 1
    assert done[0] < 24 * 6
    for use in (lambda: both.llm.chat("hello"), lambda: both.classifier.classify(both.pictures[0])):
        with pytest.raises(EngineDeadError, match="closed"):
            use()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("after", [0.0, 0.15])
def test_closing_races_with_everything(another: Callable[[], Both], after: float) -> None:
    close_while_everything_runs(another(), after)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("number", range(30))
def test_closing_races_with_everything_at_any_moment(another: Callable[[], Both], number: int) -> None:
    close_while_everything_runs(another(), random.Random(number).random() * 0.5)
