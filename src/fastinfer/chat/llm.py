"""The model behind ``fastinfer.llm``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastinfer.chat.delivery import AsyncEvents, Collector, Events
from fastinfer.chat.exchange import Exchange, generation_for
from fastinfer.chat.options import Settings, read_options
from fastinfer.chat.pending import PendingChat, patience
from fastinfer.chat.results import Reply
from fastinfer.chat.streams import AsyncChatStream, ChatStream
from fastinfer.engines.chat import Generation
from fastinfer.engines.llama.chat import LlamaChatEngine
from fastinfer.errors import FastInferError, MessageError, QueueFullError
from fastinfer.ordered import check_errors, run, run_async
from fastinfer.preset_library import Preset
from fastinfer.prompts import ChatTemplate, Messages, PromptBuilder
from fastinfer.provenance import Provenance
from fastinfer.replies import detect_format

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastinfer.chat.options import ChatOptions

__all__ = ["LLM"]

#: Seconds between tries to submit from an event loop, which must not wait, while the queue is full.
_RETRY = 0.01


class LLM:
    """A chat model with parallel slots. Made by :func:`fastinfer.llm`; safe to use from threads and event loops.

    ``messages`` are OpenAI's message dicts, or a string for a single user message. ``options`` are those of
    :class:`fastinfer.ChatOptions`: ``max_tokens``, ``temperature``, ``stop``, ``schema``, ``tools``, ``timeout`` and
    others; what is left out is as the preset has it.

    Attributes:
        preset: the preset it runs with.
        provenance: what runs: engine, model, preset, device and adjustments.
    """

    def __init__(
        self, engine: LlamaChatEngine, template: ChatTemplate, *, preset: Preset, provenance: Provenance, parallel: int
    ) -> None:
        self.preset, self.provenance = preset, provenance
        self._engine, self._template, self._parallel = engine, template, parallel
        self._form = detect_format(template.source)
        engine.show(self._form.visible)
        with engine.vocabulary() as vocabulary:
            self._builder = PromptBuilder(vocabulary, template)
            known = {**vocabulary.user_defined_tokens, **vocabulary.special_tokens}
        self._opening = known.get(self._form.reasoning[0]) if self._form.reasoning else None

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        """The reply to a conversation.

        Raises:
            MessageError: a message or tool is wrong, or the model cannot take it.
            PromptTooLongError: the conversation leaves no room for a reply.
            PresetError: an option is outside its legal range.
            SchemaError: the schema cannot be compiled, or the reply ended before it was complete.
            QueueFullError: too many requests are waiting.
            RequestTimeoutError: the timeout passed.
            EngineError: the engine failed on the request, or is closed (EngineDeadError).
        """
        return self._chat(messages, options).result()

    async def achat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        """The async twin of :meth:`chat`; cancelling the task cancels the request."""
        return await self._chat(messages, options).aresult()

    def stream(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatStream:
        """The reply as it is generated: an iterator of :class:`fastinfer.Piece`.

        Closing it, or leaving its ``with`` block, cancels the rest; its ``reply`` is the whole reply afterwards.

        Raises:
            The errors of :meth:`chat`: those of the conversation at once, those of the engine while iterating.
        """
        exchange, generation, settings = self._prepare(messages, options)
        events = Events()
        ticket = self._engine.submit(generation, events)
        return ChatStream(exchange, events, ticket, patience(settings.timeout))

    def astream(self, messages: Messages, **options: Unpack[ChatOptions]) -> AsyncChatStream:
        """The async twin of :meth:`stream`; to be called within a running event loop."""
        exchange, generation, _ = self._prepare(messages, options)
        events = AsyncEvents()
        return AsyncChatStream(exchange, events, self._engine.submit(generation, events))

    def chat_many(
        self,
        conversations: Iterable[Messages],
        *,
        errors: str = "raise",
        progress: bool = False,
        **options: Unpack[ChatOptions],
    ) -> Iterator[Reply]:
        """Replies to many conversations, in order; the input is read as needed, and all slots are kept busy.

        Args:
            conversations: any iterable, also an endless one.
            errors: ``"raise"`` ends at the first that fails; ``"return"`` gives a reply whose ``error`` is set.
            progress: show a progress bar.
            **options: for every one of them.
        """
        check_errors(errors)
        read_options(self.preset, options)
        return run(
            conversations,
            lambda messages: self._chat(messages, options, wait=True),
            self._failed,
            ahead=2 * self._parallel,
            errors=errors,
            unit="reply",
            progress=progress,
        )

    def achat_many(
        self,
        conversations: Iterable[Messages] | AsyncIterable[Messages],
        *,
        errors: str = "raise",
        progress: bool = False,
        **options: Unpack[ChatOptions],
    ) -> AsyncIterator[Reply]:
        """The async twin of :meth:`chat_many`; the input may be an async iterable too."""
        check_errors(errors)
        read_options(self.preset, options)

        async def begin(messages: Messages) -> PendingChat:
            while True:
                try:
                    return self._chat(messages, options)
                except QueueFullError:
                    await asyncio.sleep(_RETRY)

        return run_async(
            conversations,
            begin,
            self._failed,
            ahead=2 * self._parallel,
            errors=errors,
            unit="reply",
            progress=progress,
        )

    def slots(self) -> list[dict[str, Any]]:
        """What each slot does now, under the field names of llama-server's ``/slots``."""
        return self._engine.slots()

    def metrics(self) -> dict[str, float]:
        """Counters and gauges under the names of llama-server's ``/metrics``."""
        return self._engine.metrics()

    def engine_profile(self) -> dict[str, float]:
        """Where the engine's time went so far, in seconds, with the number of steps."""
        return self._engine.profile()

    def count_tokens(self, messages: Messages, **options: Unpack[ChatOptions]) -> int:
        """Tokens of a conversation as the model reads it."""
        return int(self._prepare(messages, options)[1].tokens.size)

    def close(self) -> None:
        """Fail what runs and waits with EngineDeadError, and free all memory. Idempotent."""
        self._engine.close()

    async def aclose(self) -> None:
        """The async twin of :meth:`close`."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> LLM:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        ran = self.provenance
        return f"<LLM {ran.model!r}, preset {ran.preset!r}, {self._parallel} slots, {ran.device}>"

    def _prepare(self, messages: Messages, options: Any) -> tuple[Exchange, Generation, Settings]:
        settings = read_options(self.preset, options)
        variables = {**settings.template_variables, **self._thinking(settings.thinking_budget)}
        with self._engine.vocabulary():
            prompt = self._builder.build(messages, tools=settings.tools, **variables)
        if prompt.images:
            raise MessageError(
                "A message holds an image, and this model has no vision projector.",
                hint="Put the mmproj GGUF file beside the model, or choose a vision model.",
            )
        exchange = Exchange(prompt, settings, self._form, self.provenance)
        generation = generation_for(prompt, settings, self._form, self._template.stop, self._opening)
        return exchange, generation, settings

    def _thinking(self, budget: int | None) -> dict[str, Any]:
        if budget is None:
            return {}
        if "thinking_budget" in self._template.source:
            return {"thinking_budget": budget}
        if "enable_thinking" in self._template.source and budget in (-1, 0):
            return {"enable_thinking": budget != 0}
        raise MessageError(
            f"The chat template {self._template.name!r} has no thinking budget.",
            hint="Leave thinking_budget out, or pass what the template knows with chat_template_kwargs.",
        )

    def _chat(self, messages: Messages, options: Any, *, wait: bool = False) -> PendingChat:
        exchange, generation, settings = self._prepare(messages, options)
        collector = Collector()
        ticket = self._engine.submit(generation, collector, wait=wait)
        return PendingChat(exchange, collector, ticket, settings.timeout)

    def _failed(self, _: Messages, error: FastInferError) -> Reply:
        return Reply(text="", finish_reason="error", provenance=self.provenance, error=error)
