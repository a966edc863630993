from __future__ import annotations

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fastinfer
from fastinfer import Classification, ClassificationReport
from fastinfer.errors import FastInferError
from fastinfer.reporting import page

TRUTH = ["cat", "cat", "cat", "dog", "otter", "dog"]
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)> & </style>'
VOID = {"br", "img", "link", "meta", "circle", "line", "rect"}


class Page(HTMLParser):
    """A document's elements; fails where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def report(animals: list[Classification]) -> ClassificationReport:
    pictures = [Image.new("RGB", (40, 20), colour) for colour in ("red", "green", "blue", "white", "black", "grey")]
    return fastinfer.report(animals, TRUTH, images=pictures, title="Animals")


def test_the_document_stands_alone(report: ClassificationReport) -> None:
    document = Page(report.to_html())
    assert not document.all("script", "iframe", "object", "base", "form")
    addresses = [a[name] or "" for _, a in document.found for name in ("src", "href", "srcset", "data") if name in a]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in report.to_html()
    assert "@import" not in report.to_html()


def test_it_can_be_read_without_seeing_it(report: ClassificationReport) -> None:
    document = Page(report.to_html())
    tables = document.all("table")
    assert len(tables) == len(document.all("caption")) >= 4
    assert all(head.get("scope") in ("row", "col") for head in document.all("th"))
    assert all(image.get("alt") for image in document.all("img"))
    charts = document.all("svg")
    assert len(charts) == 2
    names = [attributes["id"] for _, attributes in document.found if "id" in attributes]
    assert len(names) == len(set(names))
    referred = [name for _, a in document.found for name in (a.get("aria-labelledby") or "").split()]
    links = [(link["href"] or "").removeprefix("#") for link in document.all("a")]
    assert {*referred, *links} <= set(names)
    assert all(chart["role"] == "img" and chart["aria-labelledby"] for chart in charts)
    levels = [int(tag[1]) for tag, _ in document.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}


def test_names_and_labels_are_shown_as_they_are(classified: Callable[..., Classification]) -> None:
    labels = [HOSTILE, "Tiếng Việt: chó 🐕‍🦺", "कुत्ता", "كلب", "狗" * 60]
    results = [
        classified({label: 0.6, labels[0]: 0.4} if label != HOSTILE else {label: 1.0}, f"{label}/x.png")
        for label in labels
    ]
    results.append(classified({}, f"{HOSTILE}.png", FastInferError(HOSTILE)))
    made = fastinfer.report(results, [*labels[1:], labels[0], None], title=HOSTILE)
    for text in (made.to_html(), made._repr_html_()):
        shown = Page(text)
        assert not shown.all("script")
        assert not [image for image in shown.all("img") if image.get("src") == "x"]
        assert all(label in shown.text for label in labels)
        assert html.escape(HOSTILE) in text.replace("&#34;", "&quot;")


def test_control_characters_and_names_that_are_no_text_are_replaced(classified: Callable[..., Classification]) -> None:
    made = fastinfer.report([classified({"a\x1b[2J\x00": 0.7, "b": 0.3}, "\udcff\n.png")], title="x\x07")
    made.to_html().encode()
    assert made.least_certain[0].name == "\ufffd\ufffd.png"
    assert made.labels[0].label == "a\ufffd[2J\ufffd"
    assert "\x1b" not in str(made)


def test_equal_results_give_equal_bytes(report: ClassificationReport, animals: list[Classification]) -> None:
    pictures = [Image.new("RGB", (40, 20), colour) for colour in ("red", "green", "blue", "white", "black", "grey")]
    again = fastinfer.report(iter(animals), iter(TRUTH), images=iter(pictures), title="Animals")
    assert again.to_html() == report.to_html()


def test_styles_of_the_notebook_reach_nothing_outside(report: ClassificationReport) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", report._repr_html_(), re.DOTALL)
    rules = re.findall(r"([^{}]+)\{", re.sub(r"@media[^{]*\{", "", style))
    selectors = [selector.strip() for rule in rules for selector in rule.split(",")]
    assert len(selectors) > 50
    assert [selector for selector in selectors if not selector.startswith(".fastinfer-report")] == []
    assert Page(report._repr_html_()).found[0] == ("div", {"class": "fastinfer-report"})


def test_two_reports_in_one_notebook_share_no_names(report: ClassificationReport, animals: Any) -> None:
    other = fastinfer.report(animals)
    one, two = (set(re.findall(r' id="([^"]+)"', made._repr_html_())) for made in (report, other))
    assert one
    assert not one & two


def test_many_labels_leave_a_matrix_of_those_with_most_mistakes(classified: Callable[..., Classification]) -> None:
    names = [f"label {number}" for number in range(120)]
    results, truth = [], []
    for number, name in enumerate(names):
        for turn in range(3):
            wrong = number >= 90 and turn < 2
            given = names[number - 1] if wrong else name
            results.append(classified({given: 0.8, names[0] if given != names[0] else names[1]: 0.2}))
            truth.append(name)
    made = fastinfer.report(results, truth)
    matrix = page.matrix_of(made)
    assert len(matrix.labels) == 40
    assert matrix.left_out == 80
    assert set(matrix.labels) > set(names[90:])
    text = made.to_html()
    assert "80 left out" in text
    assert all(f">{name}</bdi>" in text for name in names)
    assert "the lowest F1 first" in text


def test_without_images_the_sheet_is_a_list_of_names(animals: list[Classification]) -> None:
    shown = Page(fastinfer.report(animals).to_html())
    assert not shown.all("img")
    assert "otter/5.png" in shown.text


def test_a_file_appears_complete_or_not_at_all(report: ClassificationReport, tmp_path: Path, monkeypatch: Any) -> None:
    target = report.save(tmp_path / "report.html")
    assert target.read_text("utf-8") == report.to_html()
    target.write_text("old", "utf-8")
    report.save(str(target))
    assert target.read_text("utf-8") == report.to_html()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.os, "fsync", full)
    with pytest.raises(FastInferError, match=r"cannot be written to .*No space left on device"):
        report.save(target)
    assert target.read_text("utf-8") == report.to_html()
    assert [path.name for path in tmp_path.glob("*.html*")] == ["report.html"]
    with pytest.raises(FastInferError, match="cannot be written"):
        report.save(tmp_path / "missing" / "report.html")


def test_a_browser_shows_it_without_a_complaint_or_a_request(
    browser: Callable[..., tuple[str, str]], report: ClassificationReport, tmp_path: Path
) -> None:
    # The page runs no script itself: one around it says how wide it came out on a phone and on a screen.
    frames = "".join(
        f'<iframe width="{width}" height="800" srcdoc="{html.escape(report.to_html())}"></iframe>'
        for width in (360, 1280)
    )
    script = """addEventListener("load", () => {
        for (const frame of document.querySelectorAll("iframe")) {
            const shown = frame.contentDocument;
            const pictures = [...shown.images].every(image => image.naturalWidth > 0);
            const said = [frame.width, shown.documentElement.scrollWidth, pictures, shown.title];
            document.body.append("shown: " + said.join("|") + ";");
        }
    })"""
    (tmp_path / "around.html").write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">{frames}<script>{script}</script>',
        "utf-8",
    )
    dom, log = browser(
        tmp_path / "around.html",
        tmp_path / "profile",
        "--dump-dom",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    )
    assert re.findall('shown: ([^;"]*);', dom) == ["360|360|true|Animals", "1280|1280|true|Animals"]
    assert "CONSOLE" not in log
