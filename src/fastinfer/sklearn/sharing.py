"""One loaded model for an estimator and all its clones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastinfer.classify import Classifier, classifier
from fastinfer.preset_library import Preset

__all__ = ["SharedClassifiers"]

_Key = tuple[str, str | None]


@dataclass(slots=True)
class _Loaded:
    classifier: Classifier
    users: int = 0


class SharedClassifiers:
    """Classifiers by what decides them: each is loaded once, and one that nobody uses is kept for the next user.

    A cross-validation makes a clone for every fold, and a grid search fits one candidate after the other: the clones of
    a candidate find its model loaded, and it makes room when the next candidate needs another one. The last one is
    closed with :meth:`close`, or when the last estimator that shares it is gone. For several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[_Key, _Loaded] = {}

    @contextmanager
    def use(self, preset: Preset, model: str | os.PathLike[str] | None) -> Iterator[Classifier]:
        """The classifier of this preset and model, loaded if it is not; it stays open until the block ends.

        Raises:
            FastInferError: it cannot be loaded; see :func:`fastinfer.classifier`.
        """
        key = preset.fingerprint, None if model is None else os.fspath(model)
        with self._lock:
            if key not in self._loaded:
                self._close_idle()  # first, since both may not fit the memory
                self._loaded[key] = _Loaded(classifier(preset, model=model))
            loaded = self._loaded[key]
            loaded.users += 1
        try:
            yield loaded.classifier
        finally:
            with self._lock:
                loaded.users -= 1
                self._close_idle(but=key)

    def close(self) -> None:
        """Close all of them; what is in work fails with EngineDeadError. The next use loads again."""
        with self._lock:
            for loaded in self._loaded.values():
                loaded.classifier.close()
            self._loaded.clear()

    def _close_idle(self, but: _Key | None = None) -> None:
        for key in [key for key, loaded in self._loaded.items() if loaded.users == 0 and key != but]:
            self._loaded.pop(key).classifier.close()
