"""A real tokenizer of few words with the special tokens of every family, and their chat templates."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

__all__ = ["SPECIAL", "VOCABULARY", "token", "write_json", "write_words"]

SPECIAL: Final = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<|vision_start|>",
    "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
_WORDS: Final = "system user assistant You are a helpful assistant. What is this? red blue green circle square car cat"
#: Rows of the embeddings: more than the tokenizer has tokens, as in published models.
VOCABULARY: Final = 448
_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEMPLATE: Final = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' and 'SYSTEM' %}"
    "{{ '<|im_start|>system\nSYSTEM<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ 'IMAGE' }}{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def token(text: str) -> int:
    """The number of a special token: after those of all others."""
    return _words().get_vocab_size() + SPECIAL.index(text)


def write_words(folder: Path, *, image: str, system: str) -> None:
    """Write the tokenizer's files, its chat template, and which tokens end a reply.

    Args:
        folder: the checkpoint.
        image: what the template writes for an image.
        system: the system message that it puts first; empty for none.
    """
    content = json.loads(_words().to_str())
    flags = {"special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    content["added_tokens"] = [{"id": token(text), "content": text, **flags} for text in SPECIAL]
    write_json(folder / "tokenizer.json", content)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "bos_token": None, "unk_token": None, "add_prefix_space": False, "model_max_length": 4096,
            "clean_up_tokenization_spaces": False, "split_special_tokens": False,
            "added_tokens_decoder": {str(token(text)): {"content": text, **flags} for text in SPECIAL},
            "extra_special_tokens": {
                "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
                "video_token": "<|video_pad|>",
            } if "<IMG_CONTEXT>" in image else {},
        },
    )  # fmt: skip
    template = _TEMPLATE.replace("SYSTEM", system).replace("IMAGE", image)
    (folder / "chat_template.jinja").write_text(template.replace("\n", "\\n"))
    end, pad = token("<|im_end|>"), token("<|endoftext|>")
    write_json(folder / "generation_config.json", {"eos_token_id": [end, pad], "pad_token_id": pad})


@cache
def _words() -> Tokenizer:
    """Byte-level BPE with a token for each of a few words."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL), min_frequency=1, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([_WORDS, *_WORDS.split()], trainer)
    return made


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file as Transformers does."""
    file.write_text(json.dumps(content, indent=2) + "\n")
