"""The model behind ``fastinfer.llm``."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from typing_extensions import Unpack

from fastinfer.chat.delivery import AsyncEvents, Collector, Events
from fastinfer.chat.exchange import Exchange, generation_for
from fastinfer.chat.options import ChatOptions, Settings, read_options
from fastinfer.chat.pending import PendingChat, patience
from fastinfer.chat.pictures import holds_images, load_pictures
from fastinfer.chat.request import ChatRequest
from fastinfer.chat.results import Reply
from fastinfer.chat.slots import Metrics, Slots
from fastinfer.chat.streams import AsyncChatStream, ChatStream
from fastinfer.engines.chat import ChatEngine, Generation
from fastinfer.engines.chat_refusals import queue_too_slow
from fastinfer.errors import FastInferError, MessageError, QueueFullError
from fastinfer.ordered import check_errors, run, run_async
from fastinfer.preset_library import Preset
from fastinfer.prompts import ChatTemplate, Messages, PromptBuilder, normalise_tools
from fastinfer.provenance import Provenance
from fastinfer.replies import detect_format
from fastinfer.watching.roll import Watched, enrol

__all__ = ["LLM"]

#: Seconds between tries to submit from an event loop, which must not wait, while the queue is full.
_RETRY = 0.01


class LLM:
    """A chat model with parallel slots. Made by :func:`fastinfer.llm`; safe to use from threads and event loops.

    ``messages`` are OpenAI's message dicts, or a string for a single user message. ``options`` are those of
    :class:`fastinfer.ChatOptions`: ``max_tokens``, ``temperature``, ``stop``, ``schema``, ``tools``, ``timeout`` and
    others; what is left out is as the preset has it. Where the model has a projector, messages may hold images:
    ``{"type": "image", "image": source}``, a source being all that :func:`fastinfer.images.load_image` reads, or
    OpenAI's ``image_url`` with a ``data:`` URL.

    Attributes:
        preset: the preset it runs with.
        provenance: what runs: engine, model, preset, device and adjustments.
        alias: the name it goes by in metrics and logs.
    """

    def __init__(
        self,
        engine: ChatEngine,
        template: ChatTemplate,
        *,
        preset: Preset,
        provenance: Provenance,
        parallel: int,
        alias: str,
    ) -> None:
        self.preset, self.provenance, self.alias = preset, provenance, alias
        self._engine, self._template, self._parallel = engine, template, parallel
        self._closed = False
        self._form = detect_format(template.source)
        engine.show(self._form.visible)
        with engine.vocabulary() as vocabulary:
            self._builder = PromptBuilder(vocabulary, template)
            self._vocabulary_size = vocabulary.size
            known = {**vocabulary.user_defined_tokens, **vocabulary.special_tokens}
        self._opening = known.get(self._form.reasoning[0]) if self._form.reasoning else None
        #: Counts errors of requests that the engine never had; it counts those of the others.
        self._refusals = engine.counters.errors
        engine.go_by(alias)
        self._retire = enrol(self, Watched(alias, "chat", provenance, engine.counters, weakref.ref(engine)))

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        """The reply to a conversation.

        Args:
            messages: OpenAI's message dicts, or a str for a single user message.
            **options: those of :class:`fastinfer.ChatOptions`.

        Raises:
            TypeError: there is no such option.
            MessageError: a message or tool is wrong, or the model cannot take it.
            ImageDecodeError: an image in a message cannot be read; says which.
            PromptTooLongError: the conversation leaves no room for a reply.
            PresetError: an option is outside its legal range.
            SchemaError: the schema cannot be compiled, or the reply ended before it was complete.
            QueueFullError: too many requests are waiting.
            RequestTimeoutError: the timeout passed.
            EngineError: the engine failed on the request, or is closed (EngineDeadError).
        """
        return self._chat(messages, self._settings(options)).result()

    async def achat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        """The async twin of :meth:`chat`; cancelling the task cancels the request."""
        settings = self._settings(options)
        with self._refusals:
            pending = self._submit(*await self._aprepare(messages, settings), settings)
        return await pending.aresult()

    def stream(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatStream:
        """The reply as it is generated: an iterator of :class:`fastinfer.Piece`.

        Closing it, or leaving its ``with`` block, cancels the rest; its ``reply`` is the whole reply afterwards.

        Raises:
            The errors of :meth:`chat`: those of the conversation at once, those of the engine while iterating.
        """
        settings = self._settings(options)
        events = Events()
        with self._refusals:
            exchange, generation = self._prepare(messages, settings)
            ticket = self._engine.submit(generation, events)
        return ChatStream(self._engine, exchange, events, ticket, patience(settings.timeout))

    def astream(self, messages: Messages, **options: Unpack[ChatOptions]) -> AsyncChatStream:
        """The async twin of :meth:`stream`; to be called within a running event loop."""
        settings = self._settings(options)
        events = AsyncEvents()
        with self._refusals:
            exchange, generation = self._prepare(messages, settings)
            ticket = self._engine.submit(generation, events)
        return AsyncChatStream(self._engine, exchange, events, ticket, patience(settings.timeout))

    def chat_many(
        self,
        conversations: Iterable[Messages | ChatRequest],
        *,
        errors: str = "raise",
        progress: bool = False,
        **options: Unpack[ChatOptions],
    ) -> Iterator[Reply]:
        """Replies to many conversations, in order; the input is read as needed, and all slots are kept busy.

        Args:
            conversations: any iterable, also an endless one; a :class:`fastinfer.ChatRequest` has options of its own.
            errors: ``"raise"`` ends at the first that fails; ``"return"`` gives a reply whose ``error`` is set.
            progress: show a progress bar on standard error.
            **options: for every one of them that has no other; a ``timeout`` is each one's own.

        Raises:
            The errors of :meth:`chat`: those of the options at once, those of a conversation in its place. Where the
            queue is full it waits.
        """
        settings = self._for_many(conversations, errors, options)
        return run(
            conversations,
            lambda asked: self._chat(*self._of_many(asked, options, settings), wait=True),
            self._failed,
            ahead=2 * self._parallel,
            errors=errors,
            unit="reply",
            progress=progress,
        )

    def achat_many(
        self,
        conversations: Iterable[Messages | ChatRequest] | AsyncIterable[Messages | ChatRequest],
        *,
        errors: str = "raise",
        progress: bool = False,
        **options: Unpack[ChatOptions],
    ) -> AsyncIterator[Reply]:
        """The async twin of :meth:`chat_many`; the input may be an async iterable too."""
        settings = self._for_many(conversations, errors, options)

        async def begin(asked: Messages | ChatRequest) -> PendingChat:
            messages, own = self._of_many(asked, options, settings)
            with self._refusals:
                exchange, generation = await self._aprepare(messages, own)
                while True:
                    try:
                        return self._submit(exchange, generation, own)
                    except QueueFullError:
                        if generation.deadline is not None and generation.deadline < time.monotonic():
                            raise queue_too_slow() from None
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

    def slots(self) -> Slots:
        """What each slot does now: a list of dicts with the field names of llama-server's ``/slots``."""
        return Slots(self._engine.slots())

    def metrics(self) -> Metrics:
        """Counters and gauges: a dict with the names of llama-server's ``/metrics``."""
        return Metrics(self._engine.metrics())

    def engine_profile(self) -> dict[str, float]:
        """Where the engine's time went so far, in seconds, with the number of steps."""
        return self._engine.profile()

    def count_tokens(self, messages: Messages, **options: Unpack[ChatOptions]) -> int:
        """Tokens of a conversation as the model reads it, tools and the beginning of the reply included."""
        return int(self._prepare(messages, self._settings(options))[1].tokens.size)

    def close(self) -> None:
        """Fail what runs and waits with EngineDeadError, and free all memory. Idempotent."""
        self._closed = True
        self._engine.close()
        self._retire()

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
        slots = f"{self._parallel} slot{'s' if self._parallel > 1 else ''}"
        return f"<LLM {ran.preset!r}: {ran.model}, {slots}, {'closed' if self._closed else ran.device}>"

    def _settings(self, options: ChatOptions) -> Settings:
        self._engine.check_process()
        settings = read_options(self.preset, options, vocabulary_size=self._vocabulary_size)
        if settings.grammar is not None and settings.schema is None:
            with self._engine.vocabulary() as vocabulary:
                vocabulary.check_grammar(settings.grammar)
        variables = {**settings.template_variables, **self._thinking(settings.thinking_budget)}
        return replace(settings, tools=normalise_tools(options.get("tools")), template_variables=variables)

    def _for_many(self, conversations: object, errors: str, options: ChatOptions) -> Settings:
        check_errors(errors)
        if isinstance(conversations, (str, bytes)):
            raise MessageError("Several conversations are expected.", hint="Pass a list of them, or use chat.")
        return self._settings(options)

    def _of_many(
        self, asked: Messages | ChatRequest, options: ChatOptions, settings: Settings
    ) -> tuple[Messages, Settings]:
        """An item of many and its settings: those for all, where it has no options of its own."""
        if not isinstance(asked, ChatRequest):
            return asked, settings
        return asked.messages, self._settings(asked.options_over(options)) if asked.options else settings

    def _prepare(self, messages: Messages, settings: Settings) -> tuple[Exchange, Generation]:
        with self._engine.vocabulary():
            prompt = self._builder.build(messages, tools=settings.tools or None, **settings.template_variables)
        if prompt.images and not self._engine.takes_images:
            raise MessageError(
                "A message holds an image, and this model has no vision projector.",
                hint="Put the mmproj GGUF file beside the model, or choose a vision model.",
            )
        images = load_pictures(prompt)
        exchange = Exchange(prompt, settings, self._form, self.provenance)
        generation = generation_for(prompt, settings, self._form, self._template.stop, self._opening)
        return exchange, self._engine.place(generation, images) if images else generation

    async def _aprepare(self, messages: Messages, settings: Settings) -> tuple[Exchange, Generation]:
        # Reading images takes long enough to be felt in an event loop, and text does not.
        if holds_images(messages):
            return await asyncio.to_thread(self._prepare, messages, settings)
        return self._prepare(messages, settings)

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

    def _chat(self, messages: Messages, settings: Settings, *, wait: bool = False) -> PendingChat:
        with self._refusals:
            return self._submit(*self._prepare(messages, settings), settings, wait=wait)

    def _submit(
        self, exchange: Exchange, generation: Generation, settings: Settings, *, wait: bool = False
    ) -> PendingChat:
        collector = Collector()
        ticket = self._engine.submit(generation, collector, wait=wait)
        return PendingChat(self._engine, exchange, collector, ticket, settings.timeout)

    def _failed(self, _: Messages | ChatRequest, error: FastInferError) -> Reply:
        return Reply(text="", finish_reason="error", provenance=self.provenance, error=error)
