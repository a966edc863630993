"""What a chat model does now: its slots and its counters, shown as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastinfer.showing import Report, Shown
from fastinfer.watching.families import LLAMA_SERVER

__all__ = ["Metrics", "Slots"]

_HEADINGS: Final = ("slot", "state", "prompt tokens", "cached", "read", "generated", "at most")


class Slots(Shown, list[dict[str, Any]]):
    """A list with a dict for each slot, in the form of llama-server's ``/slots``.

    ``str()`` gives a table, as notebooks and rich consoles show it; in all else it is a list.
    """

    __slots__ = ()

    def _report(self) -> Report:
        busy = sum(slot["is_processing"] for slot in self)
        longest = max((slot["n_ctx"] for slot in self), default=0)
        return Report(
            title=f"{busy} of {len(self)} slots busy",
            before=[f"A conversation may have {longest:,} tokens, prompt and reply."],
            headings=_HEADINGS,
            rows=[_row(slot) for slot in self],
        )


class Metrics(Shown, dict[str, float]):
    """A dict from the names of llama-server's ``/metrics`` to their values now.

    ``str()`` gives a table, as notebooks and rich consoles show it; in all else it is a dict.
    """

    __slots__ = ()

    def _report(self) -> Report:
        return Report(
            title="Since the model was loaded",
            before=[],
            headings=("name", "value", "meaning"),
            rows=[(name, f"{value:,.6g}", LLAMA_SERVER[name].help) for name, value in self.items()],
        )


def _row(slot: Mapping[str, Any]) -> tuple[str, ...]:
    if not slot["is_processing"]:
        return str(slot["id"]), "idle", "", "", "", "", ""
    prompt, cached, read = (slot[f"n_prompt_tokens{part}"] for part in ("", "_cache", "_processed"))
    most = slot["params"]["n_predict"]
    return (
        str(slot["id"]),
        "writing" if slot["next_token"]["n_decoded"] else "reading",
        f"{prompt:,}",
        f"{cached:,}",
        f"{read:,}",
        f"{slot['next_token']['n_decoded']:,}",
        "what fits" if most < 0 else f"{most:,}",
    )
