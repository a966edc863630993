"""Columns of a batch are found by name, and results are put beside them under names of their own."""

from __future__ import annotations

import pytest

from fastinfer.errors import FastInferError
from fastinfer.ray.columns import beside, values

arrow = pytest.importorskip("pyarrow")


def test_values_come_from_all_chunks_in_order() -> None:
    column = arrow.chunked_array([["a"], [], ["b", None]], arrow.string())
    assert values(arrow.table({"x": column}), "x") == ["a", "b", None]


def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(FastInferError, match=r"no column 'image'.*'bytes', 'path'"):
        values(arrow.table({"bytes": [b""], "path": ["a"]}), "image")


def test_results_stand_after_the_batchs_own_columns() -> None:
    batch, results = arrow.table({"image": [b"1"], "id": [7]}), arrow.table({"label": ["cat"]})
    assert beside(batch, results, prefix="", leave_out="image").to_pylist() == [{"id": 7, "label": "cat"}]
    assert beside(batch, results, prefix="p_", leave_out=None).column_names == ["image", "id", "p_label"]


def test_a_column_of_the_same_name_is_not_overwritten() -> None:
    batch, results = arrow.table({"label": ["dog"]}), arrow.table({"label": ["cat"]})
    with pytest.raises(FastInferError, match=r"'label' already.*prefix="):
        beside(batch, results, prefix="", leave_out=None)
    assert beside(batch, results, prefix="predicted_", leave_out=None)["predicted_label"].to_pylist() == ["cat"]


def test_an_empty_batch_gets_the_columns_too() -> None:
    batch, results = arrow.table({"id": arrow.array([], arrow.int64())}), arrow.table({"label": []})
    assert beside(batch, results, prefix="", leave_out=None).num_rows == 0
