"""Vocabularies of every kind that matters to prompts, small ones and the model's that ships."""

from __future__ import annotations

import gguf
import pytest

from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.vocabulary import Vocabulary
from fastinfer.prompts import PromptTokenizer

CONTROL, USER, NORMAL, UNKNOWN, BYTE = (
    int(getattr(gguf.TokenType, name)) for name in ("CONTROL", "USER_DEFINED", "NORMAL", "UNKNOWN", "BYTE")
)
SEED = ["<seed:bos>", "<seed:eos>", "<seed:pad>"]
MARKERS = [
    f"<{slash}{name}>"
    for name in ("think", "seed:think", "tool_call", "seed:tool_call", "seed:cot_budget_reflect")
    for slash in ("", "/")
]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


class VocabularyOnly(LlamaModel):
    """A model without weights."""

    def __init__(self, path):
        params = llama.llama_model_default_params()
        params.vocab_only = True
        self.handle = llama.llama_model_load_from_file(str(path).encode(), params)
        assert self.handle
        self._read_vocabulary()


def _byte_letters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]


def write_bpe(path, *, architecture="seed_oss", bos=None, adds_bos=False, templates=None, name="tiny"):
    """Seed-OSS's and ChatML's special tokens, one of a single character, and merges that could build them."""
    control = SEED + CHATML + ["☃", "<sep>"]
    user = [*MARKERS, "\n\n", "<h1>"]
    words = ["Ġhello", "hello", "think", "<|", "|>", "im_end", "<|im_end", "<s", "sep>", "</", "</think"]
    merges = []
    for word in words:
        merges += [(word[:n], word[n]) for n in range(1, len(word))]
    merges = list(dict.fromkeys([*merges, ("<", "sep>")]))
    pieces = list(dict.fromkeys([*control, *user, *_byte_letters(), *(a + b for a, b in merges)]))
    kinds = [CONTROL if p in control else USER if p in user else NORMAL for p in pieces]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{a} {b}" for a, b in merges])
    writer.add_bos_token_id(pieces.index(bos or "<seed:bos>"))
    writer.add_eos_token_id(pieces.index("<seed:eos>"))
    writer.add_add_bos_token(adds_bos)
    if templates is not None:
        writer.add_chat_template(templates)
    _finish(writer)
    return path


def write_spm(path, *, name="tiny", space_prefix=True):
    """Llama's: a space before every text, ``<unk>``, byte tokens, and pieces that would merge to ``</s>``."""
    special = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>", "<|end|>", "▁<odd>"]
    plain = [chr(c) for c in range(33, 127)] + [
        "▁",
        "</",
        "s>",
        "<s",
        "he",
        "hello",
        "▁hello",
        "<|",
        "|>",
        "end",
        "<odd>",
    ]
    pieces = special + [f"<0x{b:02X}>" for b in range(256)] + plain
    kinds = [UNKNOWN] + [CONTROL] * (len(special) - 1) + [BYTE] * 256 + [NORMAL] * len(plain)
    scores = [0.0] * (len(special) + 256) + [float(len(p)) - 20.0 for p in plain]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_token_scores(scores)
    writer.add_add_space_prefix(space_prefix)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    _finish(writer)
    return path


def _finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def open_vocabulary():
    """``open_vocabulary(path)`` for a GGUF file without weights."""
    models = []

    def make(path):
        models.append(VocabularyOnly(path))
        return Vocabulary(models[-1])

    yield make
    for model in models:
        model.close()


@pytest.fixture(scope="session")
def make_vocabulary(open_vocabulary, tmp_path_factory):
    """``make_vocabulary(architecture=..., templates=...)``: see write_bpe."""

    def make(**options):
        return open_vocabulary(write_bpe(tmp_path_factory.mktemp("bpe") / "tiny.gguf", **options))

    return make


@pytest.fixture(scope="session")
def vocabularies(open_vocabulary, make_vocabulary, tmp_path_factory):
    """By name: BPE as of Seed-OSS, BPE with BOS, SentencePiece with a space, one whose special tokens strip space."""
    folder = tmp_path_factory.mktemp("spm")
    return {
        "bpe": make_vocabulary(),
        "bpe with bos": make_vocabulary(bos="<|endoftext|>", adds_bos=True),
        "spm": open_vocabulary(write_spm(folder / "spm.gguf")),
        "spm without a space": open_vocabulary(write_spm(folder / "plain.gguf", space_prefix=False)),
        "phi-3": open_vocabulary(write_spm(folder / "phi.gguf", name="phi-3 tiny")),
    }


KINDS = ("bpe", "bpe with bos", "spm", "spm without a space", "phi-3")


@pytest.fixture(params=KINDS)
def vocabulary(vocabularies, request):
    """Each of them."""
    return vocabularies[request.param]


@pytest.fixture
def tokenizer(vocabulary):
    return PromptTokenizer(vocabulary)


@pytest.fixture(scope="session")
def seed(vocabularies):
    return vocabularies["bpe"]
