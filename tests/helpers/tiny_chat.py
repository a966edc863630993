"""Tiny chat models: one that babbles, and one that says what a test wants it to say.

Both have a byte-level BPE vocabulary with the special tokens of Seed-OSS, ChatML/Hermes and Llama 3. The babbling one
has random weights, so that every token of a conversation matters to the next. The scripted one has layers that add
nothing: its next token depends on the last one alone, and the tokens of each script follow one another. A bias on
the first token of a script (``START``) begins it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np

__all__ = ["CHATML", "PUSH", "SCRIPTS", "TRAINED", "piece_tokens", "write_babbler", "write_scripted"]

WIDTH, HEADS, HEAD, HIDDEN, LAYERS = 128, 4, 32, 48, 2
#: More than what follows nothing in particular, less than what follows in a script.
PUSH = 130.0
#: Tokens the models were "trained" for.
TRAINED = 4096
#: A chat template for them.
CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
CONTROL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<seed:bos>", "<seed:pad>", "<seed:eos>", "<seed:think>", "</seed:think>", "<seed:tool_call>", "</seed:tool_call>",
    "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>",
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>",
]  # fmt: skip
USER = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
WORDS = ("user", "system", "assistant", "hello", "world", "What", "is", "the", "name", "tool", "call", "think")

_CALL = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
#: What the scripted model can be made to say, in tokens. A token is in one script only.
SCRIPTS: dict[str, list[bytes]] = {
    "plain": [b"Hel", b"lo,", b" wor", b"ld.", b"<|im_end|>"],
    "split": [b"caf", b"\xc3", b"\xa9 ", b"\xe2\x98", b"\x83!", b"<|im_end|>"],
    "stop": [b"one S", b"TO", b"P two", b" three", b"<|im_end|>"],
    "hermes": [
        b"<think>", b"\nAdd ", b"them.\n", b"</think>", b"\n\nLet me ", b"see.\n", b"<tool_call>",
        b'\n{"name": "add", ', b'"arguments": {"a": 1, "b": 2}}\n', b"</tool_call>", b"<|im_end|>",
    ],
    "seed_oss": [
        b"<seed:think>", b"Add them", b" up.", b"</seed:think>", b"Let me look.", b"<seed:tool_call>",
        b"\n<function=add>\n", b"<parameter=a>1</parameter>\n<parameter=b>2</parameter>\n</function>\n",
        b"</seed:tool_call>", b"<seed:eos>",
    ],
    "llama3": [b"<|python_tag|>", b'{"name": "add", "para', b'meters": {"a": 1, "b": 2}}', b"<|eom_id|>"],
    "closing": [b" so I", b" add.\n", b"</think>\n", b"\nThree.", b"<|im_end|>"],
    "json": [b'{"city"', b': "Paris"', b', "people"', b": 2}", b"<|im_end|>"],
    "json call": [b'{"name": "add"', b', "parameters": ', b'{"a": 1}}', b"<|eot_id|>"],
    "thought": [b"I know ", b"it.", b"\n</think>\n"],
}  # fmt: skip


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]


_LETTERS = _byte_letters()


def _written(piece: bytes) -> str:
    text = piece.decode("utf-8", "replace")
    return text if text in CONTROL or text in USER else "".join(_LETTERS[b] for b in piece)


def _vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges."""
    merges: list[tuple[str, str]] = []
    for word in [_LETTERS[32] + w for w in WORDS] + list(WORDS):
        merges += [(word[:n], word[n]) for n in range(1, len(word))]
    merges = list(dict.fromkeys(merges))
    scripted = [_written(piece) for script in SCRIPTS.values() for piece in script]
    tokens = list(dict.fromkeys([*CONTROL, *USER, *_LETTERS, *(a + b for a, b in merges), *scripted]))
    return tokens, [f"{a} {b}" for a, b in merges]


def piece_tokens() -> dict[bytes, int]:
    """The token of every piece in a script, and of every special token."""
    tokens = {token: index for index, token in enumerate(_vocabulary()[0])}
    pieces = [piece for script in SCRIPTS.values() for piece in script] + [t.encode() for t in CONTROL + USER]
    return {piece: tokens[_written(piece)] for piece in pieces}


def _begin(path: Path, template: str | None) -> tuple[gguf.GGUFWriter, list[str]]:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(TRAINED)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD)
    tokens, merges = _vocabulary()
    kinds = {**dict.fromkeys(CONTROL, gguf.TokenType.CONTROL), **dict.fromkeys(USER, gguf.TokenType.USER_DEFINED)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kinds.get(t, gguf.TokenType.NORMAL)) for t in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_eot_token_id(tokens.index("<seed:eos>"))
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    return writer, tokens


def _finish(writer: gguf.GGUFWriter, tensors: dict[str, np.ndarray]) -> None:
    for name, value in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _layers(random: np.random.Generator, scale: float) -> dict[str, np.ndarray]:
    """Random layers; with a scale of 0 they add nothing to what goes through them."""
    tensors: dict[str, np.ndarray] = {}
    for i in range(LAYERS):
        layer = f"blk.{i}."
        tensors[layer + "attn_norm.weight"] = tensors[layer + "ffn_norm.weight"] = np.ones(WIDTH)
        for name in ("attn_q", "attn_k", "attn_v"):
            tensors[f"{layer}{name}.weight"] = random.standard_normal((HEADS * HEAD, WIDTH)) * 2 / np.sqrt(WIDTH)
        tensors[layer + "attn_output.weight"] = scale * random.standard_normal((WIDTH, HEADS * HEAD)) / 3
        tensors[layer + "ffn_gate.weight"] = random.standard_normal((HIDDEN, WIDTH)) / np.sqrt(WIDTH)
        tensors[layer + "ffn_up.weight"] = random.standard_normal((HIDDEN, WIDTH)) / np.sqrt(WIDTH)
        tensors[layer + "ffn_down.weight"] = scale * random.standard_normal((WIDTH, HIDDEN)) / np.sqrt(HIDDEN)
    return tensors


def write_babbler(path: Path, template: str | None) -> Path:
    """A model with random weights; many of its replies end by themselves."""
    writer, tokens = _begin(path, template)
    random = np.random.default_rng(3)
    output = random.standard_normal((len(tokens), WIDTH)) * 1.4 / np.sqrt(WIDTH)
    output[[tokens.index(special) for special in CONTROL + USER if special != "<|im_end|>"]] = 0
    output[tokens.index("<|im_end|>")] *= 2.5
    tensors = {
        "token_embd.weight": random.standard_normal((len(tokens), WIDTH)),
        "output_norm.weight": np.ones(WIDTH),
        "output.weight": output,
        **_layers(random, 1.0),
    }
    _finish(writer, tensors)
    return path


def write_scripted(path: Path, template: str | None) -> Path:
    """The model that follows :data:`SCRIPTS`."""
    writer, tokens = _begin(path, template)
    random = np.random.default_rng(4)
    embedding = random.standard_normal((len(tokens), WIDTH))
    embedding *= np.sqrt(WIDTH) / np.linalg.norm(embedding, axis=1, keepdims=True)
    output = random.standard_normal((len(tokens), WIDTH)) * 0.1 / np.sqrt(WIDTH)
    numbers = piece_tokens()
    for script in SCRIPTS.values():
        for before, after in pairwise(script):
            output[numbers[after]] += 200 / WIDTH * embedding[numbers[before]]
    tensors = {
        "token_embd.weight": embedding,
        "output_norm.weight": np.ones(WIDTH),
        "output.weight": output,
        **_layers(random, 0.0),
    }
    _finish(writer, tensors)
    return path
