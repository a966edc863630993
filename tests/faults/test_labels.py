"""Label sets that cannot be scored: refused at every door that opens a model, before one is looked for."""

from __future__ import annotations

import unicodedata

import pytest
from PIL import Image

import fastinfer
from fastinfer.errors import LabelError
from fault_matrix import Fault, rows

NOWHERE = "/there/is/no/such/model.gguf"


def refused(name, labels, words):
    return Fault("labels", f"{name}, at the doors that load", labels, LabelError, words)


FAULTS = (
    refused("duplicate", ["cat", "dog", "cat"], "'cat' and 'cat' are the same"),
    refused("empty set", [], "label set is empty"),
    refused("empty label", ["cat", ""], "Label 1 is empty"),
    refused("NFC and NFD twins", ["café", unicodedata.normalize("NFD", "café")], "the same after Unicode"),
    refused("control characters", ["cat", "do\0g"], "Label 1 holds control characters"),
    refused("half a surrogate pair", ["cat", "\ud800"], "not valid Unicode"),
    refused("a string", "cat", "must be a list of strings"),
    refused("a number among them", ["cat", 3], "not a string"),
    refused("over a thousand", [f"label {i}" for i in range(1001)], "at most 1000"),
)


@pytest.mark.parametrize(**rows(FAULTS))
def test_it_is_refused_before_a_model_is_looked_for(fault, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for door in (
        lambda: fastinfer.classifier(labels=fault.inject, model=NOWHERE),
        lambda: fastinfer.run(tmp_path, tmp_path / "rows.csv", labels=fault.inject, model=NOWHERE),
    ):
        with pytest.raises(fault.error) as caught:
            door()
        assert fault.words in caught.value.message
        assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
