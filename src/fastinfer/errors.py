"""Every error fastinfer raises.

Each error says what happened and what to do about it; the exception that caused it, if any, is its
``__cause__``. Catch :class:`FastInferError` for all of them.
"""

from __future__ import annotations

__all__ = [
    "EngineDeadError",
    "EngineError",
    "EngineOutOfMemoryError",
    "EngineUnavailableError",
    "FastInferError",
    "ImageDecodeError",
    "LabelError",
    "MessageError",
    "ModelLoadError",
    "ModelNotFoundError",
    "PresetError",
    "PromptTooLongError",
    "QueueFullError",
    "RequestCancelledError",
    "RequestTimeoutError",
    "SchemaError",
]


class FastInferError(Exception):
    """Base of all errors of this library.

    Args:
        message: what happened, naming the item.
        hint: what to do about it, or None where there is nothing to add.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not pickle by themselves, and results travel between processes.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[FastInferError], args: tuple[object, ...], state: dict[str, object]) -> FastInferError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class PresetError(FastInferError):
    """A preset is unknown, or a value in it is unknown, of the wrong type, or outside its legal range."""


class ModelNotFoundError(FastInferError):
    """The named model is neither a local file nor to be had from the hub or its cache."""


class ModelLoadError(FastInferError):
    """The model's files are there but could not be loaded: damaged, incomplete, or of an unsupported kind."""


class EngineError(FastInferError):
    """An engine call failed for one request; the engine itself goes on."""


class EngineUnavailableError(EngineError):
    """The engine a preset names cannot run here: library, driver, device or architecture is missing."""


class EngineOutOfMemoryError(EngineError):
    """The engine could not allocate the memory that the configuration needs."""


class EngineDeadError(EngineError):
    """The engine has stopped and takes no more work: it was closed, or it died.

    Attributes:
        restarted: the engine was isolated and is started again: this request alone is lost, and others are answered.
    """

    def __init__(self, message: str, *, hint: str | None = None, restarted: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.restarted = restarted


class ImageDecodeError(FastInferError):
    """An image could not be read: not an image, damaged, truncated, too large, or of a format not allowed."""


class LabelError(FastInferError, ValueError):
    """The label set cannot be scored: empty, too large, or with labels that cannot be told apart."""


class PromptTooLongError(FastInferError):
    """A prompt with its image does not fit the context.

    Attributes:
        tokens: length of the prompt in tokens, image tokens included.
        limit: the most tokens a request may hold.
    """

    def __init__(self, message: str, *, tokens: int, limit: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.tokens = tokens
        self.limit = limit


class QueueFullError(FastInferError):
    """The queue has reached its limit and the caller asked not to wait."""


class RequestTimeoutError(FastInferError, TimeoutError):
    """A request did not finish within its timeout."""


class RequestCancelledError(FastInferError):
    """A request was cancelled before it finished."""


class MessageError(FastInferError, ValueError):
    """A chat message has an unknown role, a wrong shape, or a part the model cannot take."""


class SchemaError(FastInferError, ValueError):
    """A JSON schema cannot be compiled, or a reply could not be made to satisfy it."""


def raise_if_fatal(error: FastInferError | None) -> None:
    """Raise an error after which all that follows would fail alike, so that it ends what goes on after other errors.

    Args:
        error: of a result; None does nothing.

    Raises:
        EngineDeadError: it is one, and the engine was not started again.
        EngineOutOfMemoryError: it is one.
        EngineUnavailableError: it is one.
    """
    if isinstance(error, EngineDeadError):
        if not error.restarted:
            raise error
    elif isinstance(error, (EngineOutOfMemoryError, EngineUnavailableError)):
        raise error
