"""Tiny vision models with random weights, in the architectures that users take from the hub.

Each is a pair of GGUF files as llama.cpp's converters write them: tensor names, hyper-parameters, special tokens and
chat template are the real ones, only the sizes are small. The weights are seeded, so every run has the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

__all__ = ["ARCHITECTURES", "BOS", "GEMMA3_TEMPLATE", "Architecture", "spm_piece", "write_model"]

WIDTH, HEADS, KV_HEADS, HEAD, HIDDEN, LAYERS = 32, 2, 1, 16, 48, 2
WORDS = ("dog", "cat", "fish", "red", "bird", "house", "What", "is", "this", "User", "Assistant", "user", "model")

SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == "
    "'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}"
    "{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
INTERNVL_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role != 'system' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
QWEN2VL_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}{% if loop.first and message['role'] != "
    "'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>"
    "{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}"
    "{% set image_count.value = image_count.value + 1 %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA3_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""

Writer = gguf.GGUFWriter
Draw = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Architecture:
    """One pair of files.

    Attributes:
        name: of the files.
        text: architecture of the language model.
        projector: type of the projector.
        template: chat template; None writes none.
        prompt: what the template must give for a user message, with ``{image}`` and ``{text}``, without BOS.
        bos: the tokenizer puts BOS first by itself.
        lead: what comes before an answer's first word.
        space_prefix: the SentencePiece tokenizer puts a space before every text.
    """

    name: str
    text: str
    projector: str
    template: str | None
    prompt: str
    bos: bool
    lead: str
    space_prefix: bool = False


_CHATML = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{image}\n{text}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            "smolvlm", "llama", "idefics3", SMOLVLM_TEMPLATE,
            "<|im_start|>User: {image}\n{text}<end_of_utterance>\nAssistant:", False, " ",
        ),
        Architecture("internvl3", "qwen2", "internvl", INTERNVL_TEMPLATE, _CHATML, False, ""),
        Architecture("qwen2vl", "qwen2vl", "qwen2vl_merger", QWEN2VL_TEMPLATE, _CHATML, False, ""),
        Architecture("qwen25vl", "qwen2vl", "qwen2.5vl_merger", QWEN2VL_TEMPLATE, _CHATML, False, ""),
        Architecture(
            "gemma3", "gemma3", "gemma3", GEMMA3_TEMPLATE,
            "<start_of_turn>user\n{image}\n{text}<end_of_turn>\n<start_of_turn>model\n", True, "",
        ),
    )
}  # fmt: skip


def write_model(folder: Path, architecture: Architecture) -> Path:
    """Write the pair into a folder, which is created; the path of the language model."""
    folder.mkdir(parents=True)
    path = folder / f"{architecture.name}.gguf"
    _write_text(path, architecture)
    _write_vision(folder / f"mmproj-{architecture.name}.gguf", architecture.projector)
    return path


# Vocabularies.


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]


def _bpe_vocabulary(special: list[str]) -> tuple[list[str], list[int], list[str]]:
    """Pieces, token types and merges: the special tokens, all bytes, and a few words with and without a space."""
    letters = _byte_letters()
    space, line = letters[32], letters[10]
    merges: list[tuple[str, str]] = [(line, line)]
    for word in [space + w for w in WORDS] + list(WORDS):
        merges += [(word[:n], word[n]) for n in range(1, len(word))]
    merges = list(dict.fromkeys(merges))
    pieces = list(dict.fromkeys(special + letters + [a + b for a, b in merges]))
    kinds = [gguf.TokenType.CONTROL if p in special else gguf.TokenType.NORMAL for p in pieces]
    return pieces, [int(k) for k in kinds], [f"{a} {b}" for a, b in merges]


def _spm_vocabulary(special: list[str]) -> tuple[list[str], list[float], list[int]]:
    """Pieces, scores and types of a SentencePiece vocabulary: specials, bytes, letters, words with and without ▁."""
    words = [p + w[:n] for w in WORDS for p in ("▁", "") for n in range(1, len(w) + 1)]
    letters = [chr(c) for c in range(33, 127)] + ["\n", "▁"]
    plain = list(dict.fromkeys(letters + words))
    pieces = special + [f"<0x{b:02X}>" for b in range(256)] + plain
    kinds = [gguf.TokenType.CONTROL] * len(special) + [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * len(plain)
    scores = [0.0] * (len(special) + 256) + [float(len(p)) - 20.0 for p in plain]
    return pieces, scores, [int(k) for k in kinds]


_SPECIAL = {
    "smolvlm": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<fake_token_around_image>",
                "<global-img>", "<image>", *(f"<row_{y}_col_{x}>" for y in range(1, 7) for x in range(1, 7))],
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
             "<img>", "</img>", "<IMG_CONTEXT>"],
    "gemma3": ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
               "<end_of_image>"],
}  # fmt: skip

#: BOS by architecture.
BOS = {"smolvlm": _SPECIAL["smolvlm"].index("<|im_start|>"), "gemma3": _SPECIAL["gemma3"].index("<bos>")}


def spm_piece(token: int) -> bytes:
    """The bytes of a plain token of Gemma's vocabulary."""
    return _spm_vocabulary(_SPECIAL["gemma3"])[0][token].replace("▁", " ").encode()


def _add_tokenizer(writer: Writer, architecture: Architecture) -> tuple[int, int]:
    """Size of the vocabulary and the token that ends an answer."""
    if architecture.text == "gemma3":
        special = _SPECIAL["gemma3"]
        pieces, scores, kinds = _spm_vocabulary(special)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(scores)
        writer.add_add_space_prefix(architecture.space_prefix)
        names = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>"}
        end = "<end_of_turn>"  # found by its name, beside <eos>
    else:
        smol = architecture.name == "smolvlm"
        special = _SPECIAL["smolvlm" if smol else "qwen"]
        pieces, kinds, merges = _bpe_vocabulary(special)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm" if smol else "qwen2")
        writer.add_token_merges(merges)
        end = "<end_of_utterance>" if smol else "<|im_end|>"
        names = {"bos": "<|im_start|>" if smol else "<|endoftext|>", "eos": end, "pad": "<|endoftext|>"}
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(special.index(names["bos"]))
    writer.add_eos_token_id(special.index(names["eos"]))
    writer.add_pad_token_id(special.index(names["pad"]))
    writer.add_add_bos_token(architecture.bos)
    return len(pieces), special.index(end)


# Weights.


def _drawer(writer: Writer, seed: int) -> Draw:
    """Adds tensors of normal numbers; matrices keep the scale of what goes through them, times ``gain``."""
    random = np.random.default_rng(seed)

    def draw(name: str, *shape: int, gain: float = 1.0, base: float = 0.0) -> np.ndarray:
        flat = len(shape) == 1
        scale = 0.1 if flat else 1.0 / np.sqrt(np.prod(shape[1:]))
        value = base + gain * scale * random.standard_normal(shape)
        value = value.astype(np.float32 if flat or "position" in name else np.float16)
        writer.add_tensor(name, value)
        return value

    return draw


def _finish(writer: Writer) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_text(path: Path, architecture: Architecture) -> None:
    kind = architecture.text
    writer = Writer(path, kind)
    writer.add_name(f"tiny {architecture.name}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    if kind == "llama":
        writer.add_rope_dimension_count(HEAD)
    if kind == "qwen2vl":
        writer.add_rope_dimension_sections([2, 3, 3, 0])
    if kind == "gemma3":
        writer.add_key_length(HEAD)
        writer.add_value_length(HEAD)
        writer.add_sliding_window(16)
    size, end = _add_tokenizer(writer, architecture)
    if architecture.template is not None:
        writer.add_chat_template(architecture.template)

    draw = _drawer(writer, 11)
    draw("token_embd.weight", size, WIDTH, gain=np.sqrt(WIDTH) if kind != "gemma3" else 1.0)
    draw("output_norm.weight", WIDTH, base=1.0)
    output = np.random.default_rng(12).standard_normal((size, WIDTH)) * (1.6 / np.sqrt(WIDTH))
    output[end] *= 3.0  # so that some answers end
    writer.add_tensor("output.weight", output.astype(np.float16))
    for i in range(LAYERS):
        layer = f"blk.{i}."
        draw(layer + "attn_norm.weight", WIDTH, base=1.0)
        draw(layer + "attn_q.weight", HEADS * HEAD, WIDTH, gain=2.0)
        draw(layer + "attn_k.weight", KV_HEADS * HEAD, WIDTH, gain=2.0)
        draw(layer + "attn_v.weight", KV_HEADS * HEAD, WIDTH, gain=2.0)
        draw(layer + "attn_output.weight", WIDTH, HEADS * HEAD, gain=2.0)
        if kind.startswith("qwen2"):
            draw(layer + "attn_q.bias", HEADS * HEAD)
            draw(layer + "attn_k.bias", KV_HEADS * HEAD)
            draw(layer + "attn_v.bias", KV_HEADS * HEAD)
        if kind == "gemma3":
            draw(layer + "attn_q_norm.weight", HEAD, base=1.5)
            draw(layer + "attn_k_norm.weight", HEAD, base=1.5)
            draw(layer + "post_attention_norm.weight", WIDTH, base=1.0)
            draw(layer + "post_ffw_norm.weight", WIDTH, base=1.0)
        draw(layer + "ffn_norm.weight", WIDTH, base=1.0)
        draw(layer + "ffn_gate.weight", HIDDEN, WIDTH)
        draw(layer + "ffn_up.weight", HIDDEN, WIDTH)
        draw(layer + "ffn_down.weight", WIDTH, HIDDEN)
    _finish(writer)


def _write_vision(path: Path, projector: str) -> None:
    width, heads, hidden, layers, patch = 32, 2, 64, 2, 8
    # Gemma's patches are pooled 4 by 4, so that its image has the 16 tokens that make attention ahead matter.
    side = {"idefics3": 32, "internvl": 32, "gemma3": 128}.get(projector, 64)
    qwen = projector.startswith("qwen2")
    writer = Writer(path, "clip")
    writer.add_string(gguf.Keys.General.TYPE, gguf.GGUFType.MMPROJ)
    writer.add_name(f"tiny {projector}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(projector)
    writer.add_vision_image_size(side)
    writer.add_vision_patch_size(patch)
    writer.add_vision_embedding_length(width)
    writer.add_vision_feed_forward_length(hidden)
    writer.add_vision_block_count(layers)
    writer.add_vision_head_count(heads)
    writer.add_vision_projection_dim(WIDTH)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    if projector == "qwen2.5vl_merger":
        writer.add_vision_use_silu(True)
        writer.add_vision_n_wa_pattern(2)
    elif projector != "qwen2vl_merger":
        writer.add_vision_use_gelu(True)
    if projector == "idefics3":
        writer.add_vision_projector_scale_factor(2)
        writer.add_vision_preproc_image_size(4 * side)
    if projector == "internvl":
        writer.add_vision_projector_scale_factor(2)
        writer.add_vision_preproc_min_tiles(1)
        writer.add_vision_preproc_max_tiles(12)

    draw = _drawer(writer, 21)
    draw("v.patch_embd.weight", width, 3, patch, patch, gain=4.0)
    if qwen:
        draw("v.patch_embd.weight.1", width, 3, patch, patch, gain=4.0)
    else:
        draw("v.patch_embd.bias", width)
        places = (side // patch) ** 2 + (projector == "internvl")
        draw("v.position_embd.weight", places, width, gain=2.0)
    if projector == "internvl":
        draw("v.class_embd", width)
    else:
        draw("v.post_ln.weight", width, base=1.0)
        if projector != "qwen2.5vl_merger":
            draw("v.post_ln.bias", width)
    for i in range(layers):
        layer = f"v.blk.{i}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            draw(f"{layer}{name}.weight", width, width, gain=1.5)
            draw(f"{layer}{name}.bias", width)
        for name in ("ln1", "ln2"):
            draw(f"{layer}{name}.weight", width, base=1.0)
            if projector != "qwen2.5vl_merger":
                draw(f"{layer}{name}.bias", width)
        if projector == "internvl":
            draw(layer + "ls1.weight", width, base=1.0)
            draw(layer + "ls2.weight", width, base=1.0)
        if projector == "qwen2.5vl_merger":
            draw(layer + "ffn_gate.weight", hidden, width)
            draw(layer + "ffn_gate.bias", hidden)
        draw(layer + "ffn_up.weight", hidden, width)
        draw(layer + "ffn_up.bias", hidden)
        draw(layer + "ffn_down.weight", width, hidden)
        draw(layer + "ffn_down.bias", width)
    if projector == "idefics3":
        draw("mm.model.fc.weight", WIDTH, 4 * width)
    if projector == "internvl":
        draw("mm.model.mlp.0.weight", 4 * width, base=1.0)
        draw("mm.model.mlp.0.bias", 4 * width)
        for name, rows, columns in (("1", WIDTH, 4 * width), ("3", WIDTH, WIDTH)):
            draw(f"mm.model.mlp.{name}.weight", rows, columns, gain=1.5)
            draw(f"mm.model.mlp.{name}.bias", rows)
    if qwen:
        for name, rows, columns in (("0", 4 * width, 4 * width), ("2", WIDTH, 4 * width)):
            draw(f"mm.{name}.weight", rows, columns, gain=1.5)
            draw(f"mm.{name}.bias", rows)
    if projector == "gemma3":
        draw("mm.soft_emb_norm.weight", width, base=1.0)
        draw("mm.input_projection.weight", width, WIDTH)
    _finish(writer)
