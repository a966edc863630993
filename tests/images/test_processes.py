"""Decoding in processes gives what decoding here gives, and a process that dies costs one image."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastinfer
from fastinfer.engines.turbomind.pictures import InternVLPreparation, QwenVLPreparation
from fastinfer.errors import EngineDeadError, EngineError, ImageDecodeError
from fastinfer.images.decoder import Decoder
from fastinfer.images.prepared import EngineImage, PreparedImage
from fastinfer.images.processes import DecodeProcesses, pool, wire
from forks import forks

SAMPLES = sorted(
    path for path in (Path(fastinfer.__file__).parent / "samples").iterdir() if path.suffix in (".png", ".jpg")
)
LEVELS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "rescale": 1 / 255, "dtype": "bfloat16"}
TILES = InternVLPreparation(side=(28, 28), tokens_per_tile=4, max_tiles=4, thumbnail=True, **LEVELS)
PATCHES = QwenVLPreparation(patch=14, merge=2, temporal=2, min_pixels=28 * 28, max_pixels=56 * 56, **LEVELS)
DECODERS = {
    "as they are": Decoder(),
    "resized": Decoder(size=(30, 20)),
    "small ones only": Decoder(max_pixels=100),
    "tiles": Decoder(preparation=TILES),
    "patches": Decoder(preparation=PATCHES),
}


@pytest.fixture(scope="module")
def two() -> Iterator[DecodeProcesses]:
    made = DecodeProcesses(Decoder(), 2)
    yield made
    made.close()


def same(one: EngineImage, other: EngineImage) -> bool:
    if isinstance(one, PreparedImage) and isinstance(other, PreparedImage):
        return (one.tokens, one.grid) == (other.tokens, other.grid) and same_array(one.data, other.data)
    return not isinstance(one, PreparedImage) and not isinstance(other, PreparedImage) and same_array(one, other)


def same_array(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def outcome(decoder, source) -> EngineImage | tuple[str, str | None]:
    try:
        return decoder.load(source)
    except ImageDecodeError as error:
        return error.message, error.hint


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
def test_result_and_error_are_those_of_this_process(decoder, samples, tmp_path):
    damaged = {f"half of {name}": data[: len(data) // 2] for name, data in samples.items()}
    sources = [*samples.values(), *damaged.values(), b"", b"nothing", *SAMPLES, str(SAMPLES[0]), tmp_path / "none.png"]
    sources += ["data:image/png;base64,####", Image.new("RGB", (40, 30), "red"), np.zeros((9, 9, 3), np.uint8), 7]
    processes = DecodeProcesses(decoder, 2)
    try:
        for source in sources:
            here, there = outcome(decoder, source), outcome(processes, source)
            if isinstance(here, tuple) or isinstance(there, tuple):
                assert here == there
            else:
                assert same(here, there)
    finally:
        processes.close()


def test_the_cause_of_an_error_is_told(two):
    with pytest.raises(ImageDecodeError, match="truncated") as caught:
        two.load(SAMPLES[0].read_bytes()[:200])
    assert "in the decoding process: " in str(caught.value.__cause__)


def test_many_threads_share_a_few_processes(two):
    expected = [Decoder().load(path) for path in SAMPLES]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(two.load, SAMPLES * 5))
    assert all(same(image, expected[place % len(SAMPLES)]) for place, image in enumerate(found))
    assert len(two._children) <= 2


def test_an_image_of_many_megabytes_comes_over(two):
    buffer = io.BytesIO()
    Image.effect_noise((3000, 2000), 90).convert("RGB").save(buffer, "PNG", compress_level=1)
    assert same(two.load(buffer.getvalue()), Decoder().load(buffer.getvalue()))


def processes_of(decoders: DecodeProcesses) -> list[int]:
    return [child._process.pid for child in decoders._children]


@pytest.fixture
def one() -> Iterator[DecodeProcesses]:
    """A single process, which has started."""
    made = DecodeProcesses(Decoder(), 1)
    made.load(SAMPLES[0])
    yield made
    made.close()


def stopped(decoders: DecodeProcesses) -> int:
    """Its process, which goes on when it is told to."""
    (process,) = processes_of(decoders)
    os.kill(process, signal.SIGSTOP)
    return process


def test_a_process_that_dies_costs_its_image_alone(one):
    victim = stopped(one)
    with ThreadPoolExecutor(1) as threads:
        lost = threads.submit(one.load, SAMPLES[1])
        time.sleep(0.1)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(ImageDecodeError, match=rf"{SAMPLES[1].name}.*ended with signal SIGKILL"):
            lost.result(30)
    assert same(one.load(SAMPLES[2]), Decoder().load(SAMPLES[2]))
    assert victim not in processes_of(one)


def test_an_interrupt_does_not_leave_an_answer_for_the_next_image(one, monkeypatch):
    real = pool.read_reply

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "read_reply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.load(SAMPLES[0])
    monkeypatch.setattr(pool, "read_reply", real)
    assert same(one.load(SAMPLES[1]), Decoder().load(SAMPLES[1]))


def gone(process: int) -> bool:
    """It has ended; nobody may be there to collect it, as in a container without an init process."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True


def test_closing_ends_them_and_refuses_work():
    decoders = DecodeProcesses(Decoder(), 2)
    decoders.load(SAMPLES[0])
    started = processes_of(decoders)
    decoders.close()
    decoders.close()
    assert started
    assert all(map(gone, started))
    with pytest.raises(EngineDeadError, match="closed"):
        decoders.load(SAMPLES[0])


def test_closing_while_an_image_is_decoded_fails_that_image(one):
    victim = stopped(one)
    with ThreadPoolExecutor(2) as threads:
        lost = threads.submit(one.load, SAMPLES[1])
        time.sleep(0.1)
        closing = threads.submit(one.close)
        time.sleep(0.1)
        os.kill(victim, signal.SIGCONT)
        closing.result(30)
        # It may have been answered before the end.
        error = lost.exception(30)
        assert error is None or isinstance(error, EngineDeadError)
    assert gone(victim)


def test_dropping_the_object_ends_them():
    decoders = DecodeProcesses(Decoder(), 1)
    decoders.load(SAMPLES[0])
    (process,) = processes_of(decoders)
    del decoders
    gc.collect()
    assert gone(process)


def test_they_end_when_their_parent_is_killed(run_python):
    done = run_python(
        "import os, signal, sys\n"
        "from fastinfer.images.decoder import Decoder\n"
        "from fastinfer.images.processes import DecodeProcesses\n"
        "decoders = DecodeProcesses(Decoder(), 1)\n"
        "decoders.load(sys.argv[1])\n"
        "print(*[child._process.pid for child in decoders._children], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        str(SAMPLES[0]),
    )
    process = int(done.stdout)
    deadline = time.monotonic() + 20
    while not gone(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(process)


@forks
def test_a_fork_that_ends_leaves_them_alone(run_python):
    done = run_python(
        "import os, sys\n"
        "from fastinfer.images.decoder import Decoder\n"
        "from fastinfer.images.processes import DecodeProcesses\n"
        "decoders = DecodeProcesses(Decoder(), 1)\n"
        "decoders.load(sys.argv[1])\n"
        "(before,) = decoders._children\n"
        "if not (child := os.fork()):\n"
        "    sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "decoders.load(sys.argv[1])\n"
        "print({before} == decoders._children)\n",
        str(SAMPLES[0]),
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_no_process_is_started_before_there_is_work():
    assert not DecodeProcesses(Decoder(), 4)._children


def test_one_that_cannot_be_started_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineError, match="decode_in='threads'"):
        DecodeProcesses(Decoder(), 1).load(SAMPLES[0])


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('not what was agreed')"])
def test_one_that_ends_or_babbles_before_it_is_ready_is_no_fault_of_the_image(monkeypatch, program):
    monkeypatch.setattr(pool, "calling", lambda *_: [sys.executable, "-c", program])
    decoders = DecodeProcesses(Decoder(preparation=TILES), 1)
    for _ in range(2):
        with pytest.raises(EngineError, match="decode_in='threads'") as caught:
            decoders.load(SAMPLES[0])
        assert not isinstance(caught.value, EngineDeadError)
    assert not decoders._children


@dataclass
class Sent:
    """What a process might send."""

    head: bytes
    numbers: bytes = b""

    def stream(self) -> io.BufferedReader:
        lengths = wire._REPLY.pack(len(self.head), len(self.numbers))
        return io.BufferedReader(io.BytesIO(lengths + self.head + self.numbers))


@pytest.mark.parametrize(
    "sent",
    [
        Sent(b'{"shape": [2, 2, 3]}', bytes(11)),
        Sent(b'{"shape": [2, 2, 3]}', bytes(13)),
        Sent(b'{"shape": [-1, 2, 3]}', bytes(11)),
        Sent(b'{"shape": [-1, 2, 3]}', bytes(12)),
        Sent(b'{"shape": "many"}', bytes(12)),
        Sent(b"not json", bytes(12)),
        Sent(b"[]", bytes(12)),
        Sent(b'{"shape": [6], "tokens": 0, "grid": null}', bytes(12)),
        Sent(b'{"shape": [6], "tokens": "x", "grid": null}', bytes(12)),
        Sent(b'{"shape": [6], "tokens": 4, "grid": [1]}', bytes(12)),
        Sent(b'{"shape": [12]}', bytes(101)),
        Sent(b'{"message": "m"}'),
    ],
)
def test_a_reply_that_makes_no_sense_is_not_believed(sent):
    with pytest.raises(wire.DecoderLostError):
        wire.read_reply(sent.stream(), most_bytes=100)


@pytest.mark.parametrize("length", [0, 5, 12, 20])
def test_a_reply_that_breaks_off_is_noticed(length):
    whole = Sent(b'{"shape": [2, 2, 3]}', bytes(12)).stream().read()
    with pytest.raises(wire.DecoderLostError, match="ended"):
        wire.read_reply(io.BufferedReader(io.BytesIO(whole[:length])), most_bytes=100)


def test_callers_beyond_the_most_wait_for_their_turn(one):
    process = stopped(one)
    results: list[EngineImage] = []
    waiting = [threading.Thread(target=lambda: results.append(one.load(SAMPLES[0]))) for _ in range(4)]
    for thread in waiting:
        thread.start()
    time.sleep(0.2)
    assert processes_of(one) == [process]
    os.kill(process, signal.SIGCONT)
    for thread in waiting:
        thread.join(30)
    assert len(results) == 4
