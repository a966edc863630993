"""README.vi.md says what README.md says: section by section, with the same code, names, links and numbers."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```.*?^```$|(?:^ {4}[^\n]*\n)+", re.DOTALL | re.MULTILINE)
GENERATED = re.compile(r"^<!-- ([\w-]+) -->\n.*?^<!-- /\1 -->$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")
#: The line at the top of each page that leads to the other one.
OTHER = re.compile(r"^\*\[(?:English|Tiếng Việt)\]\((README(?:\.vi)?\.md)\)\*$", re.MULTILINE)
#: What stands in the Vietnamese page for a table of figures, which is only in the English one.
TABLE = re.compile(r"^\[Bảng: [^\]]*\]\(README\.md#([\w-]+)\)\.$", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """A heading with the paragraphs below it, without code blocks; ``<table>`` stands for a generated part."""

    level: int
    heading: str
    paragraphs: tuple[str, ...]

    def names(self) -> Counter[str]:
        text = " ".join("\n".join(self.paragraphs).split())
        return Counter(re.findall(r"`([^`]+)`", text))

    def links(self) -> Counter[str]:
        return Counter(LINK.findall("\n".join(self.paragraphs)))

    def numbers(self) -> Counter[str]:
        text = re.sub(r"`[^`]+`|\]\([^)]*\)", "", " ".join(self.paragraphs))
        return Counter(re.findall(r"\d+(?:\.\d+)*", re.sub(r"(?<=\d),(?=\d{3})", "", text)))


def read(page: str) -> str:
    return OTHER.sub("", (ROOT / page).read_text("utf-8"))


def sections(text: str) -> list[Section]:
    text = TABLE.sub("<table>", GENERATED.sub("<table>", BLOCK.sub("", text)))
    found = []
    for part in re.split(r"^(?=#)", text, flags=re.MULTILINE)[1:]:
        head, _, rest = part.partition("\n")
        marks, _, heading = head.partition(" ")
        paragraphs = [paragraph.strip() for paragraph in re.split(r"\n\s*\n", rest) if paragraph.strip()]
        found.append(Section(len(marks), heading, tuple(paragraphs)))
    return found


ENGLISH, VIETNAMESE = read("README.md"), read("README.vi.md")
PAIRS = list(zip(sections(ENGLISH), sections(VIETNAMESE), strict=False))


def test_each_page_leads_to_the_other() -> None:
    for page, other in (("README.md", "README.vi.md"), ("README.vi.md", "README.md")):
        top = (ROOT / page).read_text("utf-8").split("\n\n", 2)[1]
        assert OTHER.findall(top) == [other], page


def test_the_headings_have_the_same_levels_in_the_same_order() -> None:
    assert [each.level for each in sections(VIETNAMESE)] == [each.level for each in sections(ENGLISH)]


def test_each_section_has_as_many_paragraphs() -> None:
    for english, vietnamese in PAIRS:
        assert len(vietnamese.paragraphs) == len(english.paragraphs), english.heading
        tables = [[paragraph == "<table>" for paragraph in each.paragraphs] for each in (english, vietnamese)]
        assert tables[0] == tables[1], english.heading


def test_the_code_blocks_are_the_same() -> None:
    assert BLOCK.findall(VIETNAMESE) == BLOCK.findall(ENGLISH)


def test_each_section_names_the_same_code_links_and_numbers() -> None:
    for english, vietnamese in PAIRS:
        assert vietnamese.names() == english.names(), english.heading
        assert vietnamese.links() == english.links(), english.heading
        assert vietnamese.numbers() == english.numbers(), english.heading


def test_a_link_to_a_table_of_figures_leads_to_a_section_that_has_one() -> None:
    with_figures = set()
    seen: Counter[str] = Counter()
    for each in sections(ENGLISH):
        anchor = re.sub(r"[^\w -]", "", each.heading.lower()).replace(" ", "-")
        seen[anchor] += 1
        if "<table>" in each.paragraphs:
            with_figures.add(anchor if seen[anchor] == 1 else f"{anchor}-{seen[anchor] - 1}")
    assert set(TABLE.findall(VIETNAMESE)) <= with_figures
    assert TABLE.findall(VIETNAMESE)


def test_it_is_written_in_vietnamese() -> None:
    assert unicodedata.is_normalized("NFC", VIETNAMESE)
    plain = [
        paragraph
        for each in sections(VIETNAMESE)
        for paragraph in each.paragraphs
        if paragraph != "<table>" and not re.search("[ăâđêôơưạảấầậắằặẹẻếềểệịỉọỏốồổộớờợụủứừữựỳý]", paragraph.lower())
    ]
    assert plain == []
