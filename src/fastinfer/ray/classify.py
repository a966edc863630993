"""Classification for Ray Data."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from fastinfer.errors import raise_if_fatal
from fastinfer.ray.columns import beside, values
from fastinfer.ray.resources import within_actor

if TYPE_CHECKING:
    import pyarrow

    from fastinfer.calibrating import Calibration
    from fastinfer.preset_library import Preset

__all__ = ["Classify"]


class Classify:
    """Classifies a column of images: for ``Dataset.map_batches(fastinfer.ray.Classify, batch_format="pyarrow")``.

    Each actor opens a classifier of its own and keeps it. The output has the batch's columns without the images, and
    after them ``label`` (string), ``confidence`` and ``label_mass`` (float64), ``probabilities`` (map from string to
    float64, best first), ``prediction_set`` (list of strings), ``abstained`` (bool), ``prompt_tokens`` (int32),
    ``error_type`` and ``error_message`` (string): an image that cannot be read is a row whose error is set.

    Args:
        preset: as for :func:`fastinfer.classifier`; the default needs an NVIDIA GPU, ``"embedded"`` none.
        column: the column of images: bytes of image files, paths, or tensors (H, W), (H, W, 3) or (H, W, 4) of uint8.
        labels, model, strict: as for :func:`fastinfer.classifier`.
        calibration: a :class:`fastinfer.Calibration`, or the path of one that was saved; fills ``prediction_set``.
        top: probabilities of so many of the likeliest labels only; None gives all.
        prefix: goes before the names of the new columns.
        keep_images: leave the images in the output.
        **changes: parameters of the preset to change. Presets for the CPU get ``n_threads`` from the actor's
            ``num_cpus``.

    Raises:
        FastInferError: as :func:`fastinfer.classifier`.
    """

    def __init__(
        self,
        preset: str | Preset = "prod",
        *,
        column: str = "image",
        labels: Sequence[str] | None = None,
        model: str | os.PathLike[str] | None = None,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        top: int | None = None,
        prefix: str = "",
        keep_images: bool = False,
        strict: bool = False,
        **changes: Any,
    ) -> None:
        from fastinfer.classify import classifier
        from fastinfer.preset_library import as_preset

        chosen = as_preset(preset, "classify")
        self._column, self._top, self._prefix, self._keep = column, top, prefix, keep_images
        self._classifier = classifier(
            chosen, labels=labels, model=model, strict=strict, **within_actor(chosen, changes)
        )
        if calibration is not None:
            self._classifier.calibration = _loaded(calibration)

    async def __call__(self, batch: pyarrow.Table) -> AsyncIterator[pyarrow.Table]:
        """The batch with what its images show; Ray runs several batches at once.

        Raises:
            FastInferError: there is no such column, or a new column's name is taken.
            EngineDeadError: the engine has died; likewise EngineOutOfMemoryError and EngineUnavailableError. Ray starts
                another actor where it may.
        """
        yield await self.aclassify(batch)

    def classify(self, batch: pyarrow.Table) -> pyarrow.Table:
        """:meth:`aclassify` outside an event loop."""
        return asyncio.run(self.aclassify(batch))

    async def aclassify(self, batch: pyarrow.Table) -> pyarrow.Table:
        """What ``map_batches`` gets for a batch."""
        from fastinfer.tables.arrow import classification_table
        from fastinfer.tables.rows import classification_row

        rows = []
        async for result in self._classifier.aclassify_many(values(batch, self._column), errors="return"):
            raise_if_fatal(result.error)
            rows.append(classification_row(result, timings=False, top=self._top))
        results = classification_table(rows, timings=False).drop_columns(["source"])
        return beside(batch, results, prefix=self._prefix, leave_out=None if self._keep else self._column)

    def close(self) -> None:
        """Close the classifier. Idempotent."""
        self._classifier.close()


def _loaded(calibration: Calibration | str | os.PathLike[str]) -> Calibration:
    from fastinfer.calibrating import Calibration

    return calibration if isinstance(calibration, Calibration) else Calibration.load(calibration)
