"""Replies as they come, and what they cost, for every command that chats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastinfer.cli import output

if TYPE_CHECKING:
    from fastinfer.chat.results import Reply
    from fastinfer.chat.streams import ChatStream

__all__ = ["CANCELLED", "status", "write"]

CANCELLED = "cancelled"


def write(stream: ChatStream) -> Reply:
    """Write a reply while it comes; Ctrl-C stops it.

    Reasoning is dim on a terminal and left out elsewhere. Blanks at the beginning are left out.

    Args:
        stream: what ``LLM.stream`` returned.

    Returns:
        The reply, as far as it came.
    """
    last, before = "\n", ""
    try:
        for piece in stream:
            if piece.kind == "reasoning" and not output.on_terminal():
                continue
            # Models begin with blanks, after a colon or after their reasoning.
            shown = piece if piece.kind == before else piece.lstrip()
            if not shown:
                continue
            if before not in ("", piece.kind):
                output.text("\n" if last == "\n" else "\n\n")
            output.text(shown, dim=piece.kind == "reasoning")
            last, before = shown[-1], piece.kind
    except KeyboardInterrupt:
        stream.close()
        last = "^C"
    except BaseException:
        stream.close()
        raise
    if last != "\n" or not before:
        output.text("\n")
    return stream.reply


def status(reply: Reply) -> str:
    """What a reply cost, on one line; one that was stopped has no figures."""
    if reply.finish_reason == CANCELLED:
        return "stopped"
    usage, timings = reply.usage, reply.timings
    parts = [f"{usage.completion_tokens} tokens"]
    if timings.tokens_per_second:
        parts.append(f"{timings.tokens_per_second:.1f} tokens/s")
    if usage.completion_tokens:
        parts.append(f"first after {timings.queued_ms + timings.prompt_ms:.0f} ms")
    cached = f", {usage.cached_tokens} of them cached" if usage.cached_tokens else ""
    parts.append(f"prompt {usage.prompt_tokens} tokens{cached}")
    if reply.finish_reason == "length":
        parts.append("cut off by max_tokens or the end of the context")
    return ", ".join(parts)
