"""The thread that owns the requests: whatever order a GPU answers in, every image gets the scores of its own labels.

What computes is a table here: next-token scores that depend on the image and on the tokens so far. What TurboMind
itself computes is tested on a GPU.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from fastinfer.engines.base import Task
from fastinfer.engines.scoring import LabelTrie
from fastinfer.engines.turbomind.answer_tokens import AnswerTokens
from fastinfer.engines.turbomind.binding import Outcome, Picture, Ticket
from fastinfer.engines.turbomind.engine import TurbomindClassifyEngine
from fastinfer.engines.turbomind.prompt import PromptTokens
from fastinfer.engines.turbomind.rows import RowScores
from fastinfer.errors import EngineDeadError, EngineError, PromptTooLongError
from fastinfer.images.prepared import PreparedImage

VOCABULARY, END, IMAGE_TOKENS = 12, 1, 4
PROMPT = PromptTokens((2, 3), (4, 5, 6), 0, "")


def row_after(image, path):
    """Log-probabilities of the next token."""
    scores = np.random.default_rng([image, 7, *path]).normal(0, 3, VOCABULARY)
    return scores - np.log(np.exp(scores).sum())


class Table:
    """Answers in random order and in batches of random size, from a thread of its own."""

    version = "0.18.0"

    def __init__(self, seed=0, fails=()):
        self._random, self._fails = random.Random(seed), set(fails)
        self._numbers = itertools.count()
        self._work: queue.SimpleQueue = queue.SimpleQueue()
        self.at_once, self.most_at_once, self.closed, self.holds = 0, 0, False, threading.Event()
        self.holds.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def picture(self, image, offset):
        assert offset == len(PROMPT.before)
        return Picture(int(image.data[0]), None, offset, image.tokens, b"")

    def submit(self, tokens, picture, *, most_tokens, end_tokens, subject, done):
        whole = PROMPT.around(IMAGE_TOKENS)
        assert tokens[: len(whole)] == whole
        ticket = Ticket(None, len(tokens), subject)
        ticket.state = (picture.pixels, tuple(tokens[len(whole) :]), most_tokens, tuple(end_tokens))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._work.put((ticket, done))
        return ticket

    def collect(self, ticket):
        self.at_once -= 1
        image, path, most, ends = ticket.state
        if image in self._fails:
            return EngineError("The table has no such image.")
        made, rows = [], []
        while len(made) < most:
            rows.append(row_after(image, (*path, *made)))
            made.append(int(rows[-1].argmax()))
            if made[-1] in ends:
                break
        return Outcome(made, rows)

    def cancel(self, ticket):
        pass

    def close(self):
        self.closed = True
        self._work.put(None)

    def _run(self):
        waiting = []
        while True:
            waiting.append(self._work.get())
            self.holds.wait(10)
            while not self._work.empty():
                waiting.append(self._work.get())
            if None in waiting:
                return
            self._random.shuffle(waiting)
            count = self._random.randint(1, len(waiting))
            for ticket, done in waiting[:count]:
                for _ in range(self._random.randint(1, 2)):  # TurboMind may call twice
                    done(ticket)
            waiting = waiting[count:]
            for left in waiting:
                self._work.put(left)
            waiting = []


class Read:
    hidden, path = False, "a table"

    def score(self, rows, wanted):
        return [RowScores(row[ask.tokens], float(row[END])) for row, ask in zip(rows, wanted, strict=True)]

    def close(self):
        self.closed = True


class Words(AnswerTokens):
    """Labels are digits, a token each."""

    def __init__(self):
        self.end_tokens = (END,)

    def render(self, text, opening=""):
        return PROMPT

    def answer(self, label, lead):
        return [int(letter) for letter in label]

    def text_of(self, tokens):
        return "".join(map(str, tokens))


@dataclass
class Whole:
    image_size, most_tokens = (1, 1), IMAGE_TOKENS

    def tokens(self, width, height):
        return IMAGE_TOKENS

    def prepare(self, pixels):
        raise AssertionError("images come prepared")


def prepared(image):
    return PreparedImage(np.full(1, image, np.uint16), IMAGE_TOKENS, None)


@pytest.fixture
def make():
    made = []

    def build(*, tolerance=0.0, in_flight=8, slots=32, limit=100, **options):
        table, rows = Table(**options), Read()
        engine = TurbomindClassifyEngine(
            table, rows, Words(), Whole(), request_limit=limit, in_flight=in_flight, slots=slots,
            label_tolerance=tolerance, device="table",
        )  # fmt: skip
        made.append(engine)
        return SimpleNamespace(engine=engine, table=table, rows=rows)

    yield build
    for engine in made:
        engine.close()


def by_definition(image, labels):
    scores = []
    for label in labels:
        total = sum(row_after(image, label[:at])[token] for at, token in enumerate(label))
        if any(other != label and other[: len(label)] == label for other in labels):
            total += row_after(image, label)[END]
        scores.append(total)
    return scores


def label_sets(count, seed):
    chance = random.Random(seed)
    for _ in range(count):
        size = chance.randint(1, 20)
        yield list(dict.fromkeys(tuple(chance.choices(range(2, 10), k=chance.randint(1, 4))) for _ in range(size)))


@pytest.mark.parametrize("seed", range(4))
def test_every_image_gets_the_scores_of_its_own_labels(make, seed):
    own = make(seed=seed)
    tasks = [(labels, Task("What?", LabelTrie(labels), 5)) for labels in label_sets(6, seed)]
    asked = [(image, *tasks[image % len(tasks)]) for image in range(90)]
    futures = [own.engine.submit(prepared(image), task) for image, _, task in asked]
    for future, (image, labels, _) in zip(futures, asked, strict=True):
        scores = future.result(30)
        np.testing.assert_allclose(scores.labels, by_definition(image, labels), rtol=1e-9)
        assert scores.naming is None
        assert scores.prompt_tokens == len(PROMPT) + IMAGE_TOKENS
    assert own.table.most_at_once <= 32


def test_images_and_their_further_rows_are_handed_over_up_to_a_limit_each(make):
    own = make(in_flight=2, slots=7)
    for labels, limit in ([(2,), (3,)], 2), ([(first, 2) for first in range(2, 10)], 7):
        own.table.holds.clear()
        futures = [own.engine.submit(prepared(image), Task("What?", LabelTrie(labels), 5)) for image in range(5)]
        own.table.holds.set()
        for image, future in enumerate(futures):
            np.testing.assert_allclose(future.result(30).labels, by_definition(image, labels), rtol=1e-9)
        assert own.table.most_at_once == limit


def test_names_are_cut_at_their_limit_and_end_where_the_model_ends(make):
    own = make()
    for limit in (1, 3, 30):
        task = Task("What?", None, limit)
        for image in range(12):
            naming = own.engine.submit(prepared(image), task).result(30).naming
            kept, total, complete = [], 0.0, False
            for _ in range(limit + 1):
                row = row_after(image, kept)
                token = int(row.argmax())
                complete = token == END
                if complete or len(kept) < limit:
                    total += row[token]
                if complete or len(kept) == limit:
                    break
                kept.append(token)
            assert (naming.text, naming.complete) == ("".join(map(str, kept)), complete)
            assert naming.probability == pytest.approx(np.exp(total))


def test_an_image_that_fails_harms_no_other(make):
    own = make(fails={3, 20})
    labels = [(2,), (3, 4), (3, 5), (6, 7)]
    task = Task("What?", LabelTrie(labels), 5)
    futures = [own.engine.submit(prepared(image), task) for image in range(30)]
    for image, future in enumerate(futures):
        if image in (3, 20):
            with pytest.raises(EngineError, match="no such image"):
                future.result(30)
        else:
            np.testing.assert_allclose(future.result(30).labels, by_definition(image, labels), rtol=1e-9)


def test_a_request_over_the_limit_names_its_parts(make):
    own = make(limit=len(PROMPT) + IMAGE_TOKENS + 1)
    own.engine.submit(prepared(0), Task("What?", LabelTrie([(2, 3), (2, 4)]), 5)).result(30)
    with pytest.raises(PromptTooLongError) as caught:
        own.engine.submit(prepared(0), Task("What?", LabelTrie([(2, 3, 4), (2, 3, 5)]), 5))
    assert (caught.value.tokens, caught.value.limit) == (11, 10)


def test_closing_answers_everyone_and_frees_the_model(make):
    own = make()
    own.table.holds.clear()
    task = Task("What?", LabelTrie([(2, 3), (4, 5)]), 5)
    futures = [own.engine.submit(prepared(image), task) for image in range(40)]
    closing = threading.Thread(target=own.engine.close)
    closing.start()
    own.table.holds.set()
    closing.join(30)
    assert not closing.is_alive()
    assert not wait(futures, 30).not_done
    for future in futures:
        error = future.exception()
        assert error is None or isinstance(error, EngineDeadError)
    assert own.table.closed
    assert own.rows.closed
    with pytest.raises(EngineDeadError):
        own.engine.submit(prepared(0), task)


def test_what_is_cancelled_before_its_turn_is_never_handed_over(make):
    own = make(in_flight=1)
    own.table.holds.clear()
    task = Task("What?", LabelTrie([(2,), (4,)]), 5)
    first = own.engine.submit(prepared(0), task)
    own.engine.tokenize_label("2", "What?")
    late = [own.engine.submit(prepared(image), task) for image in range(1, 6)]
    cancelled = [future.cancel() for future in late]
    own.table.holds.set()
    assert first.result(30).labels is not None
    for future, was in zip(late, cancelled, strict=True):
        if was:
            with pytest.raises(CancelledError):
                future.result(30)
        else:
            assert future.result(30).labels is not None


def test_an_engine_that_dies_says_so_to_everyone(make, monkeypatch):
    own = make()
    monkeypatch.setattr(own.rows, "score", lambda rows, wanted: 1 / 0)
    task = Task("What?", LabelTrie([(2,), (4,)]), 5)
    futures = [own.engine.submit(prepared(image), task) for image in range(5)]
    for future in futures:
        error = future.exception(30)
        assert isinstance(error, EngineDeadError)
        assert isinstance(error.__cause__, ZeroDivisionError)
    with pytest.raises(EngineDeadError):
        own.engine.submit(prepared(0), task)
