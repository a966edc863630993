"""How results are shown in a notebook and as text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from fastinfer.chat.results import Reply
from fastinfer.classify.results import Classification
from fastinfer.showing import Report, Section
from fastinfer.tables.rows import readable

__all__ = ["classification_report", "classifications_report", "replies_report", "reply_report"]

#: Rows and labels that are shown; all are in the results.
_ROWS: Final = 10
_LABELS: Final = 5
#: Characters of a cell, and of a bar for a probability of 1.
_CELL: Final = 60
_BAR: Final = 24
_EIGHTHS: Final = "▏▎▍▌▋▊▉█"
_REPLY_HEADINGS: Final = ("finish", "prompt tokens", "cached", "generated", "tokens/s", "first after")


def classification_report(result: Classification) -> Report:
    """One classification: its label, and a bar for each of the likeliest."""
    more = len(result.probabilities) - _LABELS
    return Report(
        title=readable(str(result)),
        before=list(_remarks(result)),
        headings=("label", "probability", ""),
        rows=[(_cell(label), f"{share:.1%}", _bar(share)) for label, share in result.top(_LABELS)],
        sections=[Section("Not shown", [f"less likely labels: {more}"] if more > 0 else [])],
    )


def reply_report(reply: Reply) -> Report:
    """One reply: its text line by line, what it cost, and what else the model wrote."""
    calls = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in reply.tool_calls]
    error = "" if reply.error is None else f"{type(reply.error).__name__}: {reply.error}"
    return Report(
        title="Failed" if error else "Reply",
        before=[*map(readable, reply.text.splitlines()), *([readable(error)] if error else [])],
        headings=_REPLY_HEADINGS,
        rows=[] if error else [_costs(reply)],
        sections=[
            Section("Tool calls", [readable(call) for call in calls]),
            Section("Reasoning", readable(reply.reasoning).splitlines()),
        ],
    )


def classifications_report(results: Sequence[Classification]) -> Report:
    """Many classifications: how many, the most frequent labels, the first rows, and how many more there are."""
    return Report(
        title=f"{len(results):,} classifications{_failed(results)}",
        before=list(_found(results)),
        headings=("", "source", "label", "probability", ""),
        rows=[(str(place), *_classified(result)) for place, result in enumerate(results[:_ROWS])],
        sections=[_more(results)],
    )


def replies_report(results: Sequence[Reply]) -> Report:
    """Many replies: how many, their tokens, the first rows, and how many more there are."""
    return Report(
        title=f"{len(results):,} replies{_failed(results)}",
        before=[_spent(results)] if results else [],
        headings=("", "text", *_REPLY_HEADINGS),
        rows=[(str(place), _cell(_said(reply)), *_costs(reply)) for place, reply in enumerate(results[:_ROWS])],
        sections=[_more(results)],
    )


def _failed(results: Sequence[Classification] | Sequence[Reply]) -> str:
    failed = sum(not result.ok for result in results)
    return f", {failed:,} failed" if failed else ""


def _more(results: Sequence[object]) -> Section:
    more = len(results) - _ROWS
    return Section("Not shown", [f"{more:,} more"] if more > 0 else [])


def _costs(reply: Reply) -> tuple[str, ...]:
    usage, timings = reply.usage, reply.timings
    return (
        reply.finish_reason,
        f"{usage.prompt_tokens:,}",
        f"{usage.cached_tokens:,}",
        f"{usage.completion_tokens:,}",
        f"{timings.tokens_per_second:.1f}",
        f"{timings.queued_ms + timings.prompt_ms:.0f} ms",
    )


def _spent(replies: Sequence[Reply]) -> str:
    prompt, cached, generated = (
        sum(getattr(reply.usage, name) for reply in replies)
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens")
    )
    return f"{prompt:,} tokens of prompts, {cached:,} of them cached; {generated:,} generated."


def _said(reply: Reply) -> str:
    if reply.error is not None:
        return f"{type(reply.error).__name__}: {reply.error}"
    return reply.text or ", ".join(f"calls {call.name}" for call in reply.tool_calls)


def _found(images: Sequence[Classification]) -> Iterator[str]:
    counts = Counter(image.label for image in images if image.label is not None)
    # By number, then by name, so that the order of the images changes nothing.
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    if ranked:
        listed = ", ".join(f"{_cell(label)} {count:,}" for label, count in ranked[:_LABELS])
        yield listed + (f", and {len(ranked) - _LABELS} other labels" if len(ranked) > _LABELS else "")
    abstained = sum(image.abstained for image in images)
    if abstained:
        yield f"{abstained:,} abstained"


def _classified(image: Classification) -> tuple[str, str, str, str]:
    if image.error is not None:
        return _cell(image.source), "", "", _cell(f"{type(image.error).__name__}: {image.error}")
    remark = f"abstained: {_set(image)}" if image.abstained else _bar(image.confidence)
    return _cell(image.source), _cell(image.label or ""), f"{image.confidence:.1%}", remark


def _remarks(result: Classification) -> Iterator[str]:
    if result.error is not None:
        return
    if result.prediction_set is not None and not result.abstained:  # else the title says it
        yield f"Prediction set: {_set(result)}"
    yield f"Label mass {result.label_mass:.2g}; {result.prompt_tokens} tokens of prompt"


def _set(result: Classification) -> str:
    return ", ".join(map(_cell, result.prediction_set or ())) or "no label"


def _bar(share: float) -> str:
    """A bar of block characters, an eighth of one at least."""
    eighths = max(1, round(share * _BAR * 8))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def _cell(text: str) -> str:
    """Text on one line, without control characters, and not too long for a table."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(readable(text).split()))
    return line if len(line) <= _CELL else f"{line[: _CELL - 3]}..."
