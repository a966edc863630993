"""Names and shapes of all tensors of a model, from the numbers that make up its shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastinfer.models.quantisation_mixes import tensor_type

__all__ = ["internvl_tensors", "seed_oss_metadata", "seed_oss_tensors"]


def seed_oss_metadata(shape: Mapping[str, Any]) -> dict[str, int | float | str]:
    """What llama.cpp asks of the header of a Seed-OSS model, without a tokenizer; only the vocabulary's size is there.

    Args:
        shape: a table of ``known_shapes.toml``.
    """
    return {
        "general.architecture": "seed_oss",
        "seed_oss.block_count": shape["layers"],
        "seed_oss.context_length": shape["context"],
        "seed_oss.embedding_length": shape["hidden"],
        "seed_oss.feed_forward_length": shape["inner"],
        "seed_oss.attention.head_count": shape["heads"],
        "seed_oss.attention.head_count_kv": shape["kv_heads"],
        "seed_oss.attention.key_length": shape["head"],
        "seed_oss.attention.value_length": shape["head"],
        "seed_oss.attention.layer_norm_rms_epsilon": shape["epsilon"],
        "seed_oss.rope.freq_base": shape["rope_base"],
        "seed_oss.vocab_size": shape["vocabulary"],
        "tokenizer.ggml.model": "no_vocab",
    }


def seed_oss_tensors(shape: Mapping[str, Any], mix: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Name, shape (contiguous dimension first) and number format of each tensor.

    They are the ones that llama.cpp's ``src/models/seed-oss.cpp`` loads.

    Args:
        shape: a table of ``known_shapes.toml``.
        mix: how they are quantised, as :func:`fastinfer.models.quantisation_mixes.known_mix` gives it.
    """
    layers, hidden, inner = shape["layers"], shape["hidden"], shape["inner"]
    queries, keys = shape["heads"] * shape["head"], shape["kv_heads"] * shape["head"]
    vocabulary = (hidden, shape["vocabulary"])
    yield "token_embd.weight", vocabulary, tensor_type(mix, "token_embd", 0, layers)
    yield "output_norm.weight", (hidden,), "F32"
    yield "output.weight", vocabulary, tensor_type(mix, "output", 0, layers)
    matrices = {
        "attn_q": (hidden, queries),
        "attn_k": (hidden, keys),
        "attn_v": (hidden, keys),
        "attn_output": (queries, hidden),
        "ffn_gate": (hidden, inner),
        "ffn_up": (hidden, inner),
        "ffn_down": (inner, hidden),
    }
    vectors = {
        "attn_norm.weight": hidden,
        "attn_q.bias": queries,
        "attn_k.bias": keys,
        "attn_v.bias": keys,
        "post_attention_norm.weight": hidden,
    }
    for layer in range(layers):
        for kind, dimensions in matrices.items():
            yield f"blk.{layer}.{kind}.weight", dimensions, tensor_type(mix, kind, layer, layers)
        for name, length in vectors.items():
            yield f"blk.{layer}.{name}", (length,), "F32"


def internvl_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes, contiguous dimension last, of the tensors of an InternVLForConditionalGeneration around a Qwen2 by name.

    They are those of Transformers' classes, under the names that published checkpoints have.

    Args:
        config: its config.json.
    """
    text, vision = config["text_config"], config["vision_config"]
    merged = round(vision["hidden_size"] / config["downsample_ratio"] ** 2)
    projector = _with_biases(
        "multi_modal_projector.",
        {"linear_1": (text["hidden_size"], merged), "linear_2": (text["hidden_size"],) * 2, "layer_norm": (merged,)},
    )
    return {**_encoder(vision), **projector, **_qwen2(text)}


def _encoder(vision: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner = vision["hidden_size"], vision["intermediate_size"]
    height, width = vision["image_size"]
    patch = vision["patch_size"]
    tensors = {
        "vision_tower.embeddings.cls_token": (1, 1, hidden),
        "vision_tower.embeddings.position_embeddings": (1, height // patch[0] * (width // patch[1]) + 1, hidden),
        **_with_biases(
            "vision_tower.embeddings.patch_embeddings.", {"projection": (hidden, vision["num_channels"], *patch)}
        ),
    }
    matrices = {
        **{f"attention.{name}": (hidden, hidden) for name in ("q_proj", "k_proj", "v_proj", "projection_layer")},
        "mlp.fc1": (inner, hidden),
        "mlp.fc2": (hidden, inner),
        "layernorm_before": (hidden,),
        "layernorm_after": (hidden,),
    }
    for layer in range(vision["num_hidden_layers"]):
        begin = f"vision_tower.encoder.layer.{layer}."
        tensors |= {f"{begin}lambda_1": (hidden,), f"{begin}lambda_2": (hidden,), **_with_biases(begin, matrices)}
    return tensors


def _qwen2(text: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    keys = hidden // text["num_attention_heads"] * text["num_key_value_heads"]
    begin, vocabulary = "language_model.model.", (text["vocab_size"], hidden)
    tensors: dict[str, tuple[int, ...]] = {f"{begin}embed_tokens.weight": vocabulary}
    for number in range(text["num_hidden_layers"]):
        layer = f"{begin}layers.{number}."
        attention = {"q_proj": (hidden, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden)}
        tensors |= {
            **_with_biases(f"{layer}self_attn.", attention),
            f"{layer}self_attn.o_proj.weight": (hidden, hidden),
            f"{layer}mlp.gate_proj.weight": (inner, hidden),
            f"{layer}mlp.up_proj.weight": (inner, hidden),
            f"{layer}mlp.down_proj.weight": (hidden, inner),
            f"{layer}input_layernorm.weight": (hidden,),
            f"{layer}post_attention_layernorm.weight": (hidden,),
        }
    return {**tensors, f"{begin}norm.weight": (hidden,), "language_model.lm_head.weight": vocabulary}


def _with_biases(begin: str, weights: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Each with its bias, which is as long as its first dimension."""
    tensors: dict[str, tuple[int, ...]] = {}
    for name, shape in weights.items():
        tensors |= {f"{begin}{name}.weight": shape, f"{begin}{name}.bias": shape[:1]}
    return tensors
