"""Ray Data with actors of the two classes, on a Ray of this machine's own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra ray brings it"),
    pytest.mark.timeout(450),
]

#: In a process of its own, because Ray warns and starts threads that outlive it.
PROGRAM = """
import json, sys
import ray
import fastinfer.ray

images, model, out = sys.argv[1:]
ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)  # one core to read with
ray.data.DataContext.get_current().enable_progress_bars = False
class Watched(fastinfer.ray.Classify):
    async def __call__(self, batch):
        import os
        threads = self._classifier.preset.n_threads
        async for table in super().__call__(batch):
            table = table.append_column("process", [[os.getpid()] * len(table)])
            yield table.append_column("threads", [[threads] * len(table)])
photos = ray.data.read_binary_files(images, include_paths=True, override_num_blocks=6)
rows = photos.map_batches(
    Watched,
    fn_constructor_kwargs={"preset": "embedded", "labels": ["red circle", "red square"], "column": "bytes"},
    batch_format="pyarrow", batch_size=4, num_cpus=1, compute=ray.data.ActorPoolStrategy(min_size=2, max_size=2),
).take_all()
tensors = ray.data.read_images([f"{images}/0{n}.png" for n in range(10)], override_num_blocks=1).map_batches(
    fastinfer.ray.Classify,
    fn_constructor_kwargs={"preset": "embedded", "labels": ["red circle", "red square"]},
    batch_format="pyarrow", num_cpus=1, compute=ray.data.ActorPoolStrategy(size=1),
).take_all()
prompts = ray.data.from_items([{"messages": f"Say {n}"} for n in range(4)])
replies = prompts.map_batches(
    fastinfer.ray.Chat,
    fn_constructor_kwargs={"preset": "embedded", "model": model, "options": {"max_tokens": 3, "temperature": 0}},
    batch_format="pyarrow", num_cpus=1, compute=ray.data.ActorPoolStrategy(min_size=1, max_size=2),
).take_all()
with open(out, "w") as file:
    json.dump({"rows": rows, "tensors": tensors, "replies": replies}, file)
"""


def test_two_actors_share_the_images_and_errors_are_rows(
    tmp_path: Path,
    babbler: Path,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
    draw: Callable[..., Image.Image],
) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(36):
        draw(("circle", "square")[number % 2], "red", size=64 + number).save(folder / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"no image")
    done = run_python(PROGRAM, str(folder), str(babbler), str(tmp_path / "out.json"), timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[dict[str, Any]]] = json.loads((tmp_path / "out.json").read_text())
    rows = {Path(row["path"]).name: row for row in found["rows"]}
    assert len(found["rows"]) == len(rows) == 37
    for number in range(36):
        assert rows[f"{number:02}.png"]["label"] == ("red circle", "red square")[number % 2]
    assert rows["broken.png"]["error_type"] == "ImageDecodeError"
    assert len({row["process"] for row in found["rows"]}) == 2
    assert {row["threads"] for row in found["rows"]} == {1}, "each actor computes with the core that Ray gave it"
    assert sorted(row["label"] for row in found["tensors"]) == ["red circle"] * 5 + ["red square"] * 5
    assert [reply["completion_tokens"] for reply in found["replies"]] == [3] * 4
    assert [reply["error_type"] for reply in found["replies"]] == [None] * 4
