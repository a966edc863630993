"""fastinfer, through its public functions, in a process of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from .variants import stream
from .watch import Watch, extent, memory
from .work import Done, How, Work

_DECODING_THREADS = 16


def open_ours(options: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any], Callable[[], None]]:
    """Open ``fastinfer.classifier``.

    Args:
        options: ``preset``; ``model`` or None for the preset's own; ``labels``; ``changes`` to the preset.
    """
    if options["preset"] == "embedded":
        # Before numpy: a build with a C++ library of its own crashes loading a model otherwise.
        import llama_cpp  # noqa: F401

    import fastinfer

    begun = time.perf_counter()
    classifier = fastinfer.classifier(
        options["preset"], model=options["model"], labels=options["labels"], **options["changes"]
    )
    provenance = classifier.provenance
    info = {
        "preset": options["preset"],
        "changes": options["changes"],
        "engine": provenance.engine,
        "device": provenance.device,
        "kernel_path": provenance.kernel_path,
        "adjustments": [asdict(adjustment) for adjustment in provenance.adjustments],
        "start_seconds": round(time.perf_counter() - begun, 1),
    }

    def handle(work: Work) -> Done:
        if work.total is None:
            return ways[work.how](work)
        with Watch(memory) as watch:
            done = ways[work.how](work)
        done.memory = extent(watch.samples)
        return done

    def one_by_one(work: Work) -> Done:
        each = []
        for image in work.images:
            started = time.perf_counter()
            classifier.classify(image, labels=work.labels)
            each.append((time.perf_counter() - started) * 1e3)
        return Done(sum(each) / 1e3, len(each), each)

    def engine_alone(work: Work) -> Done:
        # No public function takes prepared images.
        task, decoder, engine = classifier._task(classifier._labels), classifier._decoder, classifier._engine
        with ThreadPoolExecutor(_DECODING_THREADS) as pool:
            prepared = list(pool.map(decoder.load, work.images))
        started = time.perf_counter()
        answers = [future.result() for future in [engine.submit(image, task) for image in prepared]]
        seconds = time.perf_counter() - started
        return Done(seconds, len(answers), prompt_tokens=statistics.median(one.prompt_tokens for one in answers))

    def together(work: Work) -> Done:
        images: Iterable[bytes] = work.images if work.total is None else stream(work.images, work.total, work.first)
        done = Done(0.0, 0)
        tokens = []
        names = work.labels or options["labels"]
        started = time.perf_counter()
        for result in classifier.classify_many(images, labels=work.labels, errors="return"):
            if result.error is not None:
                done.errors.append(str(result.error))
                continue
            done.images += 1
            if work.keep:
                done.labels.append(str(result.label))
                done.probabilities.append([result.probabilities[name] for name in names])
                done.label_mass.append(result.label_mass)
            if work.total is None:
                tokens.append(result.prompt_tokens)
        done.seconds = time.perf_counter() - started
        done.prompt_tokens = statistics.median(tokens) if tokens else 0.0
        return done

    ways: dict[How, Callable[[Work], Done]] = {
        "together": together,
        "one by one": one_by_one,
        "prepared": engine_alone,
    }
    return info, handle, classifier.close
