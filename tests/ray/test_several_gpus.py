"""Ray Data with an actor on each GPU. Run with ``pytest -m gpu`` on a machine with two NVIDIA GPUs and Ray."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastinfer.engines.turbomind.gpus import gpus
from turned_samples import turned_samples

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(240)]
ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, sys
import ray
import fastinfer.ray

images, model, out = sys.argv[1:]
ray.init(num_cpus=9, num_gpus=2, include_dashboard=False, log_to_driver=False)
class Watched(fastinfer.ray.Classify):
    async def __call__(self, batch):
        import os
        async for table in super().__call__(batch):
            yield table.append_column("gpu", [[os.environ["CUDA_VISIBLE_DEVICES"]] * len(table)])
rows = ray.data.read_binary_files(images, include_paths=True, override_num_blocks=12).map_batches(
    Watched,
    fn_constructor_kwargs={
        "preset": "prod", "labels": ["a car", "a key", "a fish"], "column": "bytes", "model": model,
        "cache_max_entry_count": 0.02,
    },
    batch_format="pyarrow", batch_size=32, num_gpus=1, num_cpus=4,
    compute=ray.data.ActorPoolStrategy(min_size=2, max_size=2),
).take_all()
with open(out, "w") as file:
    json.dump(rows, file)
"""


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_each_actor_has_a_gpu_of_its_own_and_every_image_has_its_row(tmp_path: Path) -> None:
    if len(gpus()) < 2:
        pytest.skip("needs two GPUs")
    folder = tmp_path / "images"
    folder.mkdir()
    for number, picture in enumerate(turned_samples(range(0, 120, 4))):
        picture.save(folder / f"{number:04}.png")
    (folder / "broken.png").write_bytes(b"no image")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(ROOT / "training/embedded"), str(tmp_path / "out.json")],
        capture_output=True,
        text=True,
        timeout=220,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "out.json").read_text())
    assert len({row["path"] for row in rows}) == len(rows) == len(list(folder.iterdir()))
    assert [row["error_type"] for row in rows if Path(row["path"]).name == "broken.png"] == ["ImageDecodeError"]
    assert all(row["label"] for row in rows if row["error_type"] is None)
    assert {row["gpu"] for row in rows} == {"0", "1"}
