"""What a person sees of results: in a notebook as HTML with everything escaped, elsewhere as the same text."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest

from consoles import on_console
from fastinfer import Classification, Reply, Results

HOSTILE = "<script>alert('x')</script>&amp;\"\n\x1b[31m\udcff"
TAGS = {"p", "b", "br", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


class Reader(HTMLParser):
    """The tags and the text of HTML."""

    def __init__(self, shown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(shown)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile(images: list[Classification]) -> Classification:
    return dataclasses.replace(
        images[1],
        source=HOSTILE,
        label=HOSTILE,
        probabilities={HOSTILE: 0.6, "cat": 0.4},
        prediction_set=(HOSTILE, "cat"),
    )


def test_everything_is_escaped(hostile, images, replies):
    reply = dataclasses.replace(replies[0], text=HOSTILE, reasoning=HOSTILE)
    broken = dataclasses.replace(images[2], source=HOSTILE)
    for item in (hostile, broken, reply, Results([hostile, broken]), Results([reply])):
        read = Reader(item._repr_html_())
        assert read.tags <= TAGS
        assert "<script>alert('x')</script>&amp;\"" in read.text
        read.text.encode("utf-8")


def test_a_row_is_one_line_without_control_characters(hostile):
    shown = str(Results([hostile]))
    shown.encode("utf-8")
    assert "\x1b" not in shown
    assert len([line for line in shown.splitlines() if line.startswith("0 ")]) == 1


def test_a_classification_shows_its_label_with_bars_of_the_right_length(images):
    read = Reader(images[0]._repr_html_())
    assert "a.png: dog (90.0%)" in read.text
    shares = {"dog": 0.9, "cat": 0.1}
    for label, share in shares.items():
        bar = read.text.split(f"{label}{share:.1%}")[1].split("cat")[0]
        assert bar.count("█") == int(24 * share)


def test_only_the_likeliest_labels_are_shown_and_the_others_are_counted(images):
    shares = {f"label {number}": (12 - number) / 78 for number in range(12)}
    read = Reader(dataclasses.replace(images[0], probabilities=shares)._repr_html_())
    assert "label 4" in read.text
    assert "label 5" not in read.text
    assert "less likely labels: 7" in read.text


def test_abstaining_is_said_with_the_labels_that_are_left(images):
    assert str(images[1]) == "b.png: cat (60.0%); abstained: cat, dog"
    assert str(dataclasses.replace(images[1], prediction_set=())) == "b.png: cat (60.0%); abstained: no label"
    assert "abstained: cat, dog" in images[1]._repr_html_()
    assert "abstained: cat, dog" in str(Results(images))
    assert "Prediction set" not in images[0]._repr_html_()
    assert "Prediction set: dog" in dataclasses.replace(images[0], prediction_set=("dog",))._repr_html_()


def test_a_failed_image_shows_its_error(images):
    for shown in (images[2]._repr_html_(), Results(images)._repr_html_(), str(Results(images))):
        assert "ImageDecodeError: Cannot read c.png. Check it." in shown


def test_a_reply_shows_its_text_what_it_cost_and_its_calls(replies):
    text = Reader(replies[0]._repr_html_()).text
    for said in ("two", "lines", "tool_calls", "110.0", "31 ms", 'look({"where": "thư viện"})', "first this"):
        assert said in text
    assert "MessageError: No messages. Give one." in replies[2]._repr_html_()
    assert str(replies[0]) == "two\nlines"


@pytest.mark.parametrize("kind", ["images", "replies"])
def test_text_html_and_console_say_the_same(request, kind):
    results = Results(request.getfixturevalue(kind) * 5)
    cells = {word for line in str(results).splitlines() for word in line.split()}
    for shown in (Reader(results._repr_html_()).text, on_console(results, 240)):
        assert [word for word in cells if word not in shown] == []
    assert "5 more" in str(results)
    assert "5 failed" in str(results).splitlines()[0]


def test_the_most_frequent_labels_are_counted(images):
    assert "dog 2, cat 1" in str(Results([images[1], images[0], images[0]]))


def test_nothing_shows_as_nothing():
    assert str(Results([])) == "0 classifications"
    assert repr(Results([Reply("a")])) == "<Results: 1 Reply results, 0 failed>"
