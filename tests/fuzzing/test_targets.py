"""What must hold whatever the bytes are: the short lane, without atheris, always over the same inputs."""

from __future__ import annotations

import pytest

from fuzzing.mutations import mutations
from fuzzing.targets import NAMES, Target, target

#: Mutations of each target's inputs: more of what takes microseconds, fewer of what writes a database each time.
COUNTS = {
    "gguf": 2000,
    "images": 400,
    "journal": 60,
    "presets": 300,
    "replies": 600,
    "safetensors": 300,
    "templates": 200,
}


@pytest.fixture(params=NAMES)
def chosen(request: pytest.FixtureRequest) -> Target:
    return target(request.param)


def test_what_must_hold_does_of_sound_inputs_of_former_findings_and_of_both_changed(chosen: Target) -> None:
    inputs = [*chosen.seeds(), *chosen.corpus(), b""]
    for data in inputs:
        chosen.check(data)
    for data in mutations(inputs, chosen.words, COUNTS[chosen.name]):
        try:
            chosen.check(data)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}; the input: {data!r}") from error


def test_mutations_are_the_same_each_time_and_differ_from_their_seeds() -> None:
    seeds = [b"one input", b"another"]
    first, again = (list(mutations(seeds, [b"word"], 50)) for _ in range(2))
    assert first == again
    assert sum(data in seeds for data in first) < 10
    assert first != list(mutations(seeds, [b"word"], 50, seed=1))


def test_the_corpus_is_small(chosen: Target) -> None:
    assert sum(map(len, chosen.corpus())) < 16_000
    assert sum(map(len, chosen.seeds())) < 32_000
