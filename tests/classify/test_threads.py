"""Many callers at once: each gets the answer to its own question."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

SETS = [
    ["red circle", "red square", "blue triangle"],
    ["circle", "square", "triangle", "line"],
    ["red", "green", "blue", "black"],
    ["apple", "apple pie"],
    None,
]


def test_sixteen_threads_with_mixed_label_sets_get_their_own_answers(shared, pictures, same):
    questions = [(image, labels) for image in pictures for labels in SETS]
    expected = [shared.classify(image, labels=labels) for image, labels in questions]
    start = threading.Barrier(16)

    def ask(seed):
        order = random.Random(seed).sample(range(len(questions)), len(questions))
        start.wait()
        return [(at, shared.classify(questions[at][0], labels=questions[at][1], timeout=120)) for at in order]

    with ThreadPoolExecutor(16) as pool:
        for answers in pool.map(ask, range(16)):
            for at, answer in answers:
                same(answer, expected[at])


async def test_mixed_label_sets_at_once_from_one_loop(shared, pictures, same):
    questions = [(image, labels) for image in pictures for labels in SETS] * 3
    expected = [shared.classify(image, labels=labels) for image, labels in questions]
    answers = await asyncio.gather(*[shared.aclassify(image, labels=labels) for image, labels in questions])
    for answer, one in zip(answers, expected, strict=True):
        same(answer, one)


def test_requests_that_come_together_are_computed_together(fresh, pictures):
    classifier = fresh(workers=1)
    list(classifier.classify_many(pictures))
    batches = [r.timings.batch_size for r in classifier.classify_many(pictures * 10)]
    assert max(batches) == 8


def test_two_classifiers_at_once(fresh, pictures, same):
    one, other = fresh(labels=["red", "blue"], workers=1), fresh(labels=["circle", "square"], workers=1)
    expected = [c.classify(image) for image in pictures for c in (one, other)]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: list(one.classify_many(pictures * 3)))
        second = pool.submit(lambda: list(other.classify_many(pictures * 3)))
    for at, (a, b) in enumerate(zip(first.result(), second.result(), strict=True)):
        same(a, expected[2 * (at % len(pictures))])
        same(b, expected[2 * (at % len(pictures)) + 1])
    one.close()
    assert other.classify(pictures[0]).ok


def test_labels_changed_while_a_stream_runs_hold_from_the_next_call_on(fresh, pictures):
    classifier = fresh(labels=["red", "blue"])
    running = classifier.classify_many(pictures * 3)
    next(running)
    classifier.labels = ["circle", "square"]
    assert all(set(r.probabilities) == {"red", "blue"} for r in running)
    assert set(classifier.classify(pictures[0]).probabilities) == {"circle", "square"}


def test_more_label_sets_than_are_kept(shared, pictures, same):
    first = shared.classify(pictures[0], labels=["red 0", "blue 0"])
    for number in range(80):
        result = shared.classify(pictures[0], labels=[f"red {number}", f"blue {number}"])
        assert set(result.probabilities) == {f"red {number}", f"blue {number}"}
    same(shared.classify(pictures[0], labels=["red 0", "blue 0"]), first)
