#!/usr/bin/env bash
# What fastinfer's own commands say on one H200 about a model of InternVL3-8B's shape with random weights:
# bash benchmarks/commands_h200.sh [verify] [compare] [tune]; all of them if none is named.
# From the repository's root, with lmdeploy 0.18 installed. Results go to $OUT (default: benchmarks/results) as
# commands_h200_NAME.json, models to $MODELS (default: /dev/shm).
#
#   verify    the preset prod against its receipt
#   compare   prod and prod-exact on 512 generated photographs, of which no label is known
#   tune      prod for the most images a second, in $BUDGET seconds (default: 180)
set -euo pipefail
models=${MODELS:-/dev/shm}
out=$(realpath "${OUT:-benchmarks/results}")
export PYTHONPATH=$PWD/src:$PWD:${PYTHONPATH:-} HF_HUB_OFFLINE=1
model=$models/internvl3-8b
labels=apple,anchor,arrow,axe,badge,ball,banana,barrel,basket,bear

# The index is written last, so that a folder with one is whole.
if [ ! -e "$model/model.safetensors.index.json" ]; then
    python3 benchmarks/random_vision_model.py InternVL3-8B --like training/embedded --out "$model"
fi
photographs=$models/photographs
if [ ! -e "$photographs" ]; then
    python3 - "$photographs" <<'PYTHON'
import sys
from pathlib import Path

import fastinfer
from fastinfer.verifying import standard_workload
from fastinfer.verifying.workloads import image_files

folder = Path(sys.argv[1])
folder.mkdir()
work = standard_workload(fastinfer.preset("prod", kind="classify"))
for number, content in enumerate(image_files(work)):
    (folder / f"{number:03}.jpg").write_bytes(content)
PYTHON
fi

# written NAME: what comes in, without the folders of this machine.
written() {
    sed "s|$models/||g" >"$out/commands_h200_$1.json"
}

[ $# -gt 0 ] || set -- verify compare tune
for name; do
    case $name in
    verify) python3 -m fastinfer verify prod --kind classify --model "$model" --seconds 45 --json | written verify ;;
    compare)
        python3 -m fastinfer compare prod prod-exact "$photographs" --labels $labels --model "$model" --json |
            written compare
        ;;
    tune)
        python3 -m fastinfer tune prod --images "$photographs" --labels $labels --model "$model" \
            --budget "${BUDGET:-180}" --json | written tune
        ;;
    *)
        echo "there is no part $name" >&2
        exit 2
        ;;
    esac
done
