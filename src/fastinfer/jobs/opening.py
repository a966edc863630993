"""The way in: from what the caller says to a work, its engine, its journal and its output."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fastinfer.errors import FastInferError
from fastinfer.interrupts import heeded
from fastinfer.jobs.journal import Journal
from fastinfer.jobs.output import FORMATS, Output
from fastinfer.jobs.request import JobRequest
from fastinfer.jobs.runner import RunOptions, run_work
from fastinfer.jobs.summary import JobSummary
from fastinfer.jobs.work import Work

if TYPE_CHECKING:
    from fastinfer.calibrating import Calibration
    from fastinfer.chat.model import LLM
    from fastinfer.chat.options import ChatOptions
    from fastinfer.classify import Classifier
    from fastinfer.preset_library import Preset

__all__ = ["arun", "run", "run_chat"]

Engine = TypeVar("Engine", "Classifier", "LLM")


def run(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    using: Classifier | LLM | None = None,
    preset: str | Preset | None = None,
    kind: Literal["classify", "chat"] | None = None,
    labels: Iterable[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    top: int | None = None,
    calibration: str | os.PathLike[str] | Calibration | None = None,
    retry_errors: bool = False,
    limit: int | None = None,
    shard: str | tuple[int, int] | None = None,
    overwrite: bool = False,
    follow_links: bool = False,
    progress: bool = False,
    strict: bool = False,
    **changes: Any,
) -> JobSummary:
    """Classify a folder of images, or answer a file of prompts, into one file of results.

    It may be ended at any moment, by Ctrl-C, a signal or a power failure, and goes on when it is called again with the
    same output: what was computed is kept in a journal beside it, and the output gets the same bytes as without the
    interruption (on TurboMind, which forms its batches itself, up to rounding). The output appears when all is done,
    whole. A file that is known by its path, size and time of change is not read again; one that was moved or copied is
    not computed again; one whose bytes are those of another file is computed once. Results of another preset, model,
    label set or version are never used.

    An item that fails becomes a row with ``error_type`` and ``error_message``, and is not computed again unless
    ``retry_errors`` says so; a file that could not be read is tried again each time.

    Args:
        source: a folder, whose images are taken at any depth, sorted, hidden ones and links to folders left out; paths
            of images, whose order is kept; or a .jsonl file of requests in OpenAI's batch form.
        output: where to; its name ends with .parquet, .jsonl or .csv, that of chats with .jsonl. The journal is
            ``OUTPUT.journal`` beside it.
        using: an engine that is open, and stays open. Without one, it is opened for the job, and closed.
        preset: as for :func:`fastinfer.classifier` or :func:`fastinfer.llm`.
        kind: ``"classify"`` or ``"chat"``, where the source does not say it.
        labels: to choose from; None takes those of ``using``, or lets the model name what it sees.
        model: as for :func:`fastinfer.classifier` or :func:`fastinfer.llm`.
        top: keep the probabilities of so many of the likeliest labels in each row; None keeps all.
        calibration: or its file; see ``Classifier.calibrate``.
        retry_errors: compute again what has failed before.
        limit: at most so many of the items, the first ones. A job that goes on beyond a limit begins a new batch there,
            which may change the last digits of probabilities.
        shard: ``"2/8"`` or ``(2, 8)`` for the second of eight parts, for a process each; ``-00002-of-00008`` is put
            into the output's name. Which part an item is in depends on its path in the folder alone.
        overwrite: replace an output that another configuration made, or no job of this journal. What was computed
            before is used also then.
        follow_links: read files outside of the folder too, where a link in it leads to one. Without it such an item
            fails, and the others go on. Paths in a list are read wherever they lead.
        progress: show a bar, with what the job waits for.
        strict: raise PresetError where the engine would need a value other than the preset's.
        **changes: parameters of the preset to change; ``isolate``, ``step_timeout`` and ``load_timeout`` as for
            :func:`fastinfer.classifier` or :func:`fastinfer.llm`.

    Raises:
        FastInferError: an argument makes no sense; the output is another configuration's, or of another job that is
            running; the journal is damaged; a file cannot be written. What was complete is kept.
        EngineDeadError: the engine ended; likewise EngineOutOfMemoryError and EngineUnavailableError. What was complete
            is kept. An isolated engine is started again, and what kills it is a row with this error among the others.
    """
    options = dict(
        using=using,
        preset=preset,
        kind=kind,
        labels=labels,
        model=model,
        top=top,
        calibration=calibration,
        retry_errors=retry_errors,
        limit=limit,
        shard=shard,
        overwrite=overwrite,
        follow_links=follow_links,
        progress=progress,
        strict=strict,
        **changes,
    )
    return _start(JobRequest.of(source, output, options), None)


async def arun(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], output: str | os.PathLike[str], **options: Any
) -> JobSummary:
    """:func:`run` for asyncio, in a thread of its own, with the same options.

    Cancelling the task stops the job at its next commit, and returns then; the journal is whole.
    """
    stop = Event()
    job = asyncio.ensure_future(asyncio.to_thread(_start, JobRequest.of(source, output, options), stop))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([job])
        job.exception()  # that it was stopped is what was asked for
        raise


def run_chat(
    request: JobRequest, stop: Event | None = None, *, options: ChatOptions | None = None, system: str | None = None
) -> JobSummary:
    """Answer a file of prompts; see :func:`run`.

    Args:
        request: of kind "chat".
        stop: set from another thread, it ends the job at the next commit.
        options: hold where a prompt leaves them out.
        system: a system message for conversations that have none.
    """
    from fastinfer.chat.model import LLM
    from fastinfer.chat.opening import llm
    from fastinfer.jobs.chat import FORMATS, ChatWork
    from fastinfer.jobs.openai_batch import Batch

    if not isinstance(request.source, (str, os.PathLike)):
        raise FastInferError("A job of prompts reads one file.", hint="Give the path of a .jsonl file.")
    with _Job(request, FORMATS) as job:
        batch = Batch(request.source, shard=request.shard, limit=request.limit)
        return job.run(ChatWork(job.engine(LLM, llm), batch, options=options, system=system), stop)


def _start(request: JobRequest, stop: Event | None) -> JobSummary:
    with heeded():
        return (run_chat if request.kind == "chat" else _run_classify)(request, stop)


def _run_classify(request: JobRequest, stop: Event | None) -> JobSummary:
    from fastinfer.calibrating import Calibration
    from fastinfer.classify import Classifier, classifier
    from fastinfer.classify.labels import check_labels
    from fastinfer.jobs.classify import ClassifyWork
    from fastinfer.jobs.items import list_files

    labels = None if request.labels is None else check_labels(request.labels).names
    calibration = request.calibration
    if isinstance(calibration, (str, os.PathLike)):
        calibration = Calibration.load(calibration)
    with _Job(request) as job:
        files = list_files(request.source, request.shard, request.limit, follow_links=request.follow_links)
        engine = job.engine(Classifier, partial(classifier, labels=labels))
        if calibration is not None:
            engine.calibration = calibration
        return job.run(ClassifyWork(engine, files, labels=labels, top=request.top), stop)


class _Job:
    """The journal and the engine of a job, closed with it; an engine that was open before stays open."""

    def __init__(self, request: JobRequest, formats: Sequence[str] = FORMATS) -> None:
        self._request = request
        self._output = Output.of(request.output, request.shard, formats)
        self._open = ExitStack()

    def __enter__(self) -> _Job:
        # Before the engine, so that a job that another process is at does not load a model to find out.
        self._journal = self._open.enter_context(Journal(self._output.journal))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def engine(self, kind: type[Engine], open_engine: Callable[..., Engine]) -> Engine:
        request = self._request
        if request.using is not None:
            if not isinstance(request.using, kind):
                raise FastInferError(
                    f"A {type(request.using).__name__} was given for a job that needs a {kind.__name__}.",
                    hint="Give the other kind of engine, or leave using out.",
                )
            return request.using
        preset = {} if request.preset is None else {"preset": request.preset}
        engine = open_engine(**preset, model=request.model, strict=request.strict, **request.changes)
        self._open.enter_context(engine)
        return engine

    def run(self, work: Work[Any], stop: Event | None) -> JobSummary:
        request = self._request
        options = RunOptions(
            retry_errors=request.retry_errors, overwrite=request.overwrite, progress=request.progress, stop=stop
        )
        return run_work(work, self._output, self._journal, options)
