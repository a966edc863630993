#!/usr/bin/env bash
# The chat benchmark on one H200 with the synthetic Seed-OSS-36B: bash benchmarks/chat/h200.sh PART [more options].
# From the repository's root. LLAMA_CPP_LIB_PATH names the folder of a CUDA build of llama.cpp with llama-server and
# llama-batched-bench in it, MTMD_CPP_LIB the same. Results go to $OUT (default: benchmarks/results).
#
#   quick          every scenario with little work, to see whether all of it runs                          about 3 minutes
#   throughput     8 clients, 32 requests of 512+128, against all peers                            about 2 minutes a round
#   alone          a request alone, against all peers                                              about half a minute a round
#   slots          ours with 32 slots, an f16 cache and prompts that wait, against the preset's 8  about 2 minutes a round
#   prefix         8 conversations with one system prompt                                          about a minute a round
#   interference   a long prompt among running replies, one KV cache for all                       about a minute a round
#   python         what a step spends in Python                                                    about 10 seconds
#
# Writing the model takes 25 seconds; result files are written after every round.
set -euo pipefail
part=${1:?quick, throughput, alone, slots, prefix, interference or python}
shift
model=${MODEL:-/dev/shm/seed-oss-36b-random.gguf}
out=${OUT:-benchmarks/results}

export PYTHONPATH=$PWD/src:${PYTHONPATH:-} PYTHONUNBUFFERED=1
if [ ! -e "$model" ]; then python3 benchmarks/synthetic_model.py --out "$model"; fi

# The environment names the folder of llama-server: LLAMA_CPP_LIB_PATH, the library that ours loads.
bench() {
    local name=$1
    shift
    python3 -m benchmarks.chat --model "$model" --out "$out/chat_h200_$name.json" --limit 150 "$@"
}

case $part in
quick) bench quick --quick --rounds 1 --slots 8,16 "$@" ;;
throughput | alone | prefix | python) bench "$part" --scenario "$part" --rounds 2 "$@" ;;
slots) bench slots --scenario slots --rounds 1 --slots 32 --ours type_k=f16 type_v=f16 prefill_delay=24 "$@" ;;
interference) bench interference --scenario interference --rounds 2 --ours kv_unified=true "$@" ;;
*)
    echo "there is no part $part" >&2
    exit 2
    ;;
esac
