"""Models whose shape is known here: stand-ins for their files where neither the hub nor its cache has them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastinfer.models.hub_name import HubName
from fastinfer.models.known_tensors import internvl_tensors, seed_oss_metadata, seed_oss_tensors
from fastinfer.models.quantisation_mixes import known_mix
from fastinfer.models.stand_ins import write_gguf, write_safetensors, writing
from fastinfer.toml_file import read_toml

__all__ = ["KnownShape", "known_checkpoint", "known_gguf"]

_FILE: Final = Path(__file__).with_name("known_shapes.toml")
_PREFERRED: Final = "Q4_K_M"  # as where a hub's repository is asked for no quantisation
_MAIN: Final = (None, "main")


class KnownShape(NamedTuple):
    """A stand-in for a model.

    Attributes:
        name: the model's, with its quantisation if it has one.
        path: the GGUF file, or the folder in Hugging Face's form.
        note: what is assumed: a sentence.
    """

    name: str
    path: Path
    note: str


def known_gguf(wanted: HubName, folder: Path) -> KnownShape | None:
    """Write a stand-in for a model in GGUF format, or give None where its shape or quantisation is not known here.

    Args:
        wanted: its name.
        folder: where the file is put.

    Raises:
        ModelLoadError: it cannot be written.
    """
    shape = _shapes()["gguf"].get(wanted.repo)
    label = wanted.quant or _PREFERRED
    mix = known_mix(label)
    if shape is None or mix is None or wanted.revision not in _MAIN:
        return None
    path = folder / f"{wanted.repo.partition('/')[2].removesuffix('-GGUF')}-{mix}.gguf"
    write_gguf(path, seed_oss_metadata(shape), seed_oss_tensors(shape, mix))
    note = f"The hub cannot be reached: computed from {shape['source']}, quantised as llama.cpp does for {mix}"
    if label.upper() != mix:
        note += f", from which the published {label.upper()} differs by a few per cent"
    return KnownShape(f"{wanted.repo}:{label}", path, f"{note}.")


def known_checkpoint(wanted: HubName, folder: Path) -> KnownShape | None:
    """Write a stand-in for a checkpoint in Hugging Face's form, or give None where its shape is not known here.

    Args:
        wanted: its name.
        folder: where its files are put.

    Raises:
        ModelLoadError: it cannot be written.
    """
    shapes = _shapes()
    shape = shapes["checkpoint"].get(wanted.repo)
    if shape is None or wanted.revision not in _MAIN:
        return None
    own = {name: value for name, value in shape.items() if name != "source"}
    config = {**shapes["config"], "text_config": {**shapes["config"]["text_config"], **own}}
    for name, content in {"config": config, "preprocessor_config": shapes["processor"]}.items():
        file = folder / f"{name}.json"
        with writing(file):
            file.write_text(json.dumps(content), "utf-8")
    write_safetensors(folder / "model.safetensors", internvl_tensors(config))
    return KnownShape(wanted.repo, folder, f"The hub cannot be reached: computed from {shape['source']}.")


@cache
def _shapes() -> dict[str, Any]:
    return read_toml(_FILE)
