#!/usr/bin/env bash
# The classification benchmark on one H200: bash benchmarks/classify_gpu/h200.sh PART [more options].
# From the repository's root, with lmdeploy 0.18, what its api_server imports, and llama-cpp-python installed.
# Results go to $OUT (default: benchmarks/results), models to $MODELS (default: /dev/shm).
#
#   throughput-8b     InternVL3-8B's shape, beside the pipeline (documented flags, defaults) and 64 clients of api_server
#   throughput-1b     InternVL3-1B's shape, the same with prod-exact
#   throughput-tiny   the embedded model, the same
#   latency           8B, one image at a time, beside the pipeline
#   labels            8B, 1,000 labels beside 10
#   gpus              8B, two GPUs beside one
#   curve-8b          8B, streams of 64 to 2,048 pictures: images a second, memory
#   curve-tiny        the embedded model, streams of 64 to 100,000
#   parity            the embedded model on TurboMind and on llama.cpp, 500 pictures
#   quant             KV cache in 16, 8 and 4 bits: speed and log-probabilities on 8B, labels on the embedded model
#
# Writing the 8B model takes about 45 seconds, once; each part then takes one to three minutes. Result files are written
# after every round.
set -euo pipefail
part=${1:?throughput-8b, throughput-1b, throughput-tiny, latency, labels, gpus, curve-8b, curve-tiny, parity or quant}
shift
models=${MODELS:-/dev/shm}
out=${OUT:-benchmarks/results}
trained=$PWD/training/embedded
export PYTHONPATH=$PWD/src:${PYTHONPATH:-} PYTHONUNBUFFERED=1

# The index is written last, so that a folder with one is whole.
shaped() {
    local folder=$models/${1,,}
    if [ ! -e "$folder/model.safetensors.index.json" ]; then
        python3 benchmarks/random_vision_model.py "$1" --like "$trained" --out "$folder"
    fi
}

# bench NAME SHAPE PART [options]: on the shape's random model, or for tiny on the embedded one.
bench() {
    local name=$1 shape=$2 kind=$3 model=$trained
    shift 3
    if [ "$shape" != tiny ]; then
        shaped "$shape"
        model=$models/${shape,,}
    fi
    python3 -m benchmarks.classify_gpu "$kind" --model "$model" --shape "$shape" \
        --out "$out/classify_gpu_$name.json" --limit 150 "$@"
}

eight=InternVL3-8B
case $part in
# Five copies of 8B leave the defaults too little memory; prod-exact is in the part quant, as 16 bits.
throughput-8b) bench throughput_8b $eight throughput --contenders ours documented server defaults "$@" ;;
throughput-1b) bench throughput_1b InternVL3-1B throughput --images 2048 --peer-images 256 "$@" ;;
throughput-tiny) bench throughput_tiny tiny throughput --images 4096 --peer-images 512 "$@" ;;
latency) bench latency $eight latency --images 20 "$@" ;;
labels) bench labels $eight labels --images 384 --peer-images 8 "$@" ;;
gpus) bench gpus $eight gpus --images 1024 "$@" ;;
curve-8b) bench curve_8b $eight curve --longest 2048 --rounds 2 "$@" ;;
curve-tiny) bench curve_tiny tiny curve --rounds 2 --limit 400 "$@" ;;
parity) bench parity tiny parity --images 500 "$@" ;;
quant) bench quant $eight quant --images 500 --rounds 2 --trained "$trained" "$@" ;;
*)
    echo "there is no part $part" >&2
    exit 2
    ;;
esac
