"""The computation for a batch of images: encode, prompt, and then the label trie or a name.

The KV cache is unified: sequence 0 holds the text before the image, evaluated once and kept while the prompt stays
the same; each image continues it in a sequence of its own; each branch of the trie continues an image. Every token is
evaluated once, whatever the number of labels that share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fastinfer.engines.base import Naming, Task
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.shape import MAX_SEQUENCES
from fastinfer.engines.llama.vision import Chunk, ImageEncoder, Prepared
from fastinfer.engines.scoring import LabelTrie, Span, log_sum_exp
from fastinfer.errors import EngineError

__all__ = ["Answer", "ForwardPass"]

Doubles = npt.NDArray[np.float64]
Answer = tuple[Doubles | None, Naming | None]
_PREFIX = 0


class _ImageState:
    """One image on its way: its sequence, how far it is, and what is known of the label paths."""

    def __init__(self, sequence: int, position: int) -> None:
        self.sequence = sequence
        self.position = position
        self.paths: Doubles = np.empty(0)
        self.ends: dict[int, float] = {}


class ForwardPass:
    """Runs batches on a context. For the engine's thread only."""

    def __init__(self, model: LlamaModel, context: LlamaContext, encoder: ImageEncoder) -> None:
        self._model, self._context, self._encoder = model, context, encoder
        self._prefix: npt.NDArray[np.int32] = np.empty(0, np.int32)

    def reset(self) -> None:
        """Forget everything, after an error."""
        self._context.clear()
        self._prefix = np.empty(0, np.int32)

    def prompt_limit(self, task: Task) -> int:
        """Most tokens a prompt with its image may take."""
        return max(0, self._context.n_ctx - self._reserve(task, 1))

    def _reserve(self, task: Task, images: int) -> int:
        """Cells to keep free for answers: the whole trie, or as much of it as is evaluated at once."""
        if task.trie is None:
            return task.max_tokens * images
        return min(task.trie.rows * images, task.trie.depth * max(self._context.n_outputs, task.trie.longest))

    def groups(self, images: Sequence[Prepared], task: Task) -> Iterator[Sequence[Prepared]]:
        """Cut a batch so that each part fits the KV cache and its sequences; the order is kept."""
        # One sequence holds the prefix, and every level of the trie needs at least one.
        most = max(1, MAX_SEQUENCES - 1 - (task.trie.depth if task.trie else 0))
        if task.trie is None:
            most = min(most, self._context.n_outputs)  # a step of naming evaluates one token of each image
        part: list[Prepared] = []
        used = 0
        for image in images:
            cells = used + image.n_tokens + self._reserve(task, len(part) + 1)
            if part and (len(part) == most or cells > self._context.n_ctx):
                yield part
                part, used = [], 0
            part.append(image)
            used += image.n_tokens
        if part:
            yield part

    def encode(self, images: Sequence[Prepared]) -> None:
        """Compute the embeddings of all image chunks."""
        self._encoder.encode([c for image in images for c in image.chunks if c.tokens is None])

    def score(self, images: Sequence[Prepared], trie: LabelTrie) -> list[Answer]:
        """Log-probabilities of all labels for each image."""
        states, rows = self._prompts(images)
        norms, ends = self._norms(rows)
        for i, state in enumerate(states):
            state.paths = trie.start()
            trie.extend(state.paths, state.ends, trie.root, rows[i], norms[i], ends[i])
        free = list(range(len(states) + 1, MAX_SEQUENCES))
        self._expand([(state, state.sequence, state.position, s) for state in states for s in trie.spans], trie, free)
        for state in states:
            self._context.remove(state.sequence)
        return [(trie.label_scores(state.paths, state.ends), None) for state in states]

    def name(self, images: Sequence[Prepared], task: Task) -> list[Answer]:
        """The likeliest next token, again and again, until the answer ends."""
        states, rows = self._prompts(images)
        scores = np.zeros(len(states))
        tokens: list[list[int]] = [[] for _ in states]
        complete = [False] * len(states)
        active = list(range(len(states)))
        for step in range(task.max_tokens + 1):
            norms, _ = self._norms(rows)
            choices = rows.argmax(axis=1)
            going = []
            for row, i in enumerate(active):
                token = int(choices[row])
                ended = bool(np.isin(token, self._model.end_tokens))
                if ended or step < task.max_tokens:
                    scores[i] += float(rows[row, token]) - norms[row]
                if ended:
                    complete[i] = True
                elif step < task.max_tokens:
                    tokens[i].append(token)
                    going.append(i)
            active = going
            if not active:
                break
            rows = self._context.decode_tokens(
                _int32([tokens[i][-1] for i in active]),
                _int32([states[i].position + step for i in active]),
                _int32([states[i].sequence for i in active]),
                np.ones(len(active), np.int8),
            )
        for state in states:
            self._context.remove(state.sequence)
        return [
            (None, Naming(self._text(tokens[i]), float(np.exp(scores[i])), complete[i])) for i in range(len(states))
        ]

    def _text(self, tokens: list[int]) -> str:
        return b"".join(self._model.piece(t) for t in tokens).decode("utf-8", "replace").strip()

    def _norms(self, rows: npt.NDArray[np.float32]) -> tuple[Doubles, Doubles]:
        """Log-sums of exp(scores) over the vocabulary and over the end-of-answer tokens.

        Raises:
            EngineError: some scores are no numbers, which anything may follow from.
        """
        norms = log_sum_exp(rows)
        if not np.isfinite(norms).all():
            raise EngineError(
                "llama.cpp computed scores that are no numbers.",
                hint="The model's file or the device may be damaged; try another quantisation, or without the GPU.",
            )
        return norms, log_sum_exp(rows[:, self._model.end_tokens])

    def _prompts(self, images: Sequence[Prepared]) -> tuple[list[_ImageState], npt.NDArray[np.float32]]:
        """Evaluate the prompts; next-token scores after each, (images, vocabulary)."""
        start = self._hold_prefix(images)
        states = [_ImageState(i + 1, start) for i in range(len(images))]
        for state in states:
            self._context.copy(_PREFIX, state.sequence)
        rest = [list(image.chunks[1:] if start else image.chunks) for image in images]
        result = np.empty((len(images), self._model.vocabulary_size), np.float32)
        while any(rest):
            texts = [(i, r.pop(0)) for i, r in enumerate(rest) if r and r[0].tokens is not None]
            last = [i for i, _ in texts if not rest[i]]
            if texts:
                self._decode_text(texts, states, set(last), result)
            pictures = [(i, r.pop(0)) for i, r in enumerate(rest) if r and r[0].tokens is None]
            if pictures:
                self._decode_images(pictures, states)
        return states, result

    def _hold_prefix(self, images: Sequence[Prepared]) -> int:
        """Have the text before the image in sequence 0; its length, or 0 where prompts do not start with text."""
        first = images[0].chunks[0]
        if first.tokens is None or any(
            i.chunks[0].tokens is None or not np.array_equal(i.chunks[0].tokens, first.tokens) for i in images
        ):
            self.reset()
            return 0
        if not np.array_equal(self._prefix, first.tokens):
            self.reset()
            unread = np.empty((0, self._model.vocabulary_size), np.float32)
            self._decode_text([(0, first)], [_ImageState(_PREFIX, 0)], set(), unread)
            self._prefix = first.tokens.copy()
        return len(first.tokens)

    def _decode_text(
        self,
        texts: list[tuple[int, Chunk]],
        states: list[_ImageState],
        last: set[int],
        result: npt.NDArray[np.float32],
    ) -> None:
        tokens, positions, sequences, wanted, owner = [], [], [], [], []
        for i, chunk in texts:
            count, state = chunk.n_tokens, states[i]
            assert chunk.tokens is not None
            tokens.append(chunk.tokens)
            positions.append(np.arange(state.position, state.position + count, dtype=np.int32))
            sequences.append(np.full(count, state.sequence, np.int32))
            flags = np.zeros(count, np.int8)
            flags[-1] = i in last
            wanted.append(flags)
            owner += [i] if i in last else []
            state.position += count
        flat = [np.concatenate(part) for part in (tokens, positions, sequences, wanted)]
        done = 0
        for at in range(0, len(flat[0]), self._context.n_batch):
            part = [np.ascontiguousarray(a[at : at + self._context.n_batch]) for a in flat]
            rows = self._context.decode_tokens(part[0], part[1], part[2], part[3])
            result[owner[done : done + len(rows)]] = rows
            done += len(rows)

    def _decode_images(self, pictures: list[tuple[int, Chunk]], states: list[_ImageState]) -> None:
        if self._encoder.needs_helper:
            for i, chunk in pictures:
                state = states[i]
                self._encoder.decode_with_helper(
                    self._context.handle, chunk, state.position, state.sequence, self._context.n_batch
                )
                state.position += chunk.n_positions
            return
        embeddings, positions, sequences = [], [], []
        for i, chunk in pictures:
            state = states[i]
            assert chunk.embeddings is not None
            embeddings.append(chunk.embeddings)
            positions.append(np.arange(state.position, state.position + chunk.n_tokens, dtype=np.int32))
            sequences.append(np.full(chunk.n_tokens, state.sequence, np.int32))
            state.position += chunk.n_positions
        flat = [np.concatenate(part) for part in (positions, sequences)]
        stacked = np.concatenate(embeddings)
        for at in range(0, len(stacked), self._context.n_batch):
            end = at + self._context.n_batch
            self._context.decode_embeddings(
                np.ascontiguousarray(stacked[at:end]),
                np.ascontiguousarray(flat[0][at:end]),
                np.ascontiguousarray(flat[1][at:end]),
            )

    def _expand(self, items: list[tuple[_ImageState, int, int, Span]], trie: LabelTrie, free: list[int]) -> None:
        """Evaluate spans of the trie, each in a sequence that continues its parent's.

        Args:
            items: image, parent sequence, next position, span.
            free: sequences that may be used.
        """
        at = 0
        while at < len(items):
            depth = max(span.depth for *_, span in items[at:])
            most = max(1, len(free) // depth)
            part: list[tuple[_ImageState, int, int, Span]] = []
            tokens = 0
            for item in items[at : at + most]:
                tokens += len(item[3].tokens)
                if part and tokens > self._context.n_outputs:
                    break
                part.append(item)
            at += len(part)
            sequences, rest = free[: len(part)], free[len(part) :]
            if not sequences:
                raise EngineError("The label set branches deeper than llama.cpp has sequences for.")
            self._evaluate(part, sequences, trie)
            following = [
                (state, sequence, position + len(span.tokens), branch)
                for (state, _, position, span), sequence in zip(part, sequences, strict=True)
                for branch in span.branches
            ]
            if following:
                self._expand(following, trie, rest)
            for sequence in sequences:
                self._context.remove(sequence)

    def _evaluate(self, part: list[tuple[_ImageState, int, int, Span]], sequences: list[int], trie: LabelTrie) -> None:
        for (_, parent, _, _), sequence in zip(part, sequences, strict=True):
            self._context.copy(parent, sequence)
        lengths = [len(span.tokens) for *_, span in part]
        tokens = _int32([t for *_, span in part for t in span.tokens])
        positions = np.concatenate(
            [np.arange(p, p + n, dtype=np.int32) for (_, _, p, _), n in zip(part, lengths, strict=True)]
        )
        owners = np.repeat(_int32(sequences), lengths)
        nodes = [(state, node) for state, _, _, span in part for node in span.nodes]
        # More than one step only for a single span that is longer than a decode call may be.
        step = self._context.n_outputs
        for at in range(0, len(tokens), step):
            now = slice(at, at + step)
            wanted = np.ones(len(tokens[now]), np.int8)
            rows = self._context.decode_tokens(tokens[now], positions[now], owners[now], wanted)
            norms, ends = self._norms(rows)
            for row, (state, node) in enumerate(nodes[now]):
                trie.extend(state.paths, state.ends, node, rows[row], norms[row], ends[row])


def _int32(values: list[int]) -> npt.NDArray[np.int32]:
    return np.array(values, dtype=np.int32)
