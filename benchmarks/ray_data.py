"""What Ray Data costs beside one process: the same image files, the same cores or GPUs, in turn.

python benchmarks/ray_data.py                                            two actors of one core each
python benchmarks/ray_data.py --preset prod --model FOLDER --gpus 2      an actor on each GPU
"""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow
import ray
from common import EVERYDAY, interleave, save, spread

import fastinfer
from fastinfer.ray import Classify
from jobs import photographs


class Timed(Classify):
    """Notes when a batch came and when it was done, on the clock of all processes of the machine."""

    async def __call__(self, batch: pyarrow.Table) -> AsyncIterator[pyarrow.Table]:
        begun = time.time()
        async for done in super().__call__(batch):
            times = {"begun": begun, "ended": time.time()}
            for name, value in times.items():
                done = done.append_column(name, pyarrow.array([value] * len(done)))
            yield done.select([*times, "error_type"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("--model")
    parser.add_argument("--gpus", type=int, default=0, help="actors, each with a GPU; 0: two, each with a core")
    parser.add_argument("--cores", type=int, default=1, help="of each actor")
    parser.add_argument("--batch", type=int, default=64, help="rows that an actor gets at a time")
    parser.add_argument("--size", type=int, default=256, help="of the pictures, in pixels")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    actors = asked.gpus or 2
    opening: dict[str, Any] = {"preset": asked.preset, "labels": EVERYDAY, "model": asked.model}
    ray.init(num_cpus=actors * asked.cores + 1, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), asked.images, asked.size)

        def one_process() -> float:
            shared = {"devices": tuple(range(asked.gpus))} if asked.gpus else {"n_threads": actors * asked.cores}
            with fastinfer.classifier(**opening, **shared) as classifier:
                for _ in classifier.classify_many(paths[:16]):
                    pass
                begun = time.perf_counter()
                for _ in classifier.classify_many(paths):
                    pass
                return len(paths) / (time.perf_counter() - begun)

        def over_ray() -> float:
            files = ray.data.read_binary_files(paths, override_num_blocks=4 * actors)
            done = files.map_batches(
                Timed,
                fn_constructor_kwargs={**opening, "column": "bytes"},
                batch_format="pyarrow",
                batch_size=asked.batch,
                num_gpus=1 if asked.gpus else None,
                num_cpus=asked.cores,
                compute=ray.data.ActorPoolStrategy(min_size=actors, max_size=actors),
            ).to_pandas()
            assert len(done) == len(paths)
            assert done["error_type"].isna().all()
            return len(paths) / (done["ended"].max() - done["begun"].min())

        rates = interleave({"one_process": one_process, "ray": over_ray}, asked.rounds)
    share = [over / alone for over, alone in zip(rates["ray"], rates["one_process"], strict=True)]
    figures = {
        "actors": actors,
        "gpus": asked.gpus,
        "cores_of_an_actor": asked.cores,
        "images": asked.images,
        "batch": asked.batch,
        "model": Path(asked.model).name if asked.model else asked.preset,
        "ray": importlib.metadata.version("ray"),
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "ray_over_one_process": spread(share),
        "note": "from an actor's first batch to the last one's end; opening the engines is left out on both sides",
    }
    command = "python benchmarks/ray_data.py"
    if asked.gpus:
        command += f" --preset {asked.preset} --model MODEL --gpus {asked.gpus} --cores {asked.cores}"
    save("ray_h200_x2" if asked.gpus else "ray_cpu", command, figures, asked.out)


if __name__ == "__main__":
    main()
