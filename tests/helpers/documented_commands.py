"""The documented commands, as they are typed: which preset each is, and what it says differently."""

from __future__ import annotations

from typing import Any

__all__ = ["DOCUMENTED"]

PROD = """
lmdeploy serve api_server OpenGVLab/InternVL3-8B-hf \\
    --backend turbomind \\
    --max-concurrent-requests 64 \\
    --log-level ERROR \\
    --session-len 512 \\
    --max-batch-size 32 \\
    --cache-max-entry-count 0.2 \\
    --cache-block-seq-len 64 \\
    --max-prefill-token-num 128 \\
    --quant-policy 4 \\
    --vision-max-batch-size 32 \\
    --server-name 0.0.0.0 \\
    --server-port 23333 \\
    --api-keys sk-one sk-two \\
    --disable-fastapi-docs
"""

LOW_LATENCY_SHORT = """
./build/bin/llama-server -hf unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL \\
  -c 16384 -b 4096 -ub 1024 -ctk q8_0 -ctv q8_0 -fa on -ngl 999 -np 4 \\
  -dev CUDA0 -t $(nproc) --temp 0.6 --top-p 0.95 --top-k 60 --min-p 0.05 \\
  --repeat-last-n 64 --repeat-penalty 1.05 \\
  --host 0.0.0.0 --port 8080 --api-key sk-secret --metrics --slots --no-webui --jinja
"""

LOW_LATENCY_LONG = """
llama-server \\
  --hf-repo unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL \\
  --ctx-size 16384 \\
  --batch-size 4096 \\
  --ubatch-size 1024 \\
  --cache-type-k q8_0 \\
  --cache-type-v q8_0 \\
  --flash-attn on \\
  --n-gpu-layers 999 \\
  --parallel 4 \\
  --device CUDA0 \\
  --threads "$(nproc)" \\
  --temp 0.6 \\
  --top-p 0.95 \\
  --top-k 60 \\
  --min-p 0.05 \\
  --repeat-last-n 64 \\
  --repeat-penalty 1.05 \\
  --host 127.0.0.1 \\
  --port 8080 \\
  --api-key "sk-secret" \\
  --metrics \\
  --slots \\
  --no-webui \\
  --jinja
"""

BALANCED_SHORT = """
# steady traffic
CUDA_VISIBLE_DEVICES=0 llama-server -hf unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL \\
  -ngl 999 -c 32768 -b 4096 -ub 2048 -fa on -ctk q8_0 -ctv q8_0 --parallel 8 --cache-reuse 1024 \\
  --device CUDA0 --threads $(nproc) --temp 0.6 --top-p 0.95 --top-k 60 --min-p 0.05 \\
  --repeat-last-n 64 --repeat-penalty 1.05 \\
  --host 0.0.0.0 --port 8080 --api-key sk-secret --metrics --slots --no-webui --jinja
"""

BALANCED_LONG = """
HF_TOKEN=hf_secret llama-server \\
  --hf-repo unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL \\
  --gpu-layers 999 \\
  --ctx-size 32768 \\
  --batch-size 4096 \\
  --ubatch-size 2048 \\
  --flash-attn 1 \\
  --cache-type-k q8_0 \\
  --cache-type-v q8_0 \\
  --parallel 8 \\
  --cache-reuse 1024 \\
  --device CUDA0 \\
  --threads `nproc` \\
  --temperature 0.6 \\
  --top-p 0.95 \\
  --top-k 60 \\
  --min-p 0.05 \\
  --repeat-last-n 64 \\
  --repeat-penalty 1.05 \\
  --host 0.0.0.0 --port 8080 --api-key sk-secret --metrics --slots --no-webui --jinja
"""

LONG_CONTEXT_SHORT = """
llama-server -hf 'unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL' \\
  -c 32768 -b 4096 -ub 1024 -ctk q8_0 -ctv q8_0 -fa on -ngl all -np 6 \\
  -dev CUDA0 -t $(nproc) --temp 0.6 --top-p 0.95 --top-k 60 --min-p 0.05 \\
  --repeat-last-n 64 --repeat-penalty 1.05 \\
  --host 0.0.0.0 --port 8080 --api-key sk-secret --metrics --slots --no-webui --jinja
"""

LONG_CONTEXT_LONG = """
llama serve --hf-repo unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL \\
  --ctx-size 32768 --batch-size 4096 --ubatch-size 1024 --cache-type-k q8_0 --cache-type-v q8_0 \\
  --flash-attn on --n-gpu-layers 999 --parallel 6 --no-kv-unified \\
  --device CUDA0 --threads "$(nproc)" --temp 0.6 --top-p 0.95 --top-k 60 --min-p 0.05 \\
  --repeat-last-n 64 --repeat-penalty 1.05 --frequency-penalty 0 --presence-penalty 0 --n-predict -1 \\
  --host 0.0.0.0 --port 8080 --api-key sk-secret --metrics --slots --no-webui --jinja
"""

BALANCED_WITH_TEMPLATE = BALANCED_SHORT.replace("--jinja", "--jinja --chat-template seed_oss")
LOW_LATENCY_WITHOUT_JINJA = LOW_LATENCY_LONG.replace("--jinja", "--no-jinja --chat-template seed_oss")

SEED_OSS = {"chat_template": "seed_oss"}

#: Kind and name of the preset, the command, and the fields in which the command differs from the preset.
DOCUMENTED: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "prod": ("classify", "prod", PROD, {}),
    "low-latency, short": ("chat", "low-latency", LOW_LATENCY_SHORT, {}),
    "low-latency, long": ("chat", "low-latency", LOW_LATENCY_LONG, {}),
    "low-latency, without jinja": ("chat", "low-latency", LOW_LATENCY_WITHOUT_JINJA, SEED_OSS),
    "balanced, short": ("chat", "balanced", BALANCED_SHORT, {}),
    "balanced, long": ("chat", "prod", BALANCED_LONG, {}),
    "balanced, with a template": ("chat", "balanced", BALANCED_WITH_TEMPLATE, SEED_OSS),
    "long-context, short": ("chat", "long-context", LONG_CONTEXT_SHORT, {}),
    "long-context, long": ("chat", "long-context", LONG_CONTEXT_LONG, {}),
}
