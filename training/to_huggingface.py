"""Writes the embedded model in Hugging Face's form again, from the two files that ship: the inverse of export.py.

    python training/to_huggingface.py src/fastinfer/models/embedded .work/embedded

TurboMind and Transformers read the folder. Every weight keeps its value: the shipped files hold the trained bf16 weights
in types that contain them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import torch
from architecture import SPECIAL, build_model, byte_level_bpe, save
from export import gguf_name
from tokenizers import AddedToken, Tokenizer


def saved_name(name: str) -> str:
    """The name in a checkpoint of a parameter of the model in memory."""
    if name.startswith("model.language_model."):
        return name.replace("model.language_model.", "language_model.model.", 1)
    return "language_model." + name if name.startswith("lm_head.") else name.removeprefix("model.")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights by llama.cpp's names, (rows, columns) float32."""
    found = {}
    for file in ("embedded.gguf", "embedded-mmproj.gguf"):
        for tensor in gguf.GGUFReader(folder / file).tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            found[tensor.name] = torch.from_numpy(values.copy()).reshape([int(n) for n in tensor.shape][::-1])
    return found


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer, from the vocabulary in the language model's file."""
    fields = gguf.GGUFReader(folder / "embedded.gguf").fields
    pieces = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    made = byte_level_bpe({piece: i for i, piece in enumerate(pieces)}, merges)
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    words = tokenizer(options.files)
    found = weights(options.files)
    model = build_model(words.get_vocab_size())
    state = {}
    for name, parameter in model.state_dict().items():
        value = found.pop(gguf_name(saved_name(name)))
        if name.endswith("position_embeddings"):
            value = value.roll(1, 0)  # export.py says why
        state[name] = value.reshape(parameter.shape)
    if found:
        raise SystemExit(f"The files hold weights that the model does not have: {sorted(found)}.")
    model.load_state_dict(state)
    save(model.to(torch.bfloat16), words, options.out)


if __name__ == "__main__":
    main()
