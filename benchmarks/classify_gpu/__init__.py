"""Image classification on a GPU: fastinfer on TurboMind beside ``lmdeploy.pipeline`` and ``lmdeploy serve api_server``.

    python -m benchmarks.classify_gpu throughput --model FOLDER --shape InternVL3-8B --out result.json   # from the root
    python -m benchmarks.classify_gpu parity --model training/embedded --out result.json
    bash benchmarks/classify_gpu/h200.sh throughput-8b                              # what was run on the H200

All contenders get the same files (448 px JPEGs, 30 to 80 kB, no two alike) and the same question with the same ten
labels, and sit in processes of their own on the same GPU, loaded all the time. Every round asks all of them in turn,
with new pictures, so that a machine that slows down slows all and no cache answers; ratios are taken within a round.
Ours answers with the probability of every label; the peers, which have no such call, generate up to eight tokens. The
result file is written anew after every round.

| module | holds |
|---|---|
| `work` | what a contender is asked, and what it answers |
| `variants`, `pictures`, `labels` | files without end out of a few, the pictures, the label sets |
| `ours`, `pipeline`, `server` | the contenders |
| `bound` | what a picture costs in arithmetic, and what the GPU can do of it |
| `watch` | memory and the GPU's power while something runs |
| `bench` | opens contenders, gives them work, keeps the result file |
| `speed`, `growth`, `agreement` | what is measured |
| `run` | the command line |

Weights are random where only speed counts (`benchmarks/random_vision_model.py`); agreement is measured on the trained
embedded model (`training/embedded`).
"""
