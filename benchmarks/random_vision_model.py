"""A vision-language model with the shape of a published one and random weights, in Hugging Face's form.

    python benchmarks/random_vision_model.py InternVL3-8B --like training/embedded --out /dev/shm/internvl3-8b

Speed and memory depend on shapes, not on what the weights were trained to say. Tokenizer and processor are those of
the folder given with ``--like``, with the shape's image size; the vocabulary's matrices have the published size.
Weights are drawn on the GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_VIT_300M = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True, "norm_type": "layer_norm",
    "use_qk_norm": False, "layer_scale_init_value": 0.1, "use_mean_pooling": True,
}  # fmt: skip
#: By published name: the vision encoder, the language model, tokens of an image.
SHAPES: dict[str, dict[str, Any]] = {
    "InternVL3-8B": {
        "vision": _VIT_300M,
        "text": {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
                 "intermediate_size": 18944},
        "tokens": 256,
    },
    "InternVL3-1B": {
        "vision": _VIT_300M,
        "text": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
                 "intermediate_size": 4864},
        "tokens": 256,
    },
}  # fmt: skip
_VOCABULARY = 151_674
_SHARD = 4 * 2**30


def internvl_config(shape: str) -> Any:
    """The Transformers configuration of a shape."""
    from transformers import InternVLConfig

    parts = SHAPES[shape]
    text = {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": _VOCABULARY,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
        "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
        "use_sliding_window": False, **parts["text"],
    }  # fmt: skip
    return InternVLConfig(
        vision_config=parts["vision"],
        text_config=text,
        image_token_id=5,
        image_seq_length=parts["tokens"],
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
        architectures=["InternVLForConditionalGeneration"],
        dtype="bfloat16",
    )


def checkpoint_name(name: str) -> str:
    """The name in a checkpoint of a parameter of the model in memory."""
    if name.startswith("model.language_model."):
        return name.replace("model.language_model.", "language_model.model.", 1)
    return "language_model." + name if name.startswith("lm_head.") else name.removeprefix("model.")


def write_weights(config: Any, out: Path, seed: int = 0) -> None:
    """Random bf16 weights in shards of about 4 GiB."""
    from transformers import InternVLForConditionalGeneration

    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, like in model.state_dict().items():
        if "norm" in name and name.endswith("weight"):
            value = torch.ones(like.shape, dtype=torch.bfloat16)
        elif name.endswith("bias"):
            value = torch.zeros(like.shape, dtype=torch.bfloat16)
        elif "lambda_" in name:
            value = torch.full(like.shape, 0.1, dtype=torch.bfloat16)
        else:
            drawn = torch.empty(like.shape, dtype=torch.bfloat16, device=device)
            value = drawn.normal_(0.0, 0.02, generator=generator).cpu()
        if size + value.nbytes > _SHARD and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][checkpoint_name(name)] = value
        size += value.nbytes
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, out / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(shard, file))
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def write(shape: str, like: Path, out: Path) -> None:
    """The whole folder."""
    out.mkdir(parents=True, exist_ok=True)
    config = internvl_config(shape)
    # Before the weights, so that a folder with weights is whole.
    config.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
                 "chat_template.jinja"):  # fmt: skip
        shutil.copy(like / name, out / name)
    side = SHAPES[shape]["vision"]["image_size"]
    processor = json.loads((like / "preprocessor_config.json").read_text())
    processor["size"] = {"height": side[0], "width": side[1]}
    (out / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    about = {"processor_class": "InternVLProcessor", "image_seq_length": SHAPES[shape]["tokens"]}
    (out / "processor_config.json").write_text(json.dumps(about, indent=2) + "\n")
    write_weights(config, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--like", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write(options.shape, options.like, options.out)


if __name__ == "__main__":
    main()
