"""Writes the trained model as the two files llama.cpp reads: the language model and the vision projector.

    python training/export.py .work/model src/fastinfer/models/embedded

The language model is written as float16: every bf16 weight of the trained model within float16's range keeps its exact
value. The vision encoder, where the time goes, is written as bfloat16: on two cores with AVX512-BF16 that classifies
171 images/s against 123, on AVX2 alone 105 against 119. Norms, biases and position embeddings are float32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from architecture import QUESTION, SPECIAL
from safetensors.torch import load_file

LAYER_NAMES = {
    "attention.q_proj": "attn_q", "attention.k_proj": "attn_k", "attention.v_proj": "attn_v",
    "attention.projection_layer": "attn_out", "layernorm_before": "ln1", "layernorm_after": "ln2",
    "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
}  # fmt: skip
TEXT_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
TOP_NAMES = {
    "language_model.model.embed_tokens.weight": "token_embd.weight",
    "language_model.model.norm.weight": "output_norm.weight",
    "language_model.lm_head.weight": "output.weight",
    "vision_tower.embeddings.cls_token": "v.class_embd",
    "vision_tower.embeddings.patch_embeddings.projection.weight": "v.patch_embd.weight",
    "vision_tower.embeddings.patch_embeddings.projection.bias": "v.patch_embd.bias",
    "vision_tower.embeddings.position_embeddings": "v.position_embd.weight",
    "multi_modal_projector.layer_norm.weight": "mm.model.mlp.0.weight",
    "multi_modal_projector.layer_norm.bias": "mm.model.mlp.0.bias",
    "multi_modal_projector.linear_1.weight": "mm.model.mlp.1.weight",
    "multi_modal_projector.linear_1.bias": "mm.model.mlp.1.bias",
    "multi_modal_projector.linear_2.weight": "mm.model.mlp.3.weight",
    "multi_modal_projector.linear_2.bias": "mm.model.mlp.3.bias",
}
KEEP_F32 = ("norm", "bias", "position_embd", "class_embd", ".ln1.", ".ln2.", ".ls1.", ".ls2.", "mlp.0.")


def gguf_name(name: str) -> str:
    """llama.cpp's name of a Hugging Face tensor."""
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    if name.startswith("vision_tower.encoder.layer."):
        layer, rest = name.removeprefix("vision_tower.encoder.layer.").split(".", 1)
        if rest in ("lambda_1", "lambda_2"):
            return f"v.blk.{layer}.ls{rest[-1]}.weight"
        stem, kind = rest.rsplit(".", 1)
        return f"v.blk.{layer}.{LAYER_NAMES[stem]}.{kind}"
    layer, rest = name.removeprefix("language_model.model.layers.").split(".", 1)
    stem, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{TEXT_NAMES[stem]}.{kind}"


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """All weights by llama.cpp's names, in the types they are written in."""
    out = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        new = gguf_name(name)
        value = weight.to(torch.float32)
        if new == "v.position_embd.weight":
            # llama.cpp puts the class token after the patches, so its position moves from the first row to the last.
            value = value.squeeze(0).roll(-1, 0)
        if new == "v.class_embd":
            value = value.reshape(-1)
        keep = any(k in new for k in KEEP_F32)
        out[new] = value.contiguous().numpy().astype(np.float32 if keep else np.float16)
    return out


def describe(writer: gguf.GGUFWriter, name: str, description: str) -> None:
    writer.add_name(name)
    writer.add_description(description)
    writer.add_author("fastinfer contributors")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_text(path: Path, config: dict, tokenizer: dict, weights: dict[str, np.ndarray], template: str) -> None:
    text = config["text_config"]
    writer = gguf.GGUFWriter(path, "qwen2")
    describe(writer, "fastinfer embedded", f"Names digits, pictograms and shapes. Ask: {QUESTION}")
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    rope = text.get("rope_parameters") or text
    writer.add_rope_freq_base(rope["rope_theta"])
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    pieces = [piece for piece, _ in vocabulary]
    kinds = [gguf.TokenType.CONTROL if p in SPECIAL else gguf.TokenType.NORMAL for p in pieces]
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_pad_token_id(SPECIAL.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template.replace("<IMG_CONTEXT>", "<__media__>"))
    for name, value in weights.items():
        writer.add_tensor(name, value)
    finish(writer)


def write_vision(path: Path, config: dict, processor: dict, weights: dict[str, np.ndarray]) -> None:
    vision = config["vision_config"]
    writer = gguf.GGUFWriter(path, "clip")
    describe(writer, "fastinfer embedded, vision", "Vision encoder and projector of the fastinfer embedded model")
    writer.add_string(gguf.Keys.General.TYPE, gguf.GGUFType.MMPROJ)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.INTERNVL)
    writer.add_vision_image_size(vision["image_size"][0])
    writer.add_vision_patch_size(vision["patch_size"][0])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["num_hidden_layers"])
    writer.add_vision_head_count(vision["num_attention_heads"])
    writer.add_vision_projection_dim(config["text_config"]["hidden_size"])
    writer.add_vision_attention_layernorm_eps(vision["layer_norm_eps"])
    writer.add_vision_image_mean(processor["image_mean"])
    writer.add_vision_image_std(processor["image_std"])
    writer.add_vision_use_gelu(True)
    writer.add_vision_projector_scale_factor(int(1 / config["downsample_ratio"]))
    writer.add_vision_preproc_min_tiles(1)
    writer.add_vision_preproc_max_tiles(1)
    for name, value in weights.items():
        # The convolution of the patches is computed in float16 anyway.
        if value.dtype == np.float16 and name != "v.patch_embd.weight":
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name, gguf.quants.quantize(value.astype(np.float32), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    finish(writer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    read = lambda name: json.loads((options.model / name).read_text("utf-8"))  # noqa: E731
    config, weights = read("config.json"), tensors(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    vision = {n: w for n, w in weights.items() if n.startswith(("v.", "mm."))}
    text = {n: w for n, w in weights.items() if n not in vision}
    template = (options.model / "chat_template.jinja").read_text("utf-8")
    write_text(options.out / "embedded.gguf", config, read("tokenizer.json"), text, template)
    write_vision(options.out / "embedded-mmproj.gguf", config, read("preprocessor_config.json"), vision)


if __name__ == "__main__":
    main()
