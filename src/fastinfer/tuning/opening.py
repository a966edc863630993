"""``fastinfer.tune``: from a preset and a sample to the preset that suits them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fastinfer.errors import FastInferError, PresetError
from fastinfer.measuring import Receipt
from fastinfer.preset_library import Kind, Preset, as_preset
from fastinfer.tuning.goal import Aim, Goal
from fastinfer.tuning.ladders import Ladder, ladders_for
from fastinfer.tuning.results import Tuned
from fastinfer.tuning.search import Search
from fastinfer.tuning.work import ChatWork, ImageWork, Work
from fastinfer.tuning.workbench import Workbench

__all__ = ["tune"]


def tune(
    preset: str | Preset,
    *,
    sample: Iterable[Any],
    kind: Kind | None = None,
    model: str | os.PathLike[str] | None = None,
    labels: Iterable[str] | None = None,
    aim: Aim = "throughput",
    limit: float | None = None,
    budget: float = 300.0,
    max_tokens: int = 128,
    concurrency: int | None = None,
    keep_accuracy: bool = True,
    ladders: Iterable[Ladder] | None = None,
    progress: bool = True,
    command: str = "fastinfer.tune",
) -> Tuned:
    """Find the values of a preset that do best on this machine, with this model, on the user's own prompts or images.

    The documents' ladders are walked, field by field in their order, each by successive halving: all values on a little
    of the work, the better half on twice as much, and the last one against the best so far in several rounds. Every
    candidate is measured in turns with the best so far, so that a machine that gets slower misleads nobody, and takes
    its place only when the rounds say so beyond their spread. A candidate that cannot be loaded is noted, and the
    search goes on.

    The given preset is measured first, whatever the budget is. After that nothing is begun that would not be over in
    time; where not a single candidate fits, the given preset comes back with the least budget that would do. Ctrl-C
    ends the search and returns the best that was confirmed by then.

    Args:
        preset: a preset or its name, to start from.
        sample: for chat, prompts as :meth:`fastinfer.LLM.chat` takes them; for images what
            :meth:`fastinfer.Classifier.classify` takes. They should be like those that will come.
        kind: ``"classify"`` or ``"chat"``, where both kinds have the name.
        model: as :func:`fastinfer.classifier` or :func:`fastinfer.llm` takes it.
        labels: to choose from; None lets the model name what it sees.
        aim: ``"throughput"``; ``"first-token-latency"``, which is the answer's for images; ``"inter-token-latency"``;
            or ``"memory"``: the GPU's as far as it is in use, else the process's.
        limit: the most that the aim's 95th percentile may be in seconds, or the memory in bytes. Then throughput is
            raised as far as the limit allows. Not with ``"throughput"``.
        budget: seconds for all of it, loading included.
        max_tokens: generated for each prompt.
        concurrency: how many ask at once. None: for the time to the first token as many as the given preset has slots,
            and images one at a time; else as many as each candidate takes.
        keep_accuracy: leave fields alone whose other values may change answers, as a coarser KV cache does.
        ladders: to be walked in place of those of :data:`fastinfer.tuning.LADDERS`.
        progress: show a bar on standard error.
        command: what is to stand in the receipt.

    Raises:
        PresetError: the preset is unknown, or there is no such aim, limit or budget.
        MessageError, ImageDecodeError: the sample is empty or no list, or a prompt or every image cannot be read.
        PromptTooLongError: the longest prompt with its reply has no room in a slot of the given preset.
        ModelNotFoundError, ModelLoadError, EngineUnavailableError, EngineOutOfMemoryError: the given preset cannot be
            loaded.
    """
    given = as_preset(preset, kind)
    goal = Goal(given.kind, aim, limit)
    goal.check()
    if not budget > 0:
        raise PresetError(f"The budget {budget} is not legal.", hint="Give seconds: a number above 0.")
    walked = tuple(ladders_for(given, aim, keep_answers=keep_accuracy) if ladders is None else ladders)
    started = time.perf_counter()
    work: Work
    if given.kind == "chat":
        if concurrency is None and aim == "first-token-latency":
            concurrency = given.parallel
        work = ChatWork(sample, model, max_tokens=max_tokens, clients=concurrency)
    else:
        if concurrency is None and aim == "first-token-latency":
            concurrency = 1
        work = ImageWork(sample, model, labels=labels, clients=concurrency, budget=budget)
    stopped = ""
    with Workbench(work, alone=aim == "memory") as bench, _progress(progress, budget) as report:
        search = Search(bench, given, goal, walked, budget=budget, report=report)
        search.begin()
        try:
            search.walk()
        except KeyboardInterrupt:
            stopped = "interrupted"
        except FastInferError as error:
            stopped = f"{type(error).__name__}: {error}"
        if search.out_of_time:
            stopped = stopped or "budget"
        return _tuned(search, bench, given, goal, command, budget, time.perf_counter() - started, stopped)


def _tuned(
    search: Search,
    bench: Workbench,
    given: Preset,
    goal: Goal,
    command: str,
    budget: float,
    seconds: float,
    stopped: str,
) -> Tuned:
    best = given if search.best is given else replace(search.best, name=f"{given.name}-tuned")
    points = search.points()
    notes = []
    if stopped == "budget" and sum(point.figures is not None for point in points) < 2:
        notes.append(
            f"No candidate fits a budget of {budget:g} s; the least that can lead to anything is about "
            f"{search.least_budget():.0f} s."
        )
    if given.kind == "chat":
        notes.append(_room(best, bench.work.tokens))
    return Tuned(
        preset=best,
        given=given,
        goal=goal,
        receipt=Receipt.of(
            best,
            bench.provenance[best.fingerprint],
            bench.work.workload(best),
            search.measured(search.best),
            command=command,
        ),
        points=points,
        gain=search.gain,
        budget=budget,
        seconds=seconds,
        stopped=stopped,
        note=" ".join(notes),
    )


def _room(best: Preset, tokens: int) -> str:
    """What a conversation may hold: more slots leave each of them less."""
    if best.kv_unified:
        return f"The conversations share {best.n_ctx} tokens; the longest of the sample needs {tokens} with its reply."
    slot = best.n_ctx // best.parallel
    return f"A slot holds {slot} tokens; the longest prompt of the sample needs {tokens} with its reply."


@contextmanager
def _progress(shown: bool, budget: float) -> Iterator[Callable[[str], None]]:
    """Gives a function that is told what is being measured."""
    if not shown:
        yield lambda what: None
        return
    from tqdm.auto import tqdm

    started, whole = time.perf_counter(), round(budget)
    with tqdm(total=whole, unit="s", bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} s") as bar:

        def report(what: str) -> None:
            bar.set_description(what, refresh=False)
            bar.n = min(whole, round(time.perf_counter() - started))
            bar.refresh()

        yield report
