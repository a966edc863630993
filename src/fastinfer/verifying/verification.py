"""What a preset was measured at, beside what it does here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from fastinfer.measuring import Figures, Receipt
from fastinfer.preset_library import Preset
from fastinfer.preset_library.receipts import differences
from fastinfer.showing import Report, Section, Shown

__all__ = ["CLEARLY", "FigureCheck", "Verdict", "Verification", "confront"]

#: By how much a figure must be worse than the receipt's worst round to be clearly worse.
CLEARLY: Final = 0.10

#: By how much the tokens of an item may differ in the same work.
_SAME_WORK: Final = 0.10
#: From which share of the cores on the machine was busy with other things.
_BUSY: Final = 0.5

Verdict = Literal["within", "better", "slightly worse", "clearly worse", "not judged"]

#: The figures that are compared: what each is called, and whether more of it is better.
_FIGURES: Final = (
    ("throughput", "throughput", True),
    ("latency_p50", "an answer, p50", False),
    ("latency_p95", "an answer, p95", False),
    ("ttft_p50", "first token, p50", False),
    ("ttft_p95", "first token, p95", False),
    ("inter_token_p50", "between tokens, p50", False),
    ("inter_token_p95", "between tokens, p95", False),
)
_IN_WORDS: Final[dict[Verdict, str]] = {
    "within": "within the receipt's rounds",
    "better": "better",
    "slightly worse": "slightly worse",
    "clearly worse": "clearly worse",
    "not judged": "not judged",
}


@dataclass(frozen=True, slots=True)
class FigureCheck:
    """One figure, then and here. Images or tokens a second, or seconds.

    Attributes:
        name: the field of :class:`fastinfer.measuring.Figures`.
        receipt: in the receipt.
        low, high: the receipt's lowest and highest round.
        here: measured here.
        ratio: ``here / receipt``.
        within: whether ``here`` lies between the receipt's lowest and highest round.
        verdict: ``"within"`` the rounds, ``"better"``, ``"slightly worse"``, ``"clearly worse"`` (by more than a
            tenth than the worst round), or ``"not judged"``.
    """

    name: str
    receipt: float
    low: float
    high: float
    here: float
    ratio: float
    within: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Verification(Shown):
    """A receipt and a measurement of the same work here. ``str()`` gives text, notebooks and rich consoles a table.

    Attributes:
        preset: the preset's name.
        kind: ``"classify"`` or ``"chat"``.
        receipt: what was measured before.
        here: what was measured now.
        checks: figure by figure, those that both have.
        surroundings: what differs in hardware, driver, versions, model, work and preset, in words.
        not_judged: why no figure is judged, in words; empty where they are.
    """

    preset: str
    kind: str
    receipt: Receipt
    here: Receipt
    checks: tuple[FigureCheck, ...]
    surroundings: tuple[str, ...]
    not_judged: str

    @property
    def judged(self) -> bool:
        """Hardware and model are those of the receipt, so that the figures should be."""
        return not self.not_judged

    @property
    def ok(self) -> bool:
        """No figure is clearly worse than the receipt's; also true where nothing is judged."""
        return all(check.verdict != "clearly worse" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold."""
        return {
            "preset": self.preset,
            "kind": self.kind,
            "ok": self.ok,
            "judged": self.judged,
            "not_judged": self.not_judged,
            "checks": [asdict(check) for check in self.checks],
            "surroundings": list(self.surroundings),
            "receipt": self.receipt.to_dict(),
            "here": self.here.to_dict(),
        }

    def _report(self) -> Report:
        said = "as measured before" if self.ok else "clearly slower than measured before"
        figures, work = self.here.figures, self.here.workload
        names = {name: words for name, words, _ in _FIGURES}
        return Report(
            title=f"{self.preset} ({self.kind}): {said if self.judged else 'not judged'}",
            before=[
                f"{work.name}, {work.items} a round, rounds counted here: {self.here.rounds}",
                *([f"Not judged: {self.not_judged}."] if self.not_judged else []),
            ],
            headings=("", "receipt", "its rounds", "here", "ratio", "verdict"),
            rows=[
                (
                    names[check.name],
                    _amount(check.name, check.receipt, figures),
                    f"{_amount(check.name, check.low, figures)} to {_amount(check.name, check.high, figures)}",
                    _amount(check.name, check.here, figures),
                    f"{check.ratio:.2f}",
                    _IN_WORDS[check.verdict],
                )
                for check in self.checks
            ],
            sections=[
                Section("What differs from when the receipt was taken", self.surroundings),
                Section("The receipt was made by", [self.receipt.command]),
            ],
        )


def confront(preset: Preset, receipt: Receipt, here: Receipt, *, load: float | None = None) -> Verification:
    """Compare what was measured here with a receipt, and judge it where hardware and model are the same.

    Args:
        preset: what was measured here.
        receipt: what was measured before.
        here: the same work, measured now.
        load: programs that wanted a core before measuring, on average; None where the system does not tell.
    """
    surroundings = list(_surroundings(preset, receipt, here))
    if load is not None and load > _BUSY * here.environment.cores:
        surroundings.append(f"other programs: {load:.1f} wanted one of the {here.environment.cores} cores beforehand")
    why_not = "; ".join(_obstacles(receipt, here))
    checks = tuple(_checks(receipt, here, judged=not why_not))
    return Verification(preset.name, preset.kind, receipt, here, checks, tuple(surroundings), why_not)


def _checks(receipt: Receipt, here: Receipt, *, judged: bool) -> Iterator[FigureCheck]:
    same_load = receipt.figures.latency_load == here.figures.latency_load
    for name, _, more_is_better in _FIGURES:
        then, now = getattr(receipt.figures, name), getattr(here.figures, name)
        if not then or now is None or (name.startswith("latency") and not same_load):
            continue
        low, high = receipt.spread.get(name, (then, then))
        within = low <= now <= high
        # How many times worse than the worst round: above 1 where it is.
        worse = low / now if more_is_better else now / high
        verdict: Verdict = "not judged"
        if judged and within:
            verdict = "within"
        elif judged:
            verdict = "better" if worse <= 1 else "slightly worse" if worse <= 1 + CLEARLY else "clearly worse"
        yield FigureCheck(name, then, low, high, now, now / then, within, verdict)


def _obstacles(receipt: Receipt, here: Receipt) -> Iterator[str]:
    """Why the figures cannot be expected to be the same."""
    then, now = receipt.environment, here.environment
    on_gpu = receipt.device.upper() != "CPU"
    if on_gpu != (here.device.upper() != "CPU"):
        yield f"it ran on {receipt.device} then and on {here.device} here"
    elif on_gpu and then.gpus[:1] != now.gpus[:1]:
        yield "the GPU is another"
    elif not on_gpu and (then.cpu, then.cores) != (now.cpu, now.cores):
        yield "the processor is another"
    if _same_model(receipt.model) != _same_model(here.model):
        yield f"the model was {receipt.model} then and is {here.model} here"
    for name, what in (("prompt_tokens", "tokens of prompt"), ("tokens", "generated tokens")):
        before, after = (getattr(one.figures, name) / one.figures.items for one in (receipt, here))
        if before and abs(after / before - 1) > _SAME_WORK:
            yield f"an item had {before:.0f} {what} then and has {after:.0f} here"


def _same_model(name: str) -> str:
    """A model's name without its account, folder, remarks, and the mark of Transformers' own format."""
    return name.partition(" (")[0].replace("\\", "/").rsplit("/", 1)[-1].casefold().removesuffix("-hf")


def _surroundings(preset: Preset, receipt: Receipt, here: Receipt) -> Iterator[str]:
    then, now = receipt.environment, here.environment
    model = receipt.model if _same_model(receipt.model) == _same_model(here.model) else here.model
    pairs = [
        ("GPU", ", ".join(then.gpus), ", ".join(now.gpus)),
        ("driver", then.driver, now.driver),
        ("processor", then.cpu, now.cpu),
        ("cores", then.cores, now.cores),
        ("system", then.system, now.system),
        ("device", receipt.device, here.device),
        ("engine", receipt.engine, here.engine),
        ("model", receipt.model, model),
        ("Python", then.python, now.python),
        ("fastinfer", then.fastinfer, now.fastinfer),
        ("commit", _short(then.commit), _short(now.commit)),
        *((name, version, now.versions.get(name)) for name, version in then.versions.items()),
    ]
    for what, before, after in pairs:
        if before != after:
            yield f"{what}: {before or 'none'} then, {after or 'none'} here"
    for field in differences(receipt, preset):
        yield f"preset: {field}"


def _short(commit: str | None) -> str | None:
    """A commit as people write it; that files were changed stays."""
    return None if commit is None else commit[:8] + ("+changes" if commit.endswith("+changes") else "")


def _amount(name: str, value: float, figures: Figures) -> str:
    return f"{value:.4g} {figures.unit}" if name == "throughput" else f"{value * 1e3:.4g} ms"
