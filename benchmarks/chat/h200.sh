#!/usr/bin/env bash
# The chat benchmark on one H200 with the synthetic Seed-OSS-36B: bash benchmarks/chat/h200.sh PART [more options].
# From the repository's root. LLAMA_CPP_LIB_PATH names the folder of a CUDA build of llama.cpp with llama-server and
# llama-batched-bench in it, MTMD_CPP_LIB the same. Results go to $OUT (default: benchmarks/results).
#
#   quick        every scenario with little work, to see whether all of it runs                            about 3 minutes
#   throughput   8 clients, 32 requests of 512+128, against all peers, 3 rounds                            about 7 minutes
#   waiting      shared system prompts; a long prompt among running replies; a request alone; Python       about 7 minutes
#   slots        ours with 8 to 64 slots against llama-server's 8                                          about 8 minutes
#
# Writing the model takes 25 seconds; result files are written after every round.
set -euo pipefail
part=${1:?quick, throughput, waiting or slots}
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
throughput) bench throughput --scenario throughput --rounds 3 "$@" ;;
waiting) bench waiting --scenario prefix interference alone python --rounds 3 "$@" ;;
slots) bench slots --scenario slots --rounds 1 "$@" ;;
*)
    echo "there is no part $part" >&2
    exit 2
    ;;
esac
