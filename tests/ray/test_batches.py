"""A batch goes in as an Arrow table and comes out with its results, as Ray Data hands it over; no Ray is needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastinfer.errors import EngineDeadError, FastInferError, PresetError
from fastinfer.ray import Chat, Classify

arrow = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def classify(labels: list[str]) -> Iterator[Classify]:
    made = Classify("embedded", column="bytes", labels=labels, workers=1, n_threads=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def chat(babbler: Path) -> Iterator[Chat]:
    made = Chat("embedded", model=babbler, options={"max_tokens": 4, "temperature": 0}, parallel=2)
    yield made
    made.close()


def test_rows_are_the_answers_of_a_classifier(
    classify: Classify, shared: Any, pictures: list[Image.Image], png: Callable[[Image.Image], bytes]
) -> None:
    batch = arrow.table({"id": range(6), "bytes": [png(picture) for picture in pictures]})
    out = classify.classify(batch)
    assert out.column_names[:3] == ["id", "label", "confidence"]
    for row, expected in zip(out.to_pylist(), shared.classify_many(pictures), strict=True):
        assert row["label"] == expected.label
        assert dict(row["probabilities"]) == pytest.approx(expected.probabilities, abs=5e-3)
        assert row["error_type"] is None


def test_an_unreadable_image_is_a_row_with_its_error(
    classify: Classify, pictures: list[Image.Image], png: Callable[[Image.Image], bytes]
) -> None:
    good, bad, none = classify.classify(arrow.table({"bytes": [png(pictures[0]), b"no image", None]})).to_pylist()
    assert good["error_type"] is None
    assert (bad["error_type"], bad["label"], bad["probabilities"]) == ("ImageDecodeError", None, None)
    assert none["error_type"] == "ImageDecodeError"


def test_every_batch_has_the_same_schema(
    classify: Classify, pictures: list[Image.Image], png: Callable[[Image.Image], bytes]
) -> None:
    batches = [[png(pictures[0])], [b""], []]
    schemas = {str(classify.classify(arrow.table({"bytes": arrow.array(b, arrow.binary())})).schema) for b in batches}
    assert len(schemas) == 1


def test_paths_and_arrays_are_images_too(tmp_path: Path, labels: list[str], pictures: list[Image.Image]) -> None:
    pictures[0].save(tmp_path / "a.png")
    made = Classify("embedded", column="path", labels=labels, keep_images=True, top=2, prefix="p_", workers=1)
    try:
        (row,) = made.classify(arrow.table({"path": [str(tmp_path / "a.png")]})).to_pylist()
        assert row["path"] == str(tmp_path / "a.png")
        assert (row["p_label"], len(row["p_probabilities"])) == ("red circle", 2)
    finally:
        made.close()
    with pytest.raises(EngineDeadError):
        made.classify(arrow.table({"path": [str(tmp_path / "a.png")]}))


def test_a_tensor_column_holds_images(classify: Classify, labels: list[str], pictures: list[Image.Image]) -> None:
    pixels = np.stack([np.asarray(picture) for picture in pictures[:2]])
    column = arrow.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    made = Classify("embedded", column="image", labels=labels, workers=1)
    try:
        assert made.classify(arrow.table({"image": column}))["label"].to_pylist() == ["red circle", "red square"]
    finally:
        made.close()


def test_batches_may_be_in_work_at_once(
    classify: Classify, pictures: list[Image.Image], png: Callable[[Image.Image], bytes]
) -> None:
    batches = [arrow.table({"bytes": [png(picture)] * 3}) for picture in pictures]

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(classify.aclassify(batch) for batch in batches))

    together = [out["label"].to_pylist() for out in asyncio.run(all_of_them())]
    assert together == [classify.classify(batch)["label"].to_pylist() for batch in batches]


def test_the_call_that_ray_makes_yields_the_batch(
    classify: Classify, pictures: list[Image.Image], png: Callable[[Image.Image], bytes]
) -> None:
    async def collected() -> list[Any]:
        return [out async for out in classify(arrow.table({"bytes": [png(pictures[0])]}))]

    (out,) = asyncio.run(collected())
    assert out["label"].to_pylist() == ["red circle"]


def test_a_column_that_is_not_there_ends_the_batch(classify: Classify) -> None:
    with pytest.raises(FastInferError, match="no column 'bytes'"):
        classify.classify(arrow.table({"image": [b""]}))


def test_an_unknown_parameter_is_refused_before_anything_loads() -> None:
    with pytest.raises(PresetError, match="no_such_parameter"):
        Classify("embedded", no_such_parameter=1)


def test_conversations_are_strings_structs_or_json(chat: Chat) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    text = chat.chat(arrow.table({"messages": ["Hello", json.dumps(messages)]}))
    structs = chat.chat(arrow.table({"messages": [messages]}))
    assert len({*text["text"].to_pylist(), *structs["text"].to_pylist()}) == 1
    assert text["completion_tokens"].to_pylist() == [4, 4]


def test_a_bad_conversation_is_a_row_with_its_error(chat: Chat) -> None:
    good, bad = chat.chat(
        arrow.table({"messages": ["[INST] hello", '[{"role": "nobody", "content": "x"}]']})
    ).to_pylist()
    assert good["error_type"] is None
    assert bad["error_type"] == "MessageError"
