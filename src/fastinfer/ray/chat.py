"""Chat for Ray Data."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from fastinfer.errors import raise_if_fatal
from fastinfer.ray.columns import beside, values
from fastinfer.ray.resources import within_actor

if TYPE_CHECKING:
    import pyarrow

    from fastinfer.preset_library import Preset

__all__ = ["Chat"]


class Chat:
    """Answers a column of conversations: for ``Dataset.map_batches(fastinfer.ray.Chat, batch_format="pyarrow")``.

    Each actor opens a model of its own and keeps it. The output has the batch's columns, and after them ``text``,
    ``reasoning``, ``finish_reason`` (string), ``prompt_tokens``, ``cached_tokens``, ``completion_tokens`` (int32),
    ``queued_ms``, ``prompt_ms``, ``predicted_ms``, ``tokens_per_second`` (float64), ``tool_calls`` and ``parsed`` (JSON
    text), ``seed`` (int64), ``error_type`` and ``error_message`` (string): a conversation that fails is a row whose
    error is set.

    Args:
        preset: as for :func:`fastinfer.llm`; ``"embedded"`` needs no GPU.
        column: the column of conversations: a string is one user message; a list of structs with ``role`` and
            ``content`` is a conversation, and so is one as JSON text.
        model, strict: as for :func:`fastinfer.llm`.
        options: those of :class:`fastinfer.ChatOptions`, for every conversation.
        prefix: goes before the names of the new columns.
        **changes: parameters of the preset to change. Presets for the CPU get ``n_threads`` from the actor's
            ``num_cpus``.

    Raises:
        FastInferError: as :func:`fastinfer.llm`.
    """

    def __init__(
        self,
        preset: str | Preset = "balanced",
        *,
        column: str = "messages",
        model: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
        prefix: str = "",
        strict: bool = False,
        **changes: Any,
    ) -> None:
        from fastinfer.chat import llm
        from fastinfer.preset_library import as_preset

        chosen = as_preset(preset, "chat")
        self._column, self._options, self._prefix = column, dict(options or {}), prefix
        self._llm = llm(chosen, model=model, strict=strict, **within_actor(chosen, changes))

    async def __call__(self, batch: pyarrow.Table) -> AsyncIterator[pyarrow.Table]:
        """The batch with the replies; Ray runs several batches at once.

        Raises:
            FastInferError: there is no such column, or a new column's name is taken.
            EngineDeadError: the engine has died; likewise EngineOutOfMemoryError and EngineUnavailableError. Ray starts
                another actor where it may.
        """
        yield await self.achat(batch)

    def chat(self, batch: pyarrow.Table) -> pyarrow.Table:
        """:meth:`achat` outside an event loop."""
        return asyncio.run(self.achat(batch))

    async def achat(self, batch: pyarrow.Table) -> pyarrow.Table:
        """What ``map_batches`` gets for a batch."""
        from fastinfer.tables.arrow import reply_schema, table
        from fastinfer.tables.rows import reply_row

        conversations = [_conversation(value) for value in values(batch, self._column)]
        rows = []
        async for reply in self._llm.achat_many(conversations, errors="return", **self._options):
            raise_if_fatal(reply.error)
            rows.append(reply_row(reply))
        return beside(batch, table(rows, reply_schema()), prefix=self._prefix, leave_out=None)

    def close(self) -> None:
        """Close the model. Idempotent."""
        self._llm.close()


def _conversation(value: Any) -> Any:
    """A cell as messages; what is none is left as it is, for the error that says so in its row."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            messages = json.loads(value)
        except ValueError:
            return value
        are_messages = messages and all(isinstance(message, dict) and "role" in message for message in messages)
        return messages if are_messages else value
    if isinstance(value, list):
        # Arrow gives every struct all fields of the column's type; those a message does not have are None.
        return [_without_none(message) if isinstance(message, dict) else message for message in value]
    return value


def _without_none(message: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in message.items() if part is not None}
