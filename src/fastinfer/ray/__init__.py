"""Ray Data: callable classes for ``Dataset.map_batches``, Arrow tables in and out, errors as rows.

Images from Parquet files, on as many GPUs as the cluster has, one engine each:

    import ray
    import fastinfer.ray

    images = ray.data.read_parquet("images/")  # or read_binary_files("photos/", include_paths=True)
    results = images.map_batches(
        fastinfer.ray.Classify,
        fn_constructor_kwargs={"preset": "prod", "labels": ["cat", "dog"], "column": "bytes"},
        batch_format="pyarrow",
        batch_size=256,
        num_gpus=1,
        num_cpus=8,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8),
    )
    results.write_parquet("results/")

An actor of ``num_gpus=1`` sees that GPU alone; ``min_size`` and ``max_size`` let the pool grow while batches wait. On
CPUs an actor computes with its ``num_cpus``. Several batches are in an actor's engine at once, so that it never runs
dry between two. ``pip install 'fastinfer[ray]'`` brings Ray; this package imports it nowhere.
"""

from __future__ import annotations

from fastinfer.ray.chat import Chat
from fastinfer.ray.classify import Classify

__all__ = ["Chat", "Classify"]
