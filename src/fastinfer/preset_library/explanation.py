"""What ``Preset.explain()`` returns: the documentation of each parameter beside its value, as text, HTML and data."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from fastinfer.preset_library.fields import Advice, advice, field_docs
from fastinfer.preset_library.receipts import Measured, differences
from fastinfer.preset_library.translation import Language, check_language, in_language, said
from fastinfer.provenance import Adjustment

if TYPE_CHECKING:
    from fastinfer.commands import Remark
    from fastinfer.preset_library.preset import Preset

__all__ = ["Explanation", "ExplanationRow", "explain"]

_WIDTH: Final = 100
_HANGING: Final = " " * 14
_CELL: Final = "text-align:left;vertical-align:top"
_ADJUSTED: Final = "asked {asked}, the engine got {used}: {why}"
_HEADINGS: Final = ("Field", "Value", "Effect", "Cost", "When to change", "Legal", "Server flag")


@dataclass(frozen=True, slots=True)
class ExplanationRow:
    """One parameter explained.

    Attributes:
        field: the field's name.
        value: its value in the preset.
        documented: the value documented for the built-in preset, where ``value`` differs from it; else None.
        unit: what the value counts; may be empty.
        effect: what the field does.
        cost: what a larger or different value takes.
        when_to_change: when another value is right, and which.
        legal: the values that are accepted.
        flag: the server option it stands for; may be empty.
        adjustments: where the engine got another value than the preset's, and why.
    """

    field: str
    value: int | float | str | bool | list[int]
    documented: int | float | str | bool | list[int] | None
    unit: str
    effect: str
    cost: str
    when_to_change: str
    legal: str
    flag: str
    adjustments: tuple[Adjustment, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A preset explained. ``str()`` gives text at most 100 columns wide; notebooks and rich consoles show a table.

    Attributes:
        title: name, kind, source and fingerprint of the preset, on one line.
        summary: what the preset is for.
        rows: the parameters, in the preset's order.
        advice: what to do about symptoms that concern several fields.
        other_adjustments: adjustments whose field is no parameter of the preset.
        remarks: the flags of the preset's command that have no place in this process.
        measured: the preset's receipts.
        lang: the language; reasons of adjustments, remarks and receipts are English in all of them.
    """

    title: str
    summary: str
    rows: tuple[ExplanationRow, ...]
    advice: tuple[Advice, ...]
    other_adjustments: tuple[Adjustment, ...] = ()
    remarks: tuple[Remark, ...] = ()
    measured: tuple[Measured, ...] = ()
    lang: Language = "en"

    def to_dict(self) -> dict[str, Any]:
        """The same as dictionaries and lists, for JSON; an adjustment's values are kept as they are."""
        data: dict[str, Any] = _as_lists(asdict(self))
        return data

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _wrapped(self.title)
        yield from _wrapped(self.summary)
        for row in self.rows:
            yield ""
            yield from _wrapped(f"{row.field} = {self._value(row)}", rest=_HANGING)
            yield from self._labelled("effect", row.effect)
            yield from self._labelled("cost", row.cost)
            yield from self._labelled("change", row.when_to_change)
            yield from self._labelled("legal", row.legal)
            if row.flag:
                yield from self._labelled("flag", row.flag)
            for adjustment in row.adjustments:
                yield from self._labelled("adjusted", self._adjusted(adjustment))
        if self.other_adjustments:
            yield ""
            yield self._said("Further adjustments")
            for adjustment in self.other_adjustments:
                yield from self._labelled("adjusted", f"{adjustment.field}: {self._adjusted(adjustment)}")
        if self.remarks:
            yield ""
            yield self._said("Flags without a place in this process")
            for remark in self.remarks:
                yield from _wrapped(str(remark), first="    ", rest=_HANGING)
        for receipt in self.measured:
            yield ""
            yield self._said("Measured")
            for label, text in receipt.lines():
                yield from self._labelled(label, text)
        yield ""
        yield self._said("Advice")
        for item in self.advice:
            yield from _wrapped(f"{item.symptom}: {item.text}", first="    ", rest=_HANGING)

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_CELL}">{self._said(heading)}</th>' for heading in _HEADINGS)
        rows = "".join(self._html_row(row) for row in self.rows)
        notes = [f"<b>{_escape(item.symptom)}</b>: {_escape(item.text)}" for item in self.advice]
        others = self.other_adjustments
        notes[:0] = [f"<b>{_escape(item.field)}</b>: {_escape(self._adjusted(item))}" for item in others]
        notes += [_escape(remark) for remark in self.remarks]
        return (
            f"<p><b>{_escape(self.title)}</b><br>{_escape(self.summary)}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"{''.join(self._html_receipt(item) for item in self.measured)}"
            f"<ul>{''.join(f'<li>{note}</li>' for note in notes)}</ul>"
        )

    def __rich__(self) -> object:
        from rich.console import Group, RenderableType
        from rich.table import Table
        from rich.text import Text

        table = Table(show_lines=True, expand=True)
        for heading, ratio in (("Field and value", 4), ("Effect and cost", 5), ("When to change, legal values", 5)):
            table.add_column(self._said(heading), ratio=ratio, overflow="fold")
        for row in self.rows:
            # Text, not str: rich reads square brackets in a str as markup.
            flag = f"\n{row.flag}" if row.flag else ""
            name = Text.assemble((row.field, "bold"), f"\n{self._value(row)}", (flag, "dim"))
            for adjustment in row.adjustments:
                name.append(f"\n{self._adjusted(adjustment)}", style="yellow")
            change = Text(f"{row.when_to_change}\n{self._said('Legal')}: {row.legal}")
            table.add_row(name, Text(f"{row.effect}\n{row.cost}"), change)
        parts: list[RenderableType] = [Text(self.title, style="bold"), Text(self.summary), table]
        parts += [Text(f"{item.field}: {self._adjusted(item)}", style="yellow") for item in self.other_adjustments]
        parts += [Text(str(remark), style="dim") for remark in self.remarks]
        for receipt in self.measured:
            parts.append(Text(self._said("Measured"), style="bold"))
            parts += [Text(f"{self._said(label):<10}{text}") for label, text in receipt.lines()]
        parts += [Text.assemble((item.symptom, "bold"), f": {item.text}") for item in self.advice]
        return Group(*parts)

    def _said(self, text: str) -> str:
        return said(text, self.lang)

    def _labelled(self, label: str, text: str) -> list[str]:
        return _wrapped(text, first=f"    {self._said(label):<10}", rest=_HANGING)

    def _value(self, row: ExplanationRow) -> str:
        text = _plain(row.value)
        if row.unit:
            text += f" {row.unit}"
        if row.documented is not None:
            text += f" ({self._said('documented')}: {_plain(row.documented)})"
        return text

    def _adjusted(self, adjustment: Adjustment) -> str:
        asked, used = _plain(adjustment.asked), _plain(adjustment.used)
        return self._said(_ADJUSTED).format(asked=asked, used=used, why=adjustment.why)

    def _html_row(self, row: ExplanationRow) -> str:
        value = _escape(self._value(row))
        value += "".join(f"<br><i>{_escape(self._adjusted(item))}</i>" for item in row.adjustments)
        rest = (row.effect, row.cost, row.when_to_change, row.legal, row.flag)
        cells = [f"<code>{_escape(row.field)}</code>", value, *map(_escape, rest)]
        return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>"

    def _html_receipt(self, item: Measured) -> str:
        lines = "<br>".join(f"{_escape(self._said(label))}: {_escape(text)}" for label, text in item.lines())
        return f"<p><b>{self._said('Measured')}</b><br>{lines}</p>"


def explain(preset: Preset, adjustments: Iterable[Adjustment], lang: str) -> Explanation:
    """Explain a preset; see :meth:`fastinfer.preset_library.Preset.explain`."""
    lang = check_language(lang)
    documented = preset.documented.model_dump()
    docs = field_docs(preset.kind, preset.parameters.backend, lang)
    adjustments = tuple(adjustments)
    rows = []
    for name, value in preset.parameters.model_dump().items():
        doc = docs[name]
        before = documented.get(name)
        rows.append(
            ExplanationRow(
                field=name,
                value=value,
                documented=before if before != value else None,
                unit=doc.unit,
                effect=doc.effect,
                cost=doc.cost,
                when_to_change=doc.when_to_change,
                legal=doc.legal,
                flag=doc.flag,
                adjustments=tuple(item for item in adjustments if item.field == name),
            )
        )
    return Explanation(
        title=f"{preset.name} ({preset.kind}), {_source(preset, lang)}, fingerprint {preset.fingerprint}",
        summary=in_language({"summary": preset.summary}, lang)["summary"],
        rows=tuple(rows),
        advice=advice(preset.kind, preset.parameters.backend, lang),
        other_adjustments=tuple(item for item in adjustments if item.field not in docs),
        measured=tuple(Measured(receipt, differences(receipt, preset)) for receipt in preset.receipts),
        remarks=() if preset.command is None else preset.command.remarks,
        lang=lang,
    )


def _source(preset: Preset, lang: Language) -> str:
    source = said((preset._origin or preset).source, lang)
    return f"{source}, {said('replaced', lang)}: {', '.join(preset.replaced)}" if preset.replaced else source


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    # Not at hyphens: "16-64" and "--max-batch-size" are to stay whole.
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _escape(value: object) -> str:
    return html.escape(str(value), quote=True)


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_lists(item) for item in value]
    return value
