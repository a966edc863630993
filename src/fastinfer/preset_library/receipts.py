"""What the built-in presets were measured at.

The receipts are data, ``receipts.json``, which ``benchmarks/receipts.py`` gathers from those that it measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastinfer.preset_library.files import BUILT_IN

if TYPE_CHECKING:
    from fastinfer.measuring import Figures, Receipt
    from fastinfer.preset_library.preset import Preset

__all__ = ["Measured", "differences", "receipts_of"]

_FILE: Final = Path(__file__).with_name("receipts.json")
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Measured:
    """A receipt beside a preset.

    Attributes:
        receipt: what was measured.
        differs: the fields whose value was another one in the preset that was measured, in words; empty if none was.
    """

    receipt: Receipt
    differs: tuple[str, ...]

    def lines(self) -> list[tuple[str, str]]:
        """What it says, as labels with a sentence each."""
        receipt = self.receipt
        where, work = receipt.environment, receipt.workload
        size = [f"{work.items} a round", f"{receipt.rounds} round{'s' if receipt.rounds > 1 else ''}"]
        size += [] if work.labels is None else [f"{work.labels} labels"]
        size += [] if work.max_tokens is None else [f"{work.max_tokens} generated tokens each"]
        commit, _, changed = (where.commit or "unknown").partition("+")
        ran = [
            receipt.engine,
            f"fastinfer {where.fastinfer}",
            f"commit {commit[:8]}{' with changes' if changed else ''}",
        ]
        machine = [*where.gpus[:1], f"driver {where.driver}"] if where.gpus and receipt.device != "CPU" else []
        found = [
            ("measured", ", ".join(_figures(receipt.figures, receipt.spread))),
            ("work", f"{work.name}, {', '.join(size)}"),
            ("model", receipt.model),
            ("machine", ", ".join([*machine, where.cpu, f"{where.cores} cores"])),
            ("ran", ", ".join([*ran, where.when[:10]])),
            ("command", receipt.command),
        ]
        return found + [("differs", text) for text in self.differs]


def receipts_of(preset: Preset) -> tuple[Receipt, ...]:
    """The receipts of the built-in preset that this is or was made from, and of presets with the same values."""
    built_in = (preset._origin or preset).source == BUILT_IN
    return tuple(
        receipt
        for receipt in _receipts()
        if receipt.kind == preset.kind
        and (receipt.fingerprint == preset.fingerprint or (built_in and receipt.preset == preset.name))
    )


def differences(receipt: Receipt, preset: Preset) -> tuple[str, ...]:
    """The fields in which the preset that was measured differs from this one, each with both values.

    ``model`` is not among them: a receipt says by itself which model was measured, whatever the preset's own is.
    """
    then, now = receipt.parameters, preset.parameters.model_dump()
    return tuple(
        f"{field} {_value(then, field)} then, {_value(now, field)} in this preset"
        for field in dict.fromkeys((*now, *then))
        if field != "model" and then.get(field, _ABSENT) != now.get(field, _ABSENT)
    )


def _value(values: Mapping[str, Any], field: str) -> str:
    return str(values[field]) if field in values else "not there"


def _figures(figures: Figures, spread: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    low, high = spread.get("throughput", (figures.throughput, figures.throughput))
    ends = f" ({low:.4g} to {high:.4g})" if low != high else ""
    yield f"{figures.throughput:.4g} {figures.unit}{ends}"
    for what, value in (
        (f"an answer in {{}} ({figures.latency_load}, p50)", figures.latency_p50),
        ("first token in {} (p50)", figures.ttft_p50),
        ("{} between tokens (p50)", figures.inter_token_p50),
        ("{} (p95)", figures.inter_token_p95),
    ):
        if value is not None:
            yield what.format(f"{value * 1e3:.4g} ms")


@cache
def _receipts() -> tuple[Receipt, ...]:
    from fastinfer.measuring import Receipt

    return tuple(Receipt.from_dict(entry) for entry in json.loads(_FILE.read_text("utf-8")))
