"""What being watched costs: throughput while the metrics are fetched every second, and what counting takes of an image.

    python benchmarks/metrics.py

Rounds alternate between a classifier that nobody watches and the same one with its metrics fetched each second by
another process, as Prometheus would. Counting cannot be turned off, so it is timed by itself: all that is counted for
one image, and for one token of a reply, against the time of an image on this machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from common import save, spread

import fastinfer
from fastinfer.classify.tally import ImageTally
from fastinfer.engines.base import Scores
from fastinfer.engines.tally import Histogram
from fastinfer.images.folder import images_below
from fastinfer.measuring import alternate, judge

SAMPLES = Path(fastinfer.__file__).parent / "samples"
LABELS = ["a car", "a fish", "a key", "a mushroom", "a tree", "an umbrella", "a heart", "a star"]
#: Fetches the page at once and then each second.
FETCHER = """
import sys, time, urllib.request
while True:
    urllib.request.urlopen(sys.argv[1]).read()
    print(flush=True)
    time.sleep(1)
"""


@contextmanager
def fetched(url: str) -> Iterator[None]:
    """The page is fetched every second by a process of its own."""
    with subprocess.Popen([sys.executable, "-c", FETCHER, url], stdout=subprocess.PIPE) as fetcher:
        assert fetcher.stdout is not None
        fetcher.stdout.readline()
        yield
        fetcher.terminate()


def count_image(tally: ImageTally, scores: Future[Scores]) -> None:
    """All that is counted for an image."""
    tally.expect()
    tally.begin()
    tally.decoded()
    tally.submit()
    tally.end(time.perf_counter(), 3.0, scores)


def nanoseconds_of_an_image(repeats: int) -> float:
    scores: Future[Scores] = Future()
    scores.set_result(Scores(None, None, 1.0, 20.0, 10.0, 8, 100))
    tally = ImageTally()
    begun = time.perf_counter()
    for _ in range(repeats):
        count_image(tally, scores)
    return (time.perf_counter() - begun) / repeats * 1e9


def nanoseconds_of_a_token(repeats: int) -> float:
    histogram = Histogram()
    begun = time.perf_counter()
    for _ in range(repeats):
        histogram.add(0.03)
    return (time.perf_counter() - begun) / repeats * 1e9


def seconds_of_a_page(url: str) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(url) as answer:
        answer.read()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("--model", default=None)
    parser.add_argument("--images", type=int, default=300, help="images in a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    files = images_below(SAMPLES)

    with (
        fastinfer.serve_metrics(0) as server,
        fastinfer.classifier(asked.preset, model=asked.model, labels=LABELS) as classifier,
    ):

        def rate() -> float:
            begun = time.perf_counter()
            done = sum(result.ok for result in classifier.classify_many(islice(cycle(files), asked.images)))
            assert done == asked.images
            return asked.images / (time.perf_counter() - begun)

        def watched_rate() -> float:
            with fetched(server.url):
                return rate()

        rate()
        rounds = alternate(rate, watched_rate, asked.rounds)
        pages = [seconds_of_a_page(server.url) for _ in range(20)]
    paired = judge([watched / alone for alone, watched in rounds])
    counting = [nanoseconds_of_an_image(20_000) for _ in range(5)]
    image_ns = 1e9 / spread([alone for alone, _ in rounds])["median"]
    given = "" if asked.preset == "embedded" else f" --preset {asked.preset} --model MODEL --images {asked.images}"
    save(
        "metrics",
        f"python benchmarks/metrics.py{given}",
        {
            "preset": asked.preset,
            "images_a_round": asked.images,
            "rounds": asked.rounds,
            "images_per_second": spread([alone for alone, _ in rounds]),
            "images_per_second_fetched_each_second": spread([watched for _, watched in rounds]),
            "fetched_by_alone": {"median": round(paired.median, 4), "margin": round(paired.margin, 4)},
            "milliseconds_of_a_page": spread([1e3 * seconds for seconds in pages]),
            "counting_an_image_nanoseconds": spread(counting),
            "counting_by_image": round(spread(counting)["median"] / image_ns, 7),
            "counting_a_token_nanoseconds": spread([nanoseconds_of_a_token(100_000) for _ in range(5)]),
        },
        asked.out,
    )


if __name__ == "__main__":
    main()
