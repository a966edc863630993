"""What an engine's process sends: nothing is lost, in order, and nobody waits."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fastinfer.engines.isolated.child import Sender
from fastinfer.engines.isolated.messages import Message, MessageReader


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def received(connection: socket.socket, count: int) -> list[Message]:
    connection.settimeout(10)
    reader, messages = MessageReader(), list[Message]()
    while len(messages) < count:
        messages += reader.feed(connection.recv(1 << 16))
    return messages


def test_messages_come_whole_and_in_the_order_of_each_thread_to_a_parent_that_reads_late(ends: Any) -> None:
    sender = Sender(ends[0])

    def send(who: int) -> None:
        for n in range(300):
            sender.send({"who": who, "n": n}, bytes(n * 40))

    threads = [threading.Thread(target=send, args=(who,), daemon=True) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)  # 7 MB, of which a socket holds a fraction: nobody waits for who reads
    assert not any(thread.is_alive() for thread in threads)
    messages = received(ends[1], 1200)
    for who in range(4):
        assert [(body["n"], len(blob)) for body, blob in messages if body["who"] == who] == [
            (n, n * 40) for n in range(300)
        ]
    sender.close()


def test_a_message_goes_at_once_from_the_thread_that_gives_it(ends: Any) -> None:
    sender = Sender(ends[0])
    sender.send({"n": 1})
    ends[1].setblocking(False)
    assert list(MessageReader().feed(ends[1].recv(1 << 16))) == [({"n": 1}, b"")]
    sender.close()


def test_what_the_garbage_collector_says_in_the_midst_of_a_message_follows_it(ends: Any) -> None:
    class Connection:
        """Whose call makes the collector run, as any call may."""

        sent = 0

        def send(self, data: bytes, flags: int) -> int:
            self.sent += 1
            if self.sent == 1:
                gc.collect()
            return ends[0].send(data[: 1 + len(data) // 2], flags)

    class Loud:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            sender.send({"said": "last words"})

    sender = Sender(Connection())  # type: ignore[arg-type]  all that is used of a socket
    Loud()
    sender.send({"said": "first"})
    assert [body["said"] for body, _ in received(ends[1], 2)] == ["first", "last words"]
    sender.close()


def test_what_is_left_is_sent_when_it_is_closed(ends: Any) -> None:
    sender = Sender(ends[0])
    for n in range(50):
        sender.send({"n": n}, bytes(20_000))
    reading = threading.Thread(target=lambda: got.extend(received(ends[1], 50)))
    got: list[Message] = []
    reading.start()
    sender.close()
    reading.join(10)
    assert [body["n"] for body, _ in got] == list(range(50))


def test_a_parent_that_is_gone_is_no_error(ends: Any) -> None:
    sender = Sender(ends[0])
    ends[1].close()
    for n in range(3):
        sender.send({"n": n})
    sender.close()
