"""Many items through an engine: lazy input, ordered output, bounded memory.

Two drivers, one for threads and one for asyncio, share everything but the waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

from fastinfer.errors import EngineError, FastInferError
from fastinfer.interrupts import Deferral, press_again

__all__ = ["Pending", "check_errors", "run", "run_async"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Pending(Protocol[Result_co]):
    """An item that was submitted."""

    def result(self) -> Result_co:
        """The result; waits for it."""
        ...

    async def aresult(self) -> Result_co:
        """The result; awaits it."""
        ...

    def cancel(self) -> None:
        """Take it back; nobody will wait for it."""
        ...


def check_errors(errors: str) -> None:
    """Refuse a value of ``errors`` that is neither of the two."""
    if errors not in ("raise", "return"):
        raise ValueError(f'errors must be "raise" or "return", not {errors!r}')


def _let_go(error: FastInferError) -> FastInferError:
    """An error without the frames it came through: as long as its result is kept, they would keep the image or prompt.

    What an engine failed with keeps its own, which tell where.
    """
    error.__traceback__ = None
    if not isinstance(error, EngineError):
        cause = error.__cause__ or error.__context__
        while cause is not None and cause.__traceback__ is not None:
            cause.__traceback__ = None
            cause = cause.__cause__ or cause.__context__
    return error


class _Window(Generic[Item, Result]):
    """The items between input and output, oldest first."""

    def __init__(self, failed: Callable[[Item, FastInferError], Result], ahead: int, errors: str) -> None:
        self._failed, self._ahead, self._errors = failed, ahead, errors
        self._items: deque[tuple[Item, Pending[Result] | FastInferError]] = deque()
        self._open = True
        self._broken: Exception | None = None

    @property
    def wants_more(self) -> bool:
        return self._open and len(self._items) < self._ahead

    def add(self, item: Item, pending: Pending[Result] | FastInferError) -> None:
        self._items.append((item, pending))

    def end(self, error: Exception | None = None) -> None:
        """No more input: it was exhausted, or it raised."""
        self._open, self._broken = False, error

    def oldest(self) -> Pending[Result] | None:
        """What to wait for next; None once all is done. Raises what the input raised after all results before it."""
        if self._items:
            pending = self._items[0][1]
            if isinstance(pending, FastInferError):
                raise pending
            return pending
        if self._broken is not None:
            raise self._broken
        return None

    def succeed(self) -> None:
        """The oldest is done."""
        self._items.popleft()

    def fail(self, error: FastInferError) -> Result:
        """The result of the oldest if it failed; raises where failures are to be raised."""
        if not self._items:
            raise error
        item, _ = self._items.popleft()
        if self._errors == "raise":
            raise error
        return self._failed(item, _let_go(error))

    def cancel(self) -> None:
        """Take back what was started and will not be waited for."""
        for _, pending in self._items:
            if not isinstance(pending, FastInferError):
                pending.cancel()


def run(
    items: Iterable[Item],
    start: Callable[[Item], Pending[Result]],
    failed: Callable[[Item, FastInferError], Result],
    *,
    ahead: int,
    errors: str,
    unit: str,
    progress: bool,
    ended: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Results in the order of the items, with at most ``ahead`` submitted at a time.

    Args:
        items: read as needed.
        start: submits an item; may wait for room.
        failed: the result of an item that failed, where ``errors`` is ``"return"``.
        ahead: most items between input and output.
        errors: ``"raise"`` or ``"return"``.
        unit: what an item is called beside the bar.
        progress: show a bar.
        ended: called once when the last item was started.
    """
    window: _Window[Item, Result] = _Window(failed, ahead, errors)
    source = iter(items)
    with _bar(items, unit, progress) as bar, _cancelling(window):
        while True:
            while window.wants_more:
                try:
                    item = next(source)
                except StopIteration:
                    window.end()
                    ended()
                except Exception as error:  # noqa: BLE001  whatever the caller's input raises is the caller's
                    window.end(error)
                    ended()
                else:
                    try:
                        window.add(item, start(item))
                    except FastInferError as error:
                        window.add(item, error)
            try:
                pending = window.oldest()
                if pending is None:
                    return
                result = pending.result()
                window.succeed()
            except FastInferError as error:
                result = window.fail(error)
            bar.update()
            yield result


async def run_async(
    items: Iterable[Item] | AsyncIterable[Item],
    start: Callable[[Item], Awaitable[Pending[Result]]],
    failed: Callable[[Item, FastInferError], Result],
    *,
    ahead: int,
    errors: str,
    unit: str,
    progress: bool,
    ended: Callable[[], None] = lambda: None,
) -> AsyncIterator[Result]:
    """:func:`run` for asyncio."""
    window: _Window[Item, Result] = _Window(failed, ahead, errors)
    source = items.__aiter__() if isinstance(items, AsyncIterable) else _as_async(items)
    with _bar(items, unit, progress) as bar, _cancelling(window):
        while True:
            while window.wants_more:
                try:
                    item = await source.__anext__()
                except StopAsyncIteration:
                    window.end()
                    ended()
                except Exception as error:  # noqa: BLE001  whatever the caller's input raises is the caller's
                    window.end(error)
                    ended()
                else:
                    try:
                        window.add(item, await start(item))
                    except FastInferError as error:
                        window.add(item, error)
            try:
                pending = window.oldest()
                if pending is None:
                    return
                result = await pending.aresult()
                window.succeed()
            except FastInferError as error:
                result = window.fail(error)
            bar.update()
            yield result


@contextmanager
def _cancelling(window: _Window[Any, Any]) -> Iterator[None]:
    """Cancel what is left in the window on the way out."""
    try:
        yield
    except GeneratorExit:
        # The stream was dropped, as a rule: Python would lose an interrupt that is raised from here.
        try:
            with Deferral():
                window.cancel()
        except KeyboardInterrupt:
            press_again()
        raise
    except BaseException:
        window.cancel()
        raise


async def _as_async(items: Iterable[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


class _NoBar:
    def update(self) -> None:
        pass


def _bar(items: object, unit: str, progress: bool) -> AbstractContextManager[Any]:
    if not progress:
        return nullcontext(_NoBar())
    from tqdm.auto import tqdm

    bar: AbstractContextManager[Any] = tqdm(total=len(items) if isinstance(items, Sized) else None, unit=unit)
    return bar
