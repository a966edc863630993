"""The estimator."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from copy import copy, deepcopy
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from fastinfer.calibrating.temperature import fit_temperature, shares_at
from fastinfer.errors import FastInferError, LabelError
from fastinfer.images import describe_source
from fastinfer.preset_library import Preset, as_preset
from fastinfer.sklearn.classes import Labels, find_classes
from fastinfer.sklearn.inputs import as_images
from fastinfer.sklearn.sharing import SharedClassifiers

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastinfer.classify import Classification
    from fastinfer.images import ImageSource

    Images = Iterable[ImageSource]

__all__ = ["ImageClassifier"]

#: What scikit-learn's own clone() takes along beside the parameters.
_SETTINGS = ("_metadata_request", "_sklearn_output_config")


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A vision-language model as a scikit-learn classifier; nothing is trained, ``fit`` learns which classes there are.

    X is a list, an array or a column of images: paths, bytes, PIL images, numpy arrays; see
    :meth:`fastinfer.Classifier.classify`. It is not the two-dimensional array of numbers that scikit-learn's estimators
    take, which the estimator's tags say, so that ``check_estimator`` leaves out the checks that need one.

    The model is loaded when images are first predicted, and once: clones share it, as ``cross_val_score`` and
    ``GridSearchCV`` make one for every fold. It uses the whole machine by itself, so leave their ``n_jobs`` at 1. A
    pickled or copied estimator loads its own when it is first used. A context manager; :meth:`close` gives the memory
    back, and the next prediction loads the model again.

    Args:
        preset: a preset of kind "classify", or its name.
        labels: the classes, strings that the model is asked about; or a mapping from each class, of any type that has
            an order, to the words for it, such as ``{0: "cat", 1: "dog"}``. None takes the classes from ``y``. Tools
            that number the classes before they call ``fit``, such as ``VotingClassifier`` and ``cross_val_predict`` of
            probabilities, need the labels, in ascending order.
        model: as for :func:`fastinfer.classifier`.
        prompt: the question to the model; None leaves that of the preset.
        changes: parameters of the preset to change, as in ``preset.replace(**changes)``.
        calibrate: have ``fit`` classify its images and choose the temperature at which probabilities are as sure as
            they are right; see :meth:`fastinfer.Classifier.calibrate`.

    Attributes:
        classes_: array (n_classes,), ascending.
        temperature_: what the log-probabilities are divided by; 1 without ``calibrate``.

    Other errors are those of :func:`fastinfer.classifier` and :meth:`fastinfer.Classifier.classify`.
    """

    def __init__(
        self,
        preset: str | Preset = "embedded",
        *,
        labels: Labels | None = None,
        model: str | os.PathLike[str] | None = None,
        prompt: str | None = None,
        changes: Mapping[str, Any] | None = None,
        calibrate: bool = False,
    ) -> None:
        self.preset = preset
        self.labels = labels
        self.model = model
        self.prompt = prompt
        self.changes = changes
        self.calibrate = calibrate

    def fit(self, X: Images, y: Iterable[Any] | None = None) -> ImageClassifier:  # noqa: N803 - scikit-learn's name
        """Learn the classes, and with ``calibrate`` the temperature; without it, no image is looked at.

        Args:
            X: images.
            y: the class of each; may be left out where ``labels`` are given and nothing is calibrated.

        Raises:
            LabelError: there are no classes, ``y`` has one that ``labels`` lacks, their words cannot be scored, or
                there is not one for each image.
            FastInferError: with ``calibrate``, as :meth:`predict`.
        """
        found = find_classes(self.labels, y)
        images = as_images(X)
        if y is not None and len(images) != len(found.targets):
            raise LabelError(
                f"There are {len(images)} images and {len(found.targets)} classes in y.", hint="Give one for each."
            )
        if self.calibrate and not len(found.targets):
            raise LabelError("There are no labelled images to calibrate with.", hint="Give X and y to fit.")
        self.classes_, self._words, self.temperature_ = found.values, found.words, 1.0
        if self.calibrate:
            self.temperature_ = fit_temperature(_logarithms(self.predict_proba(images)), found.targets)
        return self

    def predict(self, X: Images) -> npt.NDArray[Any]:  # noqa: N803
        """The likeliest class of each image: array (n_samples,) of what ``y`` or ``labels`` hold.

        Raises:
            FastInferError: an image was not classified; says which, with its index in X, and is of the class that
                :meth:`fastinfer.Classifier.classify` raises.
        """
        best = self.predict_proba(X).argmax(axis=1)
        chosen: npt.NDArray[Any] = self.classes_[best]
        return chosen

    def predict_proba(self, X: Images) -> npt.NDArray[np.float64]:  # noqa: N803
        """Probabilities: array (n_samples, n_classes) of float64, columns in the order of ``classes_``, rows sum to 1.

        Raises:
            FastInferError: as :meth:`predict`.
        """
        check_is_fitted(self, "classes_")
        images = as_images(X)
        shares = np.empty((len(images), len(self._words)))
        for row, result in enumerate(self._classified(images)):
            shares[row] = [result.probabilities[word] for word in self._words]
        return shares if self.temperature_ == 1 else shares_at(_logarithms(shares), self.temperature_)

    def close(self) -> None:
        """Give the memory back, for the clones that share the model too. The next prediction loads it again."""
        self._shared().close()

    def __enter__(self) -> ImageClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __sklearn_clone__(self) -> ImageClassifier:
        parameters = {name: clone(value, safe=False) for name, value in self.get_params(deep=False).items()}
        made = type(self)(**parameters)
        for name in _SETTINGS:
            if hasattr(self, name):
                setattr(made, name, deepcopy(getattr(self, name)))
        made.__dict__["_classifiers"] = self._shared()
        return made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.three_d_array = tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # A loaded model is not copied, and does not go to another process.
        return {name: value for name, value in super().__getstate__().items() if name != "_classifiers"}

    def _shared(self) -> SharedClassifiers:
        # Made late, as scikit-learn wants nothing but the parameters to be set by the constructor.
        shared: SharedClassifiers = self.__dict__.setdefault("_classifiers", SharedClassifiers())
        return shared

    def _chosen_preset(self) -> Preset:
        chosen = as_preset(self.preset, "classify")
        changes = dict(self.changes or {})
        if self.prompt is not None:
            changes["prompt"] = self.prompt
        return chosen.replace(**changes)

    def _classified(self, images: list[ImageSource]) -> Iterator[Classification]:
        if not images:
            return
        with self._shared().use(self._chosen_preset(), self.model) as classifier:
            results = classifier.classify_many(images, labels=self._words)
            for index, image in enumerate(images):
                try:
                    result = next(results)
                except FastInferError as error:
                    named = copy(error)
                    named.message = f"Image {index} of X, {describe_source(image)}: {error.message}"
                    named.args = (named.message,)
                    raise named from error
                yield result


def _logarithms(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore"):  # a probability may be too small for a float
        logs: npt.NDArray[np.float64] = np.log(shares)
    return logs
