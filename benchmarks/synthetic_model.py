"""Writes a GGUF file of the Seed-OSS-36B shape with random weights: for measuring speed where the model cannot be had.

    python benchmarks/synthetic_model.py --out /dev/shm/seed-oss-36b-random.gguf
    python benchmarks/synthetic_model.py --layers 2 --scale 20 --out /tmp/tiny.gguf     # same kind of model, 80 MB

Types follow llama.cpp's Q5_K_M: half of attn_v and ffn_down and the output in Q6_K, the rest in Q5_K, 25.6 GB in all.
Every block is drawn afresh, so no two rows are equal; scales are set so that activations stay near 1. The rows of
special tokens in the output are zero, so that sampling never ends a reply. The tokenizer is byte-level BPE with the
real vocabulary's size and made-up merges: any text is tokenised and comes back. The chat template is the official one.
"""

from __future__ import annotations

import argparse
import os
import string
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TEMPLATE = Path(__file__).resolve().parent.parent / "src/fastinfer/prompts/templates/seed_oss.jinja"
VOCABULARY = 155_136
HEAD = 128
SPECIAL = (
    "<seed:bos>", "<seed:pad>", "<seed:eos>", "<seed:think>", "</seed:think>", "<seed:tool_call>", "</seed:tool_call>",
    "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>",
)  # fmt: skip
NORMAL, CONTROL = 1, 3  # kinds of token
F32, Q5_K, Q6_K = 0, 13, 14  # types of tensor
BLOCK = {Q5_K: 176, Q6_K: 210}  # bytes for 256 weights
ALIGNMENT = 32
CHUNK = 1 << 25  # bytes written at once


@dataclass(frozen=True)
class Tensor:
    """A tensor: its dimensions, fastest first, and the standard deviation of its random weights (None: all ones)."""

    name: str
    shape: tuple[int, ...]
    type: int
    deviation: float | None

    @property
    def size(self) -> int:
        count = int(np.prod(self.shape))
        return count * 4 if self.type == F32 else count // 256 * BLOCK[self.type]


@dataclass(frozen=True)
class Shape:
    """Seed-OSS-36B, or the same divided by ``scale``."""

    layers: int = 64
    scale: int = 1

    @property
    def hidden(self) -> int:
        return max(256, 5120 // self.scale // 256 * 256)

    @property
    def inner(self) -> int:
        return max(256, 27_648 // self.scale // 256 * 256)

    @property
    def kv_heads(self) -> int:
        return max(1, 8 // self.scale)

    @property
    def heads(self) -> int:
        return 10 * self.kv_heads


def tensors(shape: Shape) -> list[Tensor]:
    """All tensors in the order of the file, with the types that llama.cpp's Q5_K_M gives them."""
    hidden, inner, queries, keys = shape.hidden, shape.inner, shape.heads * HEAD, shape.kv_heads * HEAD
    found = [
        Tensor("token_embd.weight", (hidden, VOCABULARY), Q5_K, 0.5),
        Tensor("output_norm.weight", (hidden,), F32, None),
        Tensor("output.weight", (hidden, VOCABULARY), Q6_K, 2 * hidden**-0.5),
    ]
    for layer in range(shape.layers):
        eighth = shape.layers // 8
        better = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
        finer = Q6_K if better else Q5_K
        for name, dimensions, kind, deviation in (
            ("attn_norm.weight", (hidden,), F32, None),
            ("attn_q.weight", (hidden, queries), Q5_K, hidden**-0.5),
            ("attn_q.bias", (queries,), F32, 0.02),
            ("attn_k.weight", (hidden, keys), Q5_K, hidden**-0.5),
            ("attn_k.bias", (keys,), F32, 0.02),
            ("attn_v.weight", (hidden, keys), finer, hidden**-0.5),
            ("attn_v.bias", (keys,), F32, 0.02),
            ("attn_output.weight", (queries, hidden), Q5_K, queries**-0.5),
            ("post_attention_norm.weight", (hidden,), F32, None),
            ("ffn_gate.weight", (hidden, inner), Q5_K, hidden**-0.5),
            ("ffn_up.weight", (hidden, inner), Q5_K, hidden**-0.5),
            ("ffn_down.weight", (inner, hidden), finer, inner**-0.5),
        ):
            found.append(Tensor(f"blk.{layer}.{name}", dimensions, kind, deviation))
    return found


def vocabulary() -> tuple[list[str], list[int], list[str]]:
    """Tokens, their kinds and the merges of a byte-level BPE vocabulary of the real one's size."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    space, lower, upper = letters[32], string.ascii_lowercase, string.ascii_uppercase
    pairs = [a + b for a in lower for b in lower]
    merges = [(space, a) for a in lower + upper]
    merges += [(a, b) for a in lower + upper for b in lower]
    merges += [(space + a, pair) for a in lower + upper for pair in pairs]
    tokens = [*SPECIAL, *(letters[byte] for byte in range(256))]
    room = VOCABULARY - len(tokens) - len(merges)
    # 3331 has no divisor in common with 26**4: four-letter tokens from all over the alphabet, none twice.
    for place in range(room):
        first, second = divmod(place * 3331 % 26**4, 26**2)
        merges.append((pairs[first], pairs[second]))
    tokens += [a + b for a, b in merges]
    kinds = [CONTROL] * len(SPECIAL) + [NORMAL] * (len(tokens) - len(SPECIAL))
    return tokens, kinds, [f"{a} {b}" for a, b in merges]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, value: str | int | float | bool | list[str] | list[int]) -> bytes:
    """A key of the header with its value: unsigned for whole numbers, signed in lists, as llama.cpp wants them."""
    if isinstance(value, bool):
        body = struct.pack("<I?", 7, value)
    elif isinstance(value, int):
        body = struct.pack("<II", 4, value)
    elif isinstance(value, float):
        body = struct.pack("<If", 6, value)
    elif isinstance(value, str):
        body = struct.pack("<I", 8) + text(value)
    elif isinstance(value[0], str):
        body = struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))  # type: ignore[arg-type]
    else:
        body = struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    return text(key) + body


def header(shape: Shape, listed: list[Tensor], template: str) -> tuple[bytes, list[int], int]:
    """The file's beginning up to the weights, where each tensor starts, and the length of the whole file."""
    tokens, kinds, merges = vocabulary()
    pairs = [
        pair("general.architecture", "seed_oss"),
        pair("general.name", f"random weights of the Seed-OSS-36B shape, {shape.layers} layers, scale {shape.scale}"),
        pair("general.file_type", 17),
        pair("seed_oss.block_count", shape.layers),
        pair("seed_oss.context_length", 524_288),
        pair("seed_oss.embedding_length", shape.hidden),
        pair("seed_oss.feed_forward_length", shape.inner),
        pair("seed_oss.attention.head_count", shape.heads),
        pair("seed_oss.attention.head_count_kv", shape.kv_heads),
        pair("seed_oss.attention.key_length", HEAD),
        pair("seed_oss.attention.value_length", HEAD),
        pair("seed_oss.attention.layer_norm_rms_epsilon", 1e-6),
        pair("seed_oss.rope.freq_base", 1e7),
        pair("seed_oss.vocab_size", VOCABULARY),
        pair("tokenizer.ggml.model", "gpt2"),
        pair("tokenizer.ggml.pre", "seed-coder"),
        pair("tokenizer.ggml.tokens", tokens),
        pair("tokenizer.ggml.token_type", kinds),
        pair("tokenizer.ggml.merges", merges),
        pair("tokenizer.ggml.bos_token_id", 0),
        pair("tokenizer.ggml.padding_token_id", 1),
        pair("tokenizer.ggml.eos_token_id", 2),
        pair("tokenizer.ggml.add_bos_token", False),
        pair("tokenizer.chat_template", template),
    ]
    infos, places, at = [], [], 0
    for tensor in listed:
        dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        infos.append(text(tensor.name) + dimensions + struct.pack("<IQ", tensor.type, at))
        places.append(at)
        at += -(-tensor.size // ALIGNMENT) * ALIGNMENT
    begin = b"".join([b"GGUF", struct.pack("<IQQ", 3, len(listed), len(pairs)), *pairs, *infos])
    begin += bytes(-len(begin) % ALIGNMENT)
    return begin, [len(begin) + place for place in places], len(begin) + at


def weights(tensor: Tensor, first: int, count: int, seed: tuple[int, ...]) -> memoryview:
    """``count`` blocks (numbers, for F32) of a tensor from the block ``first`` on."""
    random = np.random.Generator(np.random.PCG64DXSM(seed))
    if tensor.type == F32:
        values = np.ones(count) if tensor.deviation is None else random.normal(0, tensor.deviation, count)
        return memoryview(values.astype("<f4")).cast("B")
    size = BLOCK[tensor.type]
    words = random.integers(0, 2**64 - 1, size=-(-count * size // 8), dtype=np.uint64, endpoint=True)
    blocks = words.view(np.uint8)[: count * size].reshape(count, size)
    # A random block has the deviation 527 (Q5_K, mean removed by its minimum) or 1366 (Q6_K) times its scale.
    assert tensor.deviation is not None
    if tensor.type == Q5_K:
        scale, place = tensor.deviation / 527, slice(0, 4)
        scales = np.array([scale, 15.5 * scale], "<f2")
    else:
        place, scales = slice(208, 210), np.array([tensor.deviation / 1366], "<f2")
    blocks[:, place] = scales.view(np.uint8)
    if tensor.name == "output.weight":
        silent = len(SPECIAL) * tensor.shape[0] // 256
        blocks[: max(0, silent - first), place] = 0
    return memoryview(blocks).cast("B")


def write(path: Path, shape: Shape, template: str, threads: int) -> int:
    """Write the file and return its length; the name appears only once all of it is there."""
    listed = tensors(shape)
    begin, places, length = header(shape, listed, template)
    unfinished = path.with_name(path.name + ".part")
    jobs = []
    for number, (tensor, place) in enumerate(zip(listed, places, strict=True)):
        unit = BLOCK.get(tensor.type, 4)
        whole, step = tensor.size // unit, CHUNK // unit
        for first in range(0, whole, step):
            jobs.append((tensor, place + first * unit, first, min(step, whole - first), (number, first)))
    file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.ftruncate(file, length)
        os.pwrite(file, begin, 0)

        def run(job: tuple[Tensor, int, int, int, tuple[int, ...]]) -> None:
            tensor, place, first, count, seed = job
            rest = weights(tensor, first, count, seed)
            while rest:
                done = os.pwrite(file, rest, place)
                rest, place = rest[done:], place + done

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(run, jobs):
                pass
    finally:
        os.close(file)
    unfinished.replace(path)
    return length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--scale", type=int, default=1, help="divides widths and heads; the vocabulary stays")
    parser.add_argument("--template", type=Path, default=TEMPLATE, help="the chat template to embed")
    parser.add_argument("--threads", type=int, default=min(16, os.cpu_count() or 1))
    arguments = parser.parse_args()
    started = time.perf_counter()
    template = arguments.template.read_text("utf-8")
    length = write(arguments.out, Shape(arguments.layers, arguments.scale), template, arguments.threads)
    print(f"{arguments.out}: {length / 1e9:.2f} GB in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
