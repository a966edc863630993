"""From what TurboMind leaves of a token to log-probabilities over the vocabulary.

TurboMind rounds its scores (logits) to the model's 16-bit type: at 16 to 32 bf16 has steps of 0.125, which is 13 % of a
probability. The hidden state before them is exact in that type, so the output matrix is kept a second time and the
product made here, accumulated and left in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastinfer.errors import EngineOutOfMemoryError
from fastinfer.models import TensorPlace, read_tensor

__all__ = ["HiddenRows", "RowScores", "Rows", "ScoreRows", "Wanted"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What is asked of a row.

    Attributes:
        tokens: tokens whose log-probability is wanted, (n,) int64.
    """

    tokens: npt.NDArray[np.int64]


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
        self._ends: Any = torch.tensor(sorted(end_tokens), dtype=torch.int64, device=self._device)
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
        self._matrix = self._ends = self._stream = None


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
        self._ends: Any = torch.tensor(sorted(end_tokens), dtype=torch.int64)

    def score(self, rows: Sequence[Any], wanted: Sequence[Wanted]) -> list[RowScores]:
        """The log-probabilities that are asked of each row, (vocabulary,) on the CPU."""
        with self._torch.inference_mode():
            scores = self._torch.stack(list(rows))[:, : self._vocabulary].float()
            return _read(self._torch, scores, self._ends, wanted)

    def close(self) -> None:
        """Nothing to free."""


def _read(torch: Any, scores: Any, ends: Any, wanted: Sequence[Wanted]) -> list[RowScores]:
    """What is asked of (rows, vocabulary) float32 scores, in one transfer from the device."""
    norms = scores.logsumexp(dim=1, keepdim=True)
    end = scores[:, ends].logsumexp(dim=1, keepdim=True) if len(ends) else torch.full_like(norms, -torch.inf)
    # Rows that ask for the same tokens, as images of one task do, are read together.
    groups: dict[int, list[int]] = {}
    for row, ask in enumerate(wanted):
        groups.setdefault(id(ask), []).append(row)
    parts, order = [(end - norms).flatten()], []
    for members in groups.values():
        tokens = torch.from_numpy(wanted[members[0]].tokens).to(scores.device)
        taken = scores[torch.tensor(members, device=scores.device)] if len(members) < len(wanted) else scores
        parts.append((taken[:, tokens] - norms[members]).flatten())
        order.append(members)
    flat: Doubles = torch.cat(parts).cpu().numpy().astype(np.float64)
    result: list[RowScores] = [None] * len(wanted)  # type: ignore[list-item]  # every place is filled below
    at = len(wanted)
    for members in order:
        width = len(wanted[members[0]].tokens)
        for row in members:
            result[row] = RowScores(flat[at : at + width], float(flat[row]))
            at += width
    return result
