"""Classification in scikit-learn's shape: an estimator for ``cross_val_score``, ``GridSearchCV`` and ``Pipeline``.

    from fastinfer.sklearn import ImageClassifier

    clf = ImageClassifier(labels=["cat", "dog"]).fit(images)
    clf.predict(images); clf.predict_proba(images)

Importing this package needs scikit-learn. ``estimator`` is what users hold, ``classes`` finds the classes and their
words, ``inputs`` reads X, ``sharing`` keeps one loaded model for an estimator and all its clones.
"""

from __future__ import annotations

from fastinfer.optional import require

require("sklearn.base", extra="sklearn", what="fastinfer.sklearn")

from fastinfer.sklearn.estimator import ImageClassifier  # noqa: E402 - needs what was just asked for

__all__ = ["ImageClassifier"]
