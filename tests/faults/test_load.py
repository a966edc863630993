"""A hundred thousand items, most of them bad: bounded memory, nothing lost, each in its place."""

from __future__ import annotations

import gc

import pytest

from fastinfer.errors import ImageDecodeError, MessageError
from fault_matrix import Fault, rows

psutil = pytest.importorskip("psutil")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KIND = "load"
COUNT, EVERY = 100_000, 250
#: MiB that the process may grow by, of which none belongs to an item.
ROOM = 30
IMAGES = (Fault(KIND, "100,000 images, most of them bad", b"no image", ImageDecodeError),)
CHATS = (Fault(KIND, "100,000 conversations, most of them bad", [123], MessageError),)


def run(results, good, fault, same):
    """Go through results of which each ``EVERY``-th is well; the process's growth after the first tenth, in MiB."""
    process, before = psutil.Process(), 0
    for place, result in enumerate(results):
        if place % EVERY:
            assert type(result.error) is fault.error
        else:
            assert result.error is None
            same(result, good)
        if place == COUNT // 10:
            gc.collect()
            before = process.memory_info().rss
    assert place == COUNT - 1
    gc.collect()
    return (process.memory_info().rss - before) / 2**20


@pytest.mark.parametrize(**rows(IMAGES))
def test_images_run_in_the_memory_of_a_few(fault, clf, pictures, good, same):
    images = (fault.inject if place % EVERY else pictures[0] for place in range(COUNT))
    assert run(clf.classify_many(images, errors="return"), good[0], fault, same) < ROOM


@pytest.mark.parametrize(**rows(CHATS))
def test_conversations_run_in_the_memory_of_a_few(fault, llm, asked):
    def same(reply, other):
        assert reply.text == other.text

    conversations = (fault.inject if place % EVERY else "hello" for place in range(COUNT))
    replies = llm.chat_many(conversations, errors="return", **asked)
    assert run(replies, llm.chat("hello", **asked), fault, same) < ROOM
