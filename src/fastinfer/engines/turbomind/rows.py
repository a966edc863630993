"""From what TurboMind leaves of a token to log-probabilities over the vocabulary.

TurboMind rounds its scores (logits) to the model's 16-bit type: at 16 to 32 bf16 has steps of 0.125, which is 13 % of a
probability. The hidden state before them is exact in that type, so the output matrix is kept a second time and the
product made here, accumulated and left in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastinfer.errors import EngineOutOfMemoryError
from fastinfer.models import TensorPlace, read_tensor

__all__ = ["HiddenRows", "RowScores", "Rows", "ScoreRows", "Wanted"]

Doubles = npt.NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Wanted:
    """What is asked of a row. One of these may be asked of many rows, but belongs to one scorer.

    Attributes:
        tokens: tokens whose log-probability is wanted, (n,) int64.
        columns: set by the scorer: a torch tensor where the scores are, of the tokens that end an answer, then these.
    """

    tokens: npt.NDArray[np.int64]
    columns: Any = field(default=None, init=False)


@dataclass(frozen=True, slots=True, eq=False)
class RowScores:
    """What a row says.

    Attributes:
        tokens: log-probability of each token asked for, (n,) float64.
        end: log-probability that the answer ends, all its tokens together.
    """

    tokens: Doubles
    end: float


class Rows(Protocol):
    """Turns rows into log-probabilities."""

    #: Rows are hidden states (True) or scores over the vocabulary.
    hidden: bool
    #: How it is done, for provenance.
    path: str

    def score(self, rows: Sequence[Any], wanted: Sequence[Wanted]) -> list[RowScores]:
        """The log-probabilities that are asked of each row, a torch tensor (width,) on the CPU."""
        ...

    def close(self) -> None:
        """Free memory."""
        ...


class HiddenRows:
    """Scores of hidden states, with an output matrix of its own on the GPU.

    Args:
        place: the output matrix in the checkpoint, (vocabulary, hidden size).
        dtype: type that TurboMind computes in; the matrix is rounded to it, as TurboMind does.
        device: number of the GPU.
        end_tokens: tokens that end an answer.
    """

    hidden = True
    path = "label rows from the hidden state in float32"

    def __init__(self, place: TensorPlace, dtype: str, device: int, end_tokens: Sequence[int]) -> None:
        import torch

        self._torch = torch
        self._device = torch.device("cuda", device)
        kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
        signed = {2: np.int16, 4: np.int32}
        bits = read_tensor(place)
        matrix = torch.from_numpy(np.array(bits).view(signed[bits.dtype.itemsize])).view(kinds[place.dtype])
        self._matrix: Any = matrix.to(self._device, getattr(torch, dtype)).T
        self._ends = sorted(end_tokens)
        # TurboMind's long kernels leave gaps on the multiprocessors; with priority these short ones go into the first.
        self._stream: Any = torch.cuda.Stream(self._device, priority=-1)

    def score(self, rows: Sequence[Any], wanted: Sequence[Wanted]) -> list[RowScores]:
        """The log-probabilities that are asked of each row, (hidden size,) on the CPU."""
        torch = self._torch
        try:
            with torch.cuda.stream(self._stream), torch.inference_mode():
                states = torch.stack(list(rows)).to(self._device)
                scores = torch.mm(states, self._matrix, out_dtype=torch.float32)
                return _read(torch, scores, self._ends, wanted)
        except torch.OutOfMemoryError as error:
            raise EngineOutOfMemoryError(
                f"There is no GPU memory left to score {len(rows)} rows.",
                hint="Lower cache_max_entry_count or max_batch_size, or free memory that others hold.",
            ) from error

    def close(self) -> None:
        """Free the matrix."""
        self._matrix = self._stream = None


class ScoreRows:
    """Scores as TurboMind gives them, rounded to 16 bits; for models whose output matrix is quantised.

    Args:
        end_tokens: tokens that end an answer.
        vocabulary: tokens of the model; TurboMind's rows may be padded beyond.
    """

    hidden = False
    path = "label rows from 16-bit scores"

    def __init__(self, end_tokens: Sequence[int], vocabulary: int) -> None:
        import torch

        self._torch, self._vocabulary = torch, vocabulary
        self._ends = sorted(end_tokens)

    def score(self, rows: Sequence[Any], wanted: Sequence[Wanted]) -> list[RowScores]:
        """The log-probabilities that are asked of each row, (vocabulary,) on the CPU."""
        with self._torch.inference_mode():
            scores = self._torch.stack(list(rows))[:, : self._vocabulary].float()
            return _read(self._torch, scores, self._ends, wanted)

    def close(self) -> None:
        """Nothing to free."""


def _read(torch: Any, scores: Any, ends: Sequence[int], wanted: Sequence[Wanted]) -> list[RowScores]:
    """What is asked of (rows, vocabulary) float32 scores, in one transfer from the device."""
    norms = scores.logsumexp(dim=1, keepdim=True)
    first = wanted[0]
    if all(ask is first for ask in wanted):  # as of images of one task
        if first.columns is None:
            first.columns = torch.from_numpy(np.concatenate([ends, first.tokens]).astype(np.int64)).to(scores.device)
        picked = scores.index_select(1, first.columns)
    else:
        columns = np.zeros((len(wanted), len(ends) + max(len(ask.tokens) for ask in wanted)), np.int64)
        columns[:, : len(ends)] = ends
        for row, ask in zip(columns, wanted, strict=True):
            row[len(ends) : len(ends) + len(ask.tokens)] = ask.tokens
        picked = scores.gather(1, torch.from_numpy(columns).to(scores.device))
    read: Doubles = (picked - norms).cpu().numpy().astype(np.float64)
    end = np.logaddexp.reduce(read[:, : len(ends)], axis=1).tolist()
    return [
        RowScores(row[len(ends) : len(ends) + len(ask.tokens)], ending)
        for row, ask, ending in zip(read, wanted, end, strict=True)
    ]
