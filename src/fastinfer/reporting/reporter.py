"""From results and their truth to a report."""

from __future__ import annotations

from fastinfer.errors import FastInferError, LabelError
from fastinfer.reporting.answers import Results, answers
from fastinfer.reporting.figures import figures
from fastinfer.reporting.names import shown
from fastinfer.reporting.pictures import GivenImages, folder_of, read_pictures
from fastinfer.reporting.results import ClassificationReport
from fastinfer.reporting.sheet import source_path
from fastinfer.reporting.tally import Tally
from fastinfer.reporting.truth import GivenTruth, read_truth

__all__ = ["report"]


def report(
    results: Results,
    truth: GivenTruth = None,
    *,
    images: GivenImages = None,
    title: str | None = None,
    confidence: float = 0.95,
) -> ClassificationReport:
    """Say how good a classifier's answers are: accuracy, confusions, calibration, and the images to look at.

    Results are gone through once and one at a time, so that memory does not grow with them. Without a truth the
    report counts labels and confidences, and shows what the model was least certain of.

    Args:
        results: what :meth:`fastinfer.Classifier.classify_many` gives, :class:`fastinfer.Results`, what
            :func:`fastinfer.run` gives, or the path of a results file (``.parquet``, ``.jsonl``, ``.csv``).
        truth: the right labels: a list in the order of the results, None for one that is not known; a dict by name,
            which is a result's path or source; a ``.csv``, ``.jsonl`` or ``.parquet`` file with columns ``path`` and
            ``label``, where paths that end alike fit too; or ``"folders"``: of a path in the results the first
            folder, as :func:`fastinfer.compare` has it, else the folder that the image lies in. Labels that differ in
            Unicode's normal form or in white space alone are equal.
        images: for the contact sheet: the folder that the results' paths are in, or a list in their order, or a dict
            by name, of what :meth:`fastinfer.Classifier.classify` takes. None shows names alone.
        title: what stands above the report.
        confidence: of all intervals, strictly between 0 and 1.

    Raises:
        LabelError: the truth does not fit the results: in number, in its names, or in its labels.
        ImageDecodeError: there is no such folder of images, or they are not as many as the results.
        FastInferError: there are no results, or a file cannot be read.
    """
    if not 0 < confidence < 1:
        raise FastInferError(
            f"confidence is {confidence!r}, not between 0 and 1.", hint="Give 0.95 for intervals that hold in 95%."
        )
    pictures, known = read_pictures(images), read_truth(truth, folder_of(images))
    tally = Tally(judging=known is not None)
    for answer in answers(results):
        image = pictures.of(answer.name)
        tally.add(answer, None if known is None else known.of(answer.name, source_path(image)), image)
    pictures.end()
    remarks = iter(()) if known is None else known.end()
    if not tally.total:
        raise FastInferError("There are no results to report on.", hint="Classify some images first.")
    if known is not None and tally.classified and not tally.judged:
        raise LabelError(
            "None of the results has a truth.", hint="Name the results in truth as they are named in the results."
        )
    return figures(tally, title=shown(title or "Classification report"), confidence=confidence, remarks=remarks)
