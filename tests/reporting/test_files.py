from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer import Classification
from fastinfer.errors import FastInferError
from fastinfer.reporting.files import rows_in

TRUTH = ["cat", "cat", "cat", "dog", "otter", "dog"]


def row(result: Classification) -> dict[str, Any]:
    """A result as folder jobs write it."""
    failed = result.error is not None
    return {
        "path": result.source,
        "label": result.label,
        "confidence": None if failed else result.confidence,
        "label_mass": None if failed else result.label_mass,
        "probabilities": None if failed else result.probabilities,
        "prediction_set": None,
        "abstained": False,
        "prompt_tokens": 80,
        "error_type": type(result.error).__name__ if failed else None,
        "error_message": str(result.error) if failed else None,
        "configuration": "0123456789abcdef",
    }


@pytest.fixture
def write(tmp_path: Path, animals: list[Classification]) -> Any:
    """``write(kind)``: the animals' results in a file of a kind."""

    def write(kind: str) -> Path:
        file, rows = tmp_path / f"results.{kind}", [row(result) for result in animals]
        if kind == "jsonl":
            file.write_text("".join(json.dumps(values) + "\n" for values in rows), "utf-8")
        elif kind == "csv":
            with file.open("w", encoding="utf-8", newline="") as text:
                writer = csv.DictWriter(text, list(rows[0]))
                writer.writeheader()
                for values in rows:
                    writer.writerow(values | {"probabilities": json.dumps(values["probabilities"])})
        else:
            arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
            parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
            shares = [values and list(values.items()) for values in (values["probabilities"] for values in rows)]
            table = arrow.Table.from_pylist([{**values, "probabilities": None} for values in rows])
            place = table.schema.get_field_index("probabilities")
            column = arrow.array(shares, arrow.map_(arrow.string(), arrow.float64()))
            parquet.write_table(table.set_column(place, "probabilities", column), file)
        return file

    return write


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_results_file_makes_the_report_of_its_results(write: Any, animals: list[Classification], kind: str) -> None:
    made, expected = fastinfer.report(write(kind), "folders"), fastinfer.report(animals, TRUTH)
    for name in ("total", "classified", "accuracy", "labels", "confusions", "bins", "calibration", "mistakes"):
        assert getattr(made, name) == getattr(expected, name)
    assert made.failures == expected.failures
    assert made.configurations == ("configuration 0123456789abcdef",)


def test_a_folder_jobs_rows_make_the_same(write: Any, animals: list[Classification]) -> None:
    class Job:
        output = Path("results.jsonl")

        def results(self) -> Iterator[dict[str, Any]]:
            return map(row, animals)

    assert fastinfer.report(Job(), TRUTH) == fastinfer.report(write("jsonl"), TRUTH)


def test_results_printed_as_json_are_read_with_what_made_them(tmp_path: Path, animals: list[Classification]) -> None:
    file = tmp_path / "printed.jsonl"
    file.write_text("".join(json.dumps(result.to_dict()) + "\n" for result in animals), "utf-8")
    made = fastinfer.report(file, "folders")
    assert made.configurations == fastinfer.report(animals).configurations
    assert made.failures == fastinfer.report(animals).failures


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"path": "1.png"}\n{"path', "a.jsonl, line 2: Unterminated string"),
        ("a.jsonl", b"[1]\n", "a.jsonl, line 1 holds a list"),
        ("a.jsonl", b"\xff\xfe\n", "a.jsonl is not UTF-8 text"),
        ("a.csv", b"path,label\n1.png,cat,dog\n", "a.csv, line 2: the row has another number of columns"),
        ("a.csv", b"path,label\n1.png\n", "a.csv, line 2: the row has another number of columns"),
        ("a.txt", b"", "a.txt is not a table that can be read: its name ends in '.txt'"),
        ("a", b"", "its name ends in 'nothing'"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_place(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FastInferError) as caught:
        list(rows_in(tmp_path / name))
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(FastInferError, match="not a Parquet file that can be read"):
        list(rows_in(tmp_path / "a.parquet"))


def test_a_file_or_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "folder.csv"):
        with pytest.raises(FastInferError, match=f"{name} cannot be read"):
            list(rows_in(tmp_path / name))
