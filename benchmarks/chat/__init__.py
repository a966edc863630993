"""Chat: fastinfer beside llama-server, llama-cpp-python's ``Llama`` and llama-batched-bench, on one build of llama.cpp.

    python -m benchmarks.chat --model model.gguf --out result.json                   # from the repository's root
    python -m benchmarks.chat --model model.gguf --out result.json --scenario throughput prefix --rounds 5
    python -m benchmarks.chat --model model.gguf --out result.json --preset embedded --chat-template plain
    bash benchmarks/chat/h200.sh                                                     # what was run on the GPU

All sides get the same file, the same messages and the same sampling, and replies of a fixed length (``ignore_eos``).
Every round measures all sides in turn, with new prompts, so that a machine that slows down slows all and no cache
answers; ratios are taken within a round. The result file is written anew after every round. ``cores_elsewhere`` is
what other programs took of the machine: llama.cpp's threads wait for each other, and on few cores figures taken beside
a busy program are worth nothing (a tenth of the speed was seen).

| module | holds |
|---|---|
| `workload` | requests, the clients that send them (threads or asyncio), and what is noted of each reply |
| `figures` | percentiles, ratios, the machine, the result file |
| `prompts` | random messages of an exact number of tokens |
| `profile` | the settings of the two presets measured: for the GPU and for the CPU |
| `server`, `ours`, `serial`, `bound` | the four sides |
| `sides` | opens them with the same settings |
| `scenarios`, `probes` | what is measured |
"""
