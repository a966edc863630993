"""Classification through ``lmdeploy.pipeline``: for models whose images or prompts are prepared by LMDeploy alone.

The way in for what :mod:`fastinfer.engines.turbomind.engine` has no preparation of its own for. It is slower: LMDeploy
prepares images in one thread, and a batch ends before the next begins. Labels are single tokens here, scored from the
first generated token's scores as TurboMind rounds them, to 16 bits.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastinfer.engines.answers import lead_after
from fastinfer.engines.base import EngineDescription, Naming, Scores, Task
from fastinfer.engines.branches import BranchWalk
from fastinfer.engines.handle import EngineHandle, answer, fail, fail_all, fail_hung, take_batch
from fastinfer.engines.lifeline import Lifeline, outlive
from fastinfer.engines.turbomind.answer_tokens import AnswerTokens
from fastinfer.engines.turbomind.importing import INSTALL_SUPPORTED
from fastinfer.engines.turbomind.pipeline_model import ImageLimits, LoadedPipeline, load_pipeline
from fastinfer.engines.turbomind.prompt import request_too_long
from fastinfer.engines.turbomind.rows import ScoreRows, Wanted
from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.engines.watchdog import Watch
from fastinfer.errors import EngineDeadError, EngineError, LabelError, PromptTooLongError
from fastinfer.images.prepared import EngineImage, PreparedImage
from fastinfer.interrupts import Answer
from fastinfer.models import CheckpointInfo

__all__ = ["PIPELINE_ARCHITECTURES", "PIPELINE_PATH", "PipelineEngine", "open_pipeline"]

_log = logging.getLogger(__name__)

#: Architectures that TurboMind 0.18 runs, image encoder included, and that only LMDeploy can make prompts for.
PIPELINE_ARCHITECTURES: Final = ("InternS2MobiusForConditionalGeneration", "InternS2PreviewForConditionalGeneration")
#: How results are computed, for provenance.
PIPELINE_PATH: Final = f"lmdeploy's pipeline, {ScoreRows.path}"

#: Seconds that closing waits for the batch that runs.
_PATIENCE: Final = 30.0
_TOO_LONG: Final = "context_length_exceeded"  # lmdeploy/serve/core/exceptions.py: ErrorCode


def open_pipeline(
    info: CheckpointInfo, settings: EngineSettings, limits: ImageLimits, *, trust_remote_code: bool
) -> PipelineEngine:
    """Load a model; all that can be known without it has been checked.

    Args:
        info: the model.
        settings: what TurboMind gets.
        limits: how large an image may be.
        trust_remote_code: run Python code that comes with the checkpoint.

    Raises:
        EngineUnavailableError: TurboMind cannot run here, or LMDeploy would take its PyTorch engine in its place.
        ModelLoadError: the checkpoint cannot be loaded, or has no usable chat template.
    """
    pipe = load_pipeline(info, settings, trust_remote_code=trust_remote_code)
    try:
        pipe.limit_images(limits)
        answers = AnswerTokens(pipe.tokenizer, info.end_tokens)
        return PipelineEngine(pipe, answers, lead=lead_after(pipe.prompt_end()), settings=settings)
    except BaseException:
        pipe.close()
        raise


class PipelineEngine(EngineHandle):
    """One model in an ``lmdeploy.pipeline``, on one GPU or split over several; made by :func:`open_pipeline`.

    Only LMDeploy knows how many tokens an image takes, so PromptTooLongError comes with the future.

    Args:
        pipe: the loaded model; closed with the engine.
        answers: the model's tokens.
        lead: what an answer starts with.
        settings: what TurboMind was given.
    """

    def __init__(self, pipe: LoadedPipeline, answers: AnswerTokens, *, lead: str, settings: EngineSettings) -> None:
        description = EngineDescription(
            engine=f"TurboMind (lmdeploy {pipe.version})",
            device=", ".join(f"cuda:{device}" for device in settings.devices),
            image_size=None,
            batched_images=True,
            path=PIPELINE_PATH,
        )
        super().__init__(_Core(pipe, answers, lead, settings, description))


@dataclass(slots=True, eq=False)
class _Request:
    image: Image.Image
    task: Task
    future: Future[Scores]
    arrived: float = field(default_factory=time.perf_counter)


class _Core:
    def __init__(
        self,
        pipe: LoadedPipeline,
        answers: AnswerTokens,
        lead: str,
        settings: EngineSettings,
        description: EngineDescription,
    ) -> None:
        self.description = description
        self._pipe, self._answers, self._lead = pipe, answers, lead
        self._rows = ScoreRows(answers.end_tokens, pipe.vocabulary)
        self._limit, self._session, self._most = settings.request_limit, settings.session_len, settings.max_batch_size
        self.life = Lifeline()
        self._condition = threading.Condition()
        self._queue: deque[_Request] = deque()
        self._batch: list[_Request] = []
        # The tokenizer's settings change while it works.
        self._tokenizing = threading.Lock()
        self._watch = Watch(self.life, self._give_up)
        self._thread = threading.Thread(target=self._run, name="fastinfer-pipeline", daemon=True)
        self._thread.start()

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        self.life.check()
        with self._tokenizing:
            tokens = self._answers.answer(label, self._lead)
        if len(tokens) != 1:
            raise LabelError(
                f"The label {label!r} has {len(tokens)} tokens; with this model, which runs in LMDeploy's pipeline, "
                "labels of exactly one token are scored.",
                hint="Take single letters or digits as labels and say in the prompt what each stands for, or choose a "
                "model that fastinfer prepares images for, such as InternVL3 or Qwen2.5-VL.",
            )
        return tokens

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        assert not isinstance(image, PreparedImage)
        request = _Request(Image.fromarray(image), task, Answer())
        with self._condition:
            self.life.check()
            self._queue.append(request)
            self._condition.notify_all()
        return request.future

    def close(self) -> None:
        with self._condition:
            self.life.closed = True
            waiting = list(self._queue)
            self._queue.clear()
            self._condition.notify_all()
        fail_all((request.future for request in waiting), None)
        if threading.current_thread() is self._thread:
            outlive(self._thread)
            return  # collected in the middle of a batch; the thread frees the memory when it ends
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            # Freeing what TurboMind still computes with would end the process.
            _log.error("LMDeploy's pipeline did not end within %.0f s; its memory stays taken.", _PATIENCE)
            fail_all([request.future for request in self._batch], None)

    def _run(self) -> None:
        died: BaseException | None = None
        try:
            while self._next_batch():
                self._watch.begin(f"The pipeline's work on {len(self._batch)} images")
                self._classify(self._batch)
                self._watch.end()
        except BaseException as error:  # noqa: BLE001  nobody may be left waiting, whatever happened
            _log.exception("%s: the engine has died.", self.life.alias)
            died = error
        finally:
            self._watch.end()
        with self._condition:
            self.life.dead = died
            waiting = [*self._batch, *self._queue]
            self._queue.clear()
        fail_all((request.future for request in waiting), died)
        self._pipe.close()

    def _give_up(self, error: EngineDeadError) -> None:
        """A batch hangs: those who wait are told, from another thread than the one that hangs."""
        with self._condition:
            waiting = [*self._batch, *self._queue]
            self._queue.clear()
            self._condition.notify_all()
        fail_hung((request.future for request in waiting), error)

    def _next_batch(self) -> list[_Request]:
        """The oldest request and others of the same task, in order; empty once the engine is closed."""
        with self._condition:
            self._batch = []
            while not self.life.closed and not self.life.hangs:
                if not self._queue:
                    self._condition.wait()
                elif batch := take_batch(self._queue, self._most):
                    self._batch = batch
                    return batch
        return []

    def _classify(self, batch: list[_Request]) -> None:
        """Answer every request of a batch that shares a task."""
        started = time.perf_counter()
        task = batch[0].task
        # A name gets a token more than its limit, to see whether it ended there.
        most_tokens = 1 if task.trie is not None else task.max_tokens + 1
        responses = self._pipe.infer([request.image for request in batch], task.opening, task.prompt, most_tokens)
        score_ms = (time.perf_counter() - started) * 1e3 / len(batch)
        for request, response in zip(batch, responses, strict=True):
            try:
                self._check(response, task)
                labels, naming = self._read(response, task)
            except (EngineError, PromptTooLongError) as error:
                fail(request.future, error)
                continue
            scores = Scores(
                labels=labels,
                naming=naming,
                queued_ms=(started - request.arrived) * 1e3,
                encode_ms=0.0,
                score_ms=score_ms,
                batch=len(batch),
                prompt_tokens=response.input_token_len,
            )
            answer(request.future, scores)

    def _check(self, response: Any, task: Task) -> None:
        """Refuse what LMDeploy could not answer, and what is longer than the preset allows."""
        if response is None:
            raise EngineError("LMDeploy's pipeline gave no answer for an image.", hint="Classify it again.")
        if response.error_code == _TOO_LONG:
            # The length is only in the message: "Input length (...) must be smaller than ...".
            found = re.search(r"\d+", response.error_message or "")
            raise request_too_long(int(found[0]) if found else self._session, 0, self._limit)
        if response.finish_reason not in ("stop", "length"):
            meaning = response.error_message or f"it ended with {response.finish_reason!r}"
            raise EngineError(
                f"LMDeploy's pipeline failed an image: {meaning} ({response.error_code}).",
                hint="If it is this image alone, look at its size; else raise cache_max_entry_count or lower "
                "max_batch_size.",
            )
        answer = task.max_tokens if task.trie is None else 0
        if response.input_token_len + answer > self._limit:
            raise request_too_long(response.input_token_len, answer, self._limit)
        given = 0 if response.logits is None else len(response.logits)
        if not given or given != len(response.token_ids):
            raise EngineError(
                f"LMDeploy's pipeline gave {len(response.token_ids)} tokens with the scores of {given}.",
                hint=f"Install the version that fastinfer was written for: {INSTALL_SUPPORTED}.",
            )

    def _read(self, response: Any, task: Task) -> tuple[npt.NDArray[np.float64] | None, Naming | None]:
        """Log-probabilities of the labels, or the name."""
        if task.trie is None:
            wanted = [Wanted(np.array([token], np.int64)) for token in response.token_ids]
            scores = self._rows.score(list(response.logits), wanted)
            chances = [float(score.tokens[0]) for score in scores]
            with self._tokenizing:
                return None, self._answers.naming(response.token_ids, chances, task.max_tokens)
        walk = BranchWalk(task.trie, 0.0)
        children = walk.root.node.children
        [score] = self._rows.score([response.logits[0]], [Wanted(np.fromiter(children, np.int64, len(children)))])
        walk.add(walk.root, score.tokens, score.end)
        return walk.scores(), None
