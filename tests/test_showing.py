"""What has a report is shown in three ways, whatever kind of class it is."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest

from fastinfer.showing import Report, Shown


@dataclass(frozen=True, slots=True)
class Counted(Shown):
    count: int
    picture: str = ""

    def _report(self) -> Report:
        return Report("Found", [], ("count",), [(f"<{self.count}>",)])

    def _picture(self) -> str:
        return self.picture


def test_text_is_for_reading_and_repr_stays_that_of_the_dataclass() -> None:
    assert str(Counted(3)) == "Found\n\ncount\n<3>"
    assert repr(Counted(3)) == "Counted(count=3, picture='')"


def test_a_notebook_shows_the_table_and_the_picture_where_there_is_one() -> None:
    assert "&lt;3&gt;" in Counted(3)._repr_html_()
    assert "<img" not in Counted(3)._repr_html_()
    assert 'src="data:image/png;base64,abc="' in Counted(3, "abc=")._repr_html_()


def test_slots_and_pickling_are_as_without_it() -> None:
    assert pickle.loads(pickle.dumps(Counted(3))) == Counted(3)
    assert not hasattr(Counted(3), "__dict__")


def test_a_class_without_a_report_is_refused() -> None:
    class Nothing(Shown):
        pass

    with pytest.raises(TypeError, match="_report"):
        Nothing()  # type: ignore[abstract]
