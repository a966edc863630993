"""A decoding process: requests on standard input, replies on standard output, until the input ends."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import IO

from fastinfer.errors import ImageDecodeError
from fastinfer.images.decoder import Decoder

from .wire import read_request, write_failure, write_image, write_ready

__all__ = ["main"]


def main() -> None:
    """Serve the process that started this one, whose end ends the input. It first sends its pickled Decoder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is that process's business
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not get between the replies.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests = sys.stdin.buffer
    try:
        decoder = pickle.load(requests)
        write_ready(replies)
        _serve(decoder, requests, replies)
    except (BrokenPipeError, EOFError):
        os._exit(0)  # that process is gone; closing the stream would fail again


def _serve(decoder: Decoder, requests: IO[bytes], replies: IO[bytes]) -> None:
    while (request := read_request(requests)) is not None:
        try:
            image = decoder.decode(request.data, request.name)
        except ImageDecodeError as error:
            write_failure(replies, error)
        else:
            write_image(replies, image)
