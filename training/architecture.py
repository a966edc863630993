"""The embedded model's architecture and tokenizer: InternVL (InternViT + Qwen2) small enough to ship."""

from __future__ import annotations

import json
from pathlib import Path

from augment import MEAN, STD
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import InternVLConfig, InternVLForConditionalGeneration

IMAGE_SIZE = 112
PATCH_SIZE = 14
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE // 2) ** 2
VOCABULARY = 4096
#: Qwen2's split pattern; llama.cpp knows it as the pre-tokenizer "qwen2".
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
QUESTION = "What is this?"
OTHER_QUESTIONS = (
    "What is in the picture?",
    "Name what you see.",
    "What does this image show?",
    "Answer with one label.",
    "Describe the image in a few words.",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url', 'image_data') %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(lines: list[str]) -> Tokenizer:
    """Byte-level BPE over the given lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def prompt_ids(tokenizer: Tokenizer, question: str) -> tuple[list[int], list[int]]:
    """Token ids before and after the image tokens."""
    before = tokenizer.encode("<|im_start|>user\n<img>").ids
    after = tokenizer.encode(f"</img>\n{question}<|im_end|>\n<|im_start|>assistant\n").ids
    return before, after


def build_model(vocabulary: int) -> InternVLForConditionalGeneration:
    """The model with fresh weights."""
    config = InternVLConfig(
        vision_config={
            "hidden_size": 192, "num_hidden_layers": 8, "num_attention_heads": 3, "intermediate_size": 768,
            "image_size": [IMAGE_SIZE, IMAGE_SIZE], "patch_size": [PATCH_SIZE, PATCH_SIZE], "attention_bias": True,
            "norm_type": "layer_norm", "layer_scale_init_value": 0.1, "use_mean_pooling": True,
        },
        text_config={
            "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 384, "vocab_size": vocabulary,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False,
            "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0, "use_sliding_window": False,
        },
        image_token_id=SPECIAL.index("<IMG_CONTEXT>"),
        image_seq_length=IMAGE_TOKENS,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )  # fmt: skip
    return InternVLForConditionalGeneration(config)


def save(model: InternVLForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """The model in Hugging Face's form: bf16 safetensors, tokenizer, processor and template."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    # What engines compute in: it rounds eight times finer than bfloat16, and the activations fit. In it TurboMind's
    # probabilities are within 0.01 of llama.cpp's; in bfloat16 they differ by up to 0.11. LMDeploy asks each part by
    # itself, and ends the process where they say different things.
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {str(i): {"content": t, "special": True, "lstrip": False, "rstrip": False, "normalized": False,
                      "single_word": False} for i, t in enumerate(SPECIAL)}  # fmt: skip
    files = {
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2TokenizerFast", "added_tokens_decoder": added, "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>", "bos_token": None, "unk_token": None, "add_prefix_space": False,
            "model_max_length": 4096, "clean_up_tokenization_spaces": False, "split_special_tokens": False,
            # The processor asks for a token that stands for video; this model has none and never sees one.
            "extra_special_tokens": {"start_image_token": "<img>", "end_image_token": "</img>",
                                     "context_image_token": "<IMG_CONTEXT>", "video_token": "<|endoftext|>"},
        },
        "special_tokens_map.json": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "preprocessor_config.json": {
            "image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor",
            "crop_to_patches": False, "min_patches": 1, "max_patches": 1, "do_resize": True, "do_rescale": True,
            "do_normalize": True, "do_convert_rgb": True, "resample": 3, "rescale_factor": 1 / 255,
            "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "image_mean": list(MEAN), "image_std": list(STD),
        },
        "processor_config.json": {"processor_class": "InternVLProcessor", "image_seq_length": IMAGE_TOKENS},
        "generation_config.json": {"eos_token_id": 2, "pad_token_id": 0, "do_sample": False},
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
