"""What a chat engine answers to a request that it does not take."""

from __future__ import annotations

from fastinfer.errors import MessageError, PromptTooLongError, QueueFullError, RequestTimeoutError

__all__ = ["check_length", "queue_full", "queue_too_slow"]


def check_length(tokens: int, limit: int, n_ctx: int) -> None:
    """Refuse a prompt that leaves no room for a reply, however little else runs.

    Args:
        tokens: the prompt's.
        limit: tokens that a prompt and its reply may have.
        n_ctx: the parameter that the limit comes from.

    Raises:
        MessageError: the prompt has no tokens.
        PromptTooLongError: it is too long.
    """
    if not tokens:
        raise MessageError("The prompt is empty.")
    if tokens >= limit:
        raise PromptTooLongError(
            f"The prompt has {tokens} tokens, and a prompt with its reply may have {limit}.",
            tokens=tokens,
            limit=limit,
            hint=f"Shorten the conversation, or raise n_ctx (now {n_ctx}).",
        )


def queue_full(most: int) -> QueueFullError:
    """The error where so many requests wait, and one more must not."""
    return QueueFullError(
        f"{most} requests are waiting already.",
        hint="Wait for replies before sending more, use chat_many, or raise max_queue.",
    )


def queue_too_slow() -> RequestTimeoutError:
    """The error where a request's deadline passed before it had a place in the queue."""
    return RequestTimeoutError(
        "The request ran out of time while the queue was full.", hint="Raise timeout, or send fewer at once."
    )
